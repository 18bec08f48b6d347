"""How long the parts of a run take."""

from __future__ import annotations

import time

from zoo.files.words import utc_now


class Clock:
    """Measures the parts of a run."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.started = utc_now()
        self.laps: dict[str, float] = {}  # seconds of each part that has ended

    def lap(self, name: str) -> None:
        """Ends a part: what was done since the last one ended."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now

    def total(self) -> float:
        """Returns the seconds since the clock was made."""
        return time.perf_counter() - self._start
