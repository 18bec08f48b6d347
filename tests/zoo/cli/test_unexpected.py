"""What nobody expected ends in one line and exit code 3, as 1 and 2 have meanings of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import typer


def no_registry(error: BaseException) -> Callable[..., Any]:
    def load(*_: Any) -> Any:
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("pq"), "unexpected KeyError in cli/test_unexpected.py, line "),
        (RuntimeError("two\nlines"), "two lines; this is a defect"),
        (RecursionError("too deep"), "ZOO_TRACEBACK=1 zoo list 'a b'"),
        (SystemExit(1), "unexpected SystemExit"),
        (SystemExit("a library gave up"), "a library gave up"),
        (MemoryError(), "not enough memory"),
        (AssertionError(), "unexpected AssertionError"),
    ],
)
def test_an_unexpected_error_is_one_line_and_never_a_missed_claim(
    zoo_call: Any, one_line: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    monkeypatch.delenv("ZOO_TRACEBACK", raising=False)
    monkeypatch.setattr("zoo.registry.load_registry", no_registry(error))
    assert said in one_line(zoo_call("list", "a b"), 3)


def test_the_traceback_is_shown_where_it_is_asked_for(zoo_call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    monkeypatch.setattr("zoo.registry.load_registry", no_registry(KeyError("pq")))
    done = zoo_call("list")
    assert done.returncode == 3
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("zoo: error: unexpected KeyError")


def test_a_question_that_was_left_unanswered_is_an_interrupt(
    zoo_call: Any, one_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.registry.load_registry", no_registry(typer.Abort()))
    assert one_line(zoo_call("list"), 130) == "interrupted"
