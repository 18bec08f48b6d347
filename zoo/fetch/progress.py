"""How far a download is: measured, and shown on standard error."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TextIO

WINDOW_S = 5.0
"""The rate is that of the last so many seconds."""


@dataclass(frozen=True)
class Progress:
    """The state of one download.

    Attributes:
      name: the file's name.
      done_bytes: bytes on disk, those of an earlier attempt included.
      total_bytes: length of the whole file, if known.
      bytes_per_s: the rate of the last seconds, if known yet.
      seconds_left: the time left at this rate, if known.
      ended: True in the last report of a download, whether it succeeded or not.
    """

    name: str
    done_bytes: int
    total_bytes: int | None
    bytes_per_s: float | None
    seconds_left: float | None
    ended: bool = False


ProgressCallback = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Shows nothing."""


class Meter:
    """Measures the download of the file `name`, and calls `report` at most once in `every_s` seconds."""

    def __init__(
        self,
        name: str,
        report: ProgressCallback,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = 0.1,
    ) -> None:
        self._report = report
        self._clock = clock
        self._every_s = every_s
        self._samples: deque[tuple[float, int]] = deque()
        self._reported_at: float | None = None
        self._last = Progress(name, 0, None, None, None)

    def start(self, done_bytes: int, total_bytes: int | None) -> None:
        """Begins an attempt; what is there already does not count as speed."""
        self._samples = deque([(self._clock(), done_bytes)])
        self._send(Progress(self._last.name, done_bytes, total_bytes, None, None))

    def at(self, done_bytes: int) -> None:
        """Takes in how many bytes are there now."""
        now = self._clock()
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        if self._reported_at is None or now - self._reported_at >= self._every_s:
            self._send(self._measured(now))

    def end(self) -> None:
        """Reports for the last time, if anything was reported."""
        if self._reported_at is not None:
            self._send(replace(self._measured(self._clock()), ended=True))

    def _measured(self, now: float) -> Progress:
        (first_s, first_bytes), (_, done_bytes) = self._samples[0], self._samples[-1]
        rate = (done_bytes - first_bytes) / (now - first_s) if now > first_s else None
        total = self._last.total_bytes
        left = (total - done_bytes) / rate if rate and total is not None else None
        return Progress(self._last.name, done_bytes, total, rate, left)

    def _send(self, progress: Progress) -> None:
        self._last = progress
        self._reported_at = self._clock()
        self._report(progress)


class StderrProgress:
    """Shows downloads on standard error: a bar on a terminal, otherwise a line now and then."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = 15.0,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._every_s = every_s
        self._bar: Any = None
        self._task: Any = None
        self._line_at: float | None = None

    def __call__(self, progress: Progress) -> None:
        """Shows one report."""
        stream = self._stream or sys.stderr
        if stream.isatty():
            self._show_bar(progress, stream)
            return
        now = self._clock()
        if progress.ended or self._line_at is None or now - self._line_at >= self._every_s:
            self._line_at = None if progress.ended else now
            print(describe(progress), file=stream, flush=True)

    def _show_bar(self, progress: Progress, stream: TextIO) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        if self._bar is None:
            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(),
                rich_progress.DownloadColumn(),
                rich_progress.TransferSpeedColumn(),
                rich_progress.TimeRemainingColumn(),
                console=Console(file=stream),
            )
            self._task = self._bar.add_task(progress.name, total=progress.total_bytes)
            self._bar.start()
        self._bar.update(self._task, completed=progress.done_bytes, total=progress.total_bytes)
        if progress.ended:
            self._bar.stop()
            self._bar = None


def describe(progress: Progress) -> str:
    """Returns one report in words, e.g. `model.tar.gz: 12.0 MB of 96.0 MB, 3.1 MB/s, 27 s left`."""
    from zoo.files.words import readable_size

    words = f"{progress.name}: {readable_size(progress.done_bytes)}"
    if progress.total_bytes is not None:
        words += f" of {readable_size(progress.total_bytes)}"
    if progress.bytes_per_s is not None:
        words += f", {readable_size(round(progress.bytes_per_s))}/s"
    if progress.seconds_left is not None and not progress.ended:
        words += f", {progress.seconds_left:.0f} s left"
    return words
