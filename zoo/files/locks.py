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
    """Holds a lock between processes.

    Args:
      path: the lock's file; its folder is made.
      taken: what to say where another process has it: "runs/a: another process is running there".
      wait: whether to log that and wait, or to raise it.
      remedy: what to do where the file cannot be written, for the message.

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
            log.warning("%s, waiting", taken)
            lock.acquire(poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()
