"""The progress line of a run: images, images per second, time left, and the metrics so far."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from zoo.repro.run.scores import InternalScores

# Seconds between lines where stderr is no terminal.
_LINE_EVERY_S = 15.0


class Progress:
    """A bar on a terminal, a line now and then in a log; always on stderr."""

    def __init__(self, total: int, done: int, scores: InternalScores) -> None:
        self._total = total
        self._before = self._done = done
        self._scores = scores
        self._start = self._last_line = time.perf_counter()
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("images"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("images", total=total, completed=done, note="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """Counts one more image."""
        self._done += 1
        now = time.perf_counter()
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=self._note(rate))
        elif self._done == self._total or now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            print(f"zoo: {self._done}/{self._total} images, {self._note(rate)}", file=sys.stderr, flush=True)

    def _note(self, rate: float) -> str:
        pq, miou = self._scores.so_far()
        return f"{rate:.2f} images/s, PQ {pq:.1f}, mIoU {miou:.1f} so far"
