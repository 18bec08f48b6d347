"""Locks between processes."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from zoo.errors import InUseError, ZooError
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


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Makes a temporary folder and removes it at the end; the next call removes those of killed processes.

    A lock beside each folder, which ends with its process, tells the folders in use from those left behind.

    Raises:
      ZooError: it cannot be made.
    """
    parent, own = Path(tempfile.gettempdir()), getattr(os, "getuid", int)()
    for left in parent.glob(f"{prefix}*.lock"):
        # What is another user's, or in use, stays; a lock of this user is no link to somewhere else.
        with suppress(ZooError, OSError):
            if left.lstat().st_uid == own:
                with holding(left, ""):
                    _remove_scratch(left)
    lock = parent / f"{prefix}{uuid4().hex}.lock"
    with holding(lock, "", wait=True, remedy="set TMPDIR to a folder that can be written"):
        folder = lock.with_suffix("")
        with writing(folder, "set TMPDIR to a folder that can be written"):
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove_scratch(lock)


def _remove_scratch(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    with suppress(OSError):
        lock.unlink()
