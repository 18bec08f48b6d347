"""How far something is, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_LINE_EVERY_S = 15.0
_LOOK_EVERY_S = 0.1


def say(message: str) -> None:
    """Prints a line for a person, on standard error: standard output is for data."""
    # The name of a file may hold the end of a line.
    print(f"zoo: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)


class Progress:
    """Shows how much is done, the rate of the last seconds, and the time left at this rate.

    `title` is what is counted: "images", or a file's name. What was `done` before does not count as speed.
    `amount` puts a number in words, and `note` returns what to add to a line.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._done = done
        self._amount = amount
        self._note = note
        self._clock = clock
        self._shown_at = self._line_at = float("-inf")
        self._line = ""
        self._prints = show and not sys.stderr.isatty()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
            disable=not show or self._prints,
            get_time=clock,
        )
        self._task = self._bar.add_task(title, total=total, completed=done, words="")

    def __enter__(self) -> Progress:
        self._bar.start()
        # The time from which the rate is measured.
        self._bar.advance(self._task, 0)
        return self

    def __exit__(self, *error: object) -> None:
        if self._line and error[0] is None:
            self._show(last=True)
        self._bar.stop()

    def at(self, done: int) -> None:
        """Takes in how much is done now."""
        self._done = done
        if self._clock() - self._shown_at >= _LOOK_EVERY_S:
            self._show()

    def advance(self) -> None:
        """Counts one more."""
        self.at(self._done + 1)

    def _show(self, *, last: bool = False) -> None:
        now = self._shown_at = self._clock()
        self._bar.update(self._task, completed=self._done)
        if self._bar.disable and not (self._prints and (last or now - self._line_at >= _LINE_EVERY_S)):
            return
        before, self._line = self._line, self._words()
        self._bar.update(self._task, words=self._line)
        if self._prints and self._line != before:
            self._line_at = now
            say(f"{self._bar.tasks[0].description}: {self._line}")

    def _words(self) -> str:
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
