"""Calls `zoo` in a process of its own, within limits of time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.files.json_files import read_json
from zoo.files.processes import end_with_parent, memory_of, signal_group
from zoo.repro.nights.exit_file import EXIT_FILE

# Like `-m zoo`, which would find a folder or file `zoo` in the working folder before the package.
# A shell starts background jobs with SIGINT ignored, but an interrupt is how a limit of time ends a run.
_CALL = f"""
import runpy, signal, sys
sys.path[:] = filter(None, sys.path)
signal.signal(signal.SIGINT, signal.default_int_handler)
from {end_with_parent.__module__} import end_with_parent
end_with_parent(int(sys.argv.pop(1)))
runpy.run_module("zoo", run_name="__main__", alter_sys=True)
"""

_LOOK_EVERY_S = 0.2
# An interrupted run prints what it has measured so far, and ends its own processes.
_GRACE_S = 60.0


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    exit_code: int  # or the negative number of the signal that ended it
    limit: str | None  # the limit that it exceeded, as in "ended after 5 minutes"
    duration_s: float
    # Of it and the processes it started, at one time; memory that they share counts in each of them.
    peak_memory_bytes: int
    note: Mapping[str, Any] = field(default_factory=dict)  # its exit file; empty where it left none
    last_line: str = ""  # the last line that it printed

    @property
    def error(self) -> str:
        """Why it did not succeed, in one line."""
        if self.limit is not None:
            done, images = self.note.get("images_done"), self.note.get("images")
            return self.limit if done is None else f"{self.limit} with {done} of {images} images done"
        if "message" in self.note:
            return str(self.note["message"])
        if self.exit_code < 0:
            name = signal.Signals(-self.exit_code).name
            hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
            return f"ended by {name}{hint}"
        return f"ended with exit code {self.exit_code}{f': {self.last_line}' if self.last_line else ''}"


def call_zoo(
    words: Sequence[str], output: Path, *, timeout_s: float | None = None, memory_bytes: int | None = None
) -> Ended:
    """Runs `zoo` with arguments to its end, or to a limit.

    The process ends when this one does, whatever ends this one. A second interrupt of this one kills it.

    Args:
      words: the arguments.
      output: a file to which everything that it prints is appended.
      timeout_s: seconds after which it is interrupted, and killed where that does not help.
      memory_bytes: memory of it and the processes it started, above which all are killed.

    Raises:
      KeyboardInterrupt: this process was interrupted; the other one has ended.
      UsageError: this system has no process groups.
    """
    if os.name != "posix":
        raise UsageError("zoo nightly: expected Linux or macOS, whose processes can be limited and ended")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, output.open("ab") as file:
        printed_before = file.tell()
        exit_file = Path(folder) / "exit.json"
        process = subprocess.Popen(
            [sys.executable, "-c", _CALL, str(os.getpid()), *words],
            env={**os.environ, EXIT_FILE: str(exit_file)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            limit, peak_bytes = _watch(process, timeout_s, memory_bytes)
        except KeyboardInterrupt:
            _interrupt(process)
            raise
        finally:
            signal_group(process)
            process.wait()
        note = read_json(exit_file) or {}
    duration_s = time.monotonic() - start
    last_line = _last_line(output.read_bytes()[printed_before:])
    return Ended(process.returncode, limit, duration_s, peak_bytes, note, last_line)


def _watch(
    process: subprocess.Popen[bytes], timeout_s: float | None, memory_bytes: int | None
) -> tuple[str | None, int]:
    """Waits for the end of a process; returns the limit that it exceeded, and its peak memory in bytes."""
    start, peak_bytes = time.monotonic(), 0
    while process.poll() is None:
        held_bytes = memory_of(process.pid)
        peak_bytes = max(peak_bytes, held_bytes)
        if memory_bytes is not None and held_bytes > memory_bytes:
            limit = f"ended at {held_bytes / 2**30:.1f} GiB of memory, limit {memory_bytes / 2**30:g} GiB"
            signal_group(process)
            return limit, peak_bytes
        if timeout_s is not None and time.monotonic() - start > timeout_s:
            _interrupt(process)
            return f"ended after {timeout_s / 60:g} minutes", peak_bytes
        time.sleep(_LOOK_EVERY_S)
    return None, peak_bytes


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a process and waits for its end, for a while."""
    signal_group(process, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
