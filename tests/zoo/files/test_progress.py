from __future__ import annotations

import contextlib
import io
import sys

import pytest

from zoo.files.progress import Progress, say
from zoo.files.words import readable_size


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(arrived: list[tuple[float, int]], total: int | None, done: int = 0) -> list[str]:
    """Returns the lines of a download of which `arrived` says after how many seconds how much is there."""
    clock, stream = Clock(), io.StringIO()
    shown = Progress("a.gz", total, done=done, amount=readable_size, clock=clock)
    with contextlib.redirect_stderr(stream), shown as progress:
        for seconds, size_bytes in arrived:
            clock.now += seconds
            progress.at(size_bytes)
    return stream.getvalue().splitlines()


def test_lines_now_and_then_where_there_is_no_terminal() -> None:
    assert lines([(1, second * 1_000_000) for second in range(1, 41)], 40_000_000) == [
        "zoo: a.gz: 1.0 MB of 40.0 MB",
        "zoo: a.gz: 16.0 MB of 40.0 MB, 1.0 MB/s, 24 s left",
        "zoo: a.gz: 31.0 MB of 40.0 MB, 1.0 MB/s, 9 s left",
        "zoo: a.gz: 40.0 MB of 40.0 MB, 1.0 MB/s",
    ]


def test_what_came_before_and_first_is_not_speed() -> None:
    # A network is compiled for its first image, in 25 seconds.
    arrived = [(25, 601), (1, 602), (1, 603), (15, 618)]
    assert lines(arrived, 1000, done=600) == [
        "zoo: a.gz: 601 B of 1.0 kB",
        "zoo: a.gz: 618 B of 1.0 kB, 1 B/s, 382 s left",
    ]


def test_no_rate_is_said_of_two_or_of_a_moment() -> None:
    for arrived in ([(1, 700), (20, 750)], [(1, 700), (0.5, 750), (0.5, 800), (0.5, 850)]):
        assert not any("/s" in line for line in lines(arrived, 1000))


def test_what_takes_longer_than_the_rate_looks_back_has_one() -> None:
    assert lines([(40, count) for count in (1, 2, 3, 4)], 5)[-1] == "zoo: a.gz: 4 B of 5 B, 0 B/s, 40 s left"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    slow_then_fast = [(1.0, count) for count in range(1, 41)] + [(1.0, 40 + 50 * n) for n in range(1, 41)]
    assert lines(slow_then_fast, None)[-1] == "zoo: a.gz: 2.0 kB, 50 B/s"


def test_lines_are_few() -> None:
    assert len(lines([(0.001, count) for count in range(1, 1000)], None)) == 2


def test_unknown_lengths_are_not_guessed() -> None:
    arrived = [(1, 1500), (1, 3000), (1, 4500)]
    assert lines(arrived, None) == ["zoo: a.gz: 1.5 kB", "zoo: a.gz: 4.5 kB, 1.5 kB/s"]


def test_nothing_is_said_of_what_never_started() -> None:
    assert lines([], 1000) == []


def test_an_interruption_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with Progress("images", 30, clock=Clock()) as progress:
            progress.at(1)
            progress.at(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert capsys.readouterr().err == "zoo: images: 1 of 30\n"


def test_images_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress("images", 5000, done=1996, note=lambda: "PQ 1.0 so far", clock=clock) as progress:
        for _ in range(4):
            clock.now += 0.8
            progress.advance()
    first, last = "1,997 of 5,000", "2,000 of 5,000, 1.25/s, 2400 s left"
    expected = "".join(f"zoo: images: {words}, PQ 1.0 so far\n" for words in (first, last))
    assert capsys.readouterr() == ("", expected)


def test_nothing_is_shown_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("images", 2, show=False) as progress:
        progress.advance()
        progress.advance()
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("[a].gz", 40_000_000, amount=readable_size, clock=clock) as progress:
        for size_bytes in (10_000_000, 20_000_000, 40_000_000):
            clock.now += 1
            progress.at(size_bytes)
    assert "[a].gz" in stream.getvalue()
    assert "40.0 MB of 40.0 MB, 15.0 MB/s" in stream.getvalue()


def test_a_message_is_one_line_that_no_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    say("runs/a\n\x1b[2J\x9b1m\u202egnp.exe\x7f")
    assert capsys.readouterr().err == "zoo: runs/a \\u001b[2J\\u009b1m\\u202egnp.exe\\u007f\n"
