"""How far something is, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import TracebackType

_LINE_EVERY_S = 15.0
_LOOK_EVERY_S = 0.1


class Progress:
    """Shows how much is done, the rate of the last seconds, and the time left at this rate.

    Args:
      title: what is counted: "images", or a file's name.
      total: how much there is, if known.
      done: how much was done before; it does not count as speed.
      amount: puts a number in words.
      note: returns what to add, when asked.
      show: whether to show anything.
      stream: None for standard error.
      clock: seconds that only grow.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        done: int = 0,
        amount: Callable[[float], str] = lambda number: f"{number:,.2f}".removesuffix(".00"),
        note: Callable[[], str] = str,
        show: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._done = done
        self._amount = amount
        self._note = note
        self._stream = stream or sys.stderr
        self._clock = clock
        self._shown_at = self._line_at = float("-inf")
        self._line = ""
        self._bar = None
        if show:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[words]}", markup=False),
                console=Console(file=self._stream),
                disable=not self._stream.isatty(),
                get_time=clock,
            )
            self._bar.add_task(title, total=total, completed=done, words="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._bar.advance(self._bar.task_ids[0], 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if error is None and self._line:
                self._show(last=True)
            self._bar.stop()

    def at(self, done: int) -> None:
        """Takes in how much is done now."""
        self._done = done
        if self._bar is not None and self._clock() - self._shown_at >= _LOOK_EVERY_S:
            self._show()

    def advance(self) -> None:
        """Counts one more."""
        self.at(self._done + 1)

    def _show(self, *, last: bool = False) -> None:
        assert self._bar is not None
        self._shown_at = self._clock()
        self._bar.update(self._bar.task_ids[0], completed=self._done)
        is_due = last or self._shown_at - self._line_at >= _LINE_EVERY_S
        if self._bar.disable and not is_due:
            return
        words = self._words()
        self._bar.update(self._bar.task_ids[0], words=words)
        if self._bar.disable and words != self._line:
            self._line_at = self._shown_at
            print(f"zoo: {self._bar.tasks[0].description}: {words}", file=self._stream, flush=True)
        self._line = words

    def _words(self) -> str:
        assert self._bar is not None
        (task,) = self._bar.tasks
        words = self._amount(self._done)
        if task.total is not None:
            words += f" of {self._amount(task.total)}"
        if task.speed:
            words += f", {self._amount(task.speed)}/s"
        if task.time_remaining:
            words += f", {task.time_remaining:.0f} s left"
        note = self._note()
        return f"{words}, {note}" if note else words
