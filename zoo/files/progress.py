"""How far something is, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable

from zoo.files.words import visible

_LINE_EVERY_S = 15.0
_LOOK_EVERY_S = 0.1
_RATE_OVER_S = 30.0
# A rate is of so many looks at least, over so long: fewer say little.
_FEWEST_LOOKS = 3
_SHORTEST_RATE_S = 2.0


def say(message: str) -> None:
    """Prints a line for a person, on standard error: standard output is for data."""
    # The name of a file may hold the end of a line.
    print(f"zoo: {visible(' '.join(message.splitlines()))}", file=sys.stderr, flush=True)


class Progress:
    """Shows how much is done, the rate of the last seconds, and the time left at this rate.

    `title` is what is counted: "images", or a file's name. What was `done` before does not count as speed,
    nor does what comes first: a network is compiled for its first image. There is no rate until a few came.
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
        # When a look was taken, and how much was done.
        self._looks: deque[tuple[float, float]] = deque()
        self._prints = show and not sys.stderr.isatty()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
            disable=not show or self._prints,
        )
        self._task = self._bar.add_task(visible(title), total=total, completed=done, words="")

    def __enter__(self) -> Progress:
        self._bar.start()
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
        if not self._looks or self._looks[-1][1] != self._done:
            self._looks.append((now, self._done))
        while len(self._looks) > _FEWEST_LOOKS and now - self._looks[0][0] > _RATE_OVER_S:
            self._looks.popleft()
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
        speed = self._speed()
        if speed:
            words += f", {self._amount(speed)}/s"
        if speed and task.total is not None and self._done < task.total:
            words += f", {math.ceil((task.total - self._done) / speed)} s left"
        note = self._note()
        return f"{words}, {note}" if note else words

    def _speed(self) -> float | None:
        """Returns the rate between the first and the last look, None where these are too few or too near."""
        (start, before), (end, done) = self._looks[0], self._looks[-1]
        if len(self._looks) < _FEWEST_LOOKS or end - start < _SHORTEST_RATE_S or done <= before:
            return None
        return (done - before) / (end - start)
