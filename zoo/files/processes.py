"""Processes that lead a group: how they end; the memory and the cores that processes have."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

_LOOK_EVERY_S = 0.1

_THREAD_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)

_most_cores = sys.maxsize


def end_with_parent(parent: int) -> None:
    """Kills this process and its group once the process `parent`, which started it, has ended.

    Does nothing where this process does not lead a group.
    """
    if not hasattr(os, "killpg") or os.getpgrp() != os.getpid():
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
        os.killpg(os.getpid(), _KILL)

    threading.Thread(target=watch, daemon=True).start()


def signal_group(process: subprocess.Popen[bytes], number: int = _KILL) -> None:
    """Sends a signal to a process and its group; by default one that kills them."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def available_cores() -> int:
    """Returns the number of cores that this process may use: the system's, or fewer after `use_cores`."""
    return min(_most_cores, cores_of_machine())


def cores_of_machine() -> int:
    """Returns the number of cores that the system gives this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_cores(count: int) -> None:
    """Limits the threads of this process, those of libraries too that are not imported yet."""
    global _most_cores
    _most_cores = count
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(count)


def memory_of(pid: int) -> int:
    """Returns the memory in bytes that a process and its descendants hold, 0 where it has ended."""
    import psutil

    held_bytes = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for member in (root, *root.children(recursive=True)):
            # A process may end while we look.
            with suppress(psutil.Error):
                held_bytes += member.memory_info().rss
    return held_bytes


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Sets environment variables while the block runs, for libraries and processes that are started in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def without_collection() -> Iterator[None]:
    """Puts off the search for garbage while the block makes many objects that stay: a fifth of its time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
