"""Locks between processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import InUseError
from zoo.files.atomic import GIVE_OUT, writing

log = logging.getLogger("zoo")


@contextmanager
def holding(path: Path, taken: str, *, wait: bool = False, remedy: str = GIVE_OUT) -> Iterator[None]:
    """Holds the lock between processes whose file is `path`; its folder is made.

    Where another process has it, `taken` ("runs/a: another process is running there") is raised or, with
    `wait`, logged before waiting; nothing is logged where it is empty. `remedy` says what to do
    where the file cannot be written.

    Raises:
      InUseError: another process has it, and `wait` is False.
      ZooError: the lock's file cannot be written.
    """
    from filelock import FileLock, Timeout

    with writing(path.parent, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise InUseError(f"{taken}; wait for it, or give another --out") from None
            if taken:
                log.warning("%s, waiting", taken)
            lock.acquire(poll_interval=0.02)
    try:
        yield
    finally:
        lock.release()
