from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from zoo.fetch.progress import Meter, Progress, StderrProgress, describe


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def reports(clock: Clock, arrived: Iterator[tuple[float, int]], start: int = 0) -> list[Progress]:
    seen: list[Progress] = []
    meter = Meter("model.tar.gz", seen.append, clock)
    meter.start(start, 1000)
    for seconds, count in arrived:
        clock.now += seconds
        meter.at(count)
    meter.end()
    return seen


def test_rate_and_time_left() -> None:
    seen = reports(Clock(), iter([(1.0, 100), (1.0, 200)]))
    assert [progress.done_bytes for progress in seen] == [0, 100, 200, 200]
    assert (seen[0].bytes_per_s, seen[0].seconds_left) == (None, None)
    assert (seen[2].bytes_per_s, seen[2].seconds_left) == (100, 8)
    assert [progress.ended for progress in seen] == [False, False, False, True]


def test_what_was_there_before_is_not_speed() -> None:
    seen = reports(Clock(), iter([(1.0, 700)]), start=600)
    assert (seen[1].bytes_per_s, seen[1].seconds_left) == (100, 3)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    slow_then_fast = [(1.0, count) for count in range(1, 21)] + [(1.0, 20 + 50 * n) for n in range(1, 8)]
    seen = reports(Clock(), iter(slow_then_fast))
    assert seen[-1].bytes_per_s == pytest.approx(50)


def test_reports_are_few() -> None:
    seen = reports(Clock(), iter([(0.001, count) for count in range(1, 1000)]))
    assert len(seen) < 15
    assert seen[-1].done_bytes == 999


def test_nothing_is_reported_of_what_never_started() -> None:
    seen: list[Progress] = []
    Meter("model.tar.gz", seen.append).end()
    assert seen == []


def test_lines_now_and_then_where_there_is_no_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    show = StderrProgress(stream, clock, every_s=15)
    for second in range(40):
        clock.now += 1
        show(Progress("model.tar.gz", second * 1_000_000, 40_000_000, 1e6, 40.0 - second))
    show(Progress("model.tar.gz", 40_000_000, 40_000_000, 1e6, 0, ended=True))
    lines = stream.getvalue().splitlines()
    assert lines == [
        "model.tar.gz: 0 B of 40.0 MB, 1.0 MB/s, 40 s left",
        "model.tar.gz: 15.0 MB of 40.0 MB, 1.0 MB/s, 25 s left",
        "model.tar.gz: 30.0 MB of 40.0 MB, 1.0 MB/s, 10 s left",
        "model.tar.gz: 40.0 MB of 40.0 MB, 1.0 MB/s",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    show = StderrProgress(stream)
    show(Progress("model.tar.gz", 0, 40_000_000, None, None))
    show(Progress("model.tar.gz", 10_000_000, 40_000_000, 1e6, 30))
    show(Progress("model.tar.gz", 40_000_000, 40_000_000, 1e6, 0, ended=True))
    assert "model.tar.gz" in stream.getvalue()
    assert "40.0/40.0 MB" in stream.getvalue()


def test_unknown_lengths_are_not_guessed() -> None:
    assert describe(Progress("model.tar.gz", 1500, None, None, None)) == "model.tar.gz: 1.5 kB"
