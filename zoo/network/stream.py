"""Reads, computes and finishes a stream of images at the same time, with few of them in memory."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Batches read ahead of the network, and batches waiting behind it.
_AHEAD = 2
_BEHIND = 2


def stream(
    items: Iterable[Item],
    compute: Callable[[list[Item]], Sequence[Any]],
    finish: Callable[[Item, Any], Result],
    *,
    batch: int = 1,
) -> Generator[Result, None, None]:
    """Yields the result of each item, in order, while the next ones are read and the last ones finished.

    Items are taken from their iterator in one thread ahead of the network, and finished in another behind it,
    so that the caller's thread does nothing but `compute`. What any of the three raises is raised here, after
    the results of the items before. Close the generator to stop early: it waits for what is under way.

    Args:
      items: may be a generator that reads files; it is used in another thread than the caller's.
      compute: takes at most `batch` items, and returns something for each.
      finish: takes an item and what was computed for it; uses all cores if it likes, as one runs at a time.
      batch: how many items are computed at once.
    """
    iterator, end = iter(items), object()
    reading: deque[Future[Any]] = deque()
    finishing: deque[Future[Result]] = deque()
    reader = ThreadPoolExecutor(1, thread_name_prefix="read")
    finisher = ThreadPoolExecutor(1, thread_name_prefix="finish")

    def read_ahead() -> None:
        while len(reading) < batch * _AHEAD:
            reading.append(reader.submit(next, iterator, end))

    def take() -> list[Item]:
        taken: list[Item] = []
        while len(taken) < batch and (item := reading.popleft().result()) is not end:
            taken.append(item)
        return taken

    def compute_next() -> bool:
        taken = take()
        # Keep the reader busy while the network runs.
        read_ahead()
        for item, computed in zip(taken, compute(taken) if taken else (), strict=True):
            finishing.append(finisher.submit(finish, item, computed))
        return bool(taken)

    try:
        read_ahead()
        failure, goes_on = None, True
        while goes_on or finishing:
            if goes_on:
                try:
                    goes_on = compute_next()
                except Exception as error:
                    failure, goes_on = error, False
            while len(finishing) > (batch * _BEHIND if goes_on else 0):
                yield finishing.popleft().result()
        if failure is not None:
            raise failure
    finally:
        for executor in (reader, finisher):
            executor.shutdown(wait=True, cancel_futures=True)


class StageTimes:
    """Seconds spent in each stage of a stream, summed over items; stages overlap in time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._taken: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, stage: str, first: str | None = None) -> Iterator[None]:
        """Adds the time that the block takes to a stage; may be called from several threads.

        Where `first` is given, the time that the first of its blocks takes is kept by that name too.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                taken = time.perf_counter() - start
                if first is not None:
                    self._seconds.setdefault(first, taken)
                self._seconds[stage] = self._seconds.get(stage, 0.0) + taken

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds what others have measured."""
        with self._lock:
            for stage, taken in seconds.items():
                self._seconds[stage] = self._seconds.get(stage, 0.0) + taken

    def take(self) -> dict[str, float]:
        """Returns the seconds of each stage since the last call, for `add` of others."""
        with self._lock:
            new = {stage: taken - self._taken.get(stage, 0.0) for stage, taken in self._seconds.items()}
            self._taken = dict(self._seconds)
            return new

    def to_json(self) -> dict[str, float]:
        """Returns the seconds of each stage so far."""
        with self._lock:
            return dict(self._seconds)
