"""Calls `zoo` in a process of its own, within limits of time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

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

Key = TypeVar("Key")

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


class Call:
    """`zoo` in a process of its own, within limits; a context manager, at whose end the process has ended.

    The process ends when this one does, whatever ends this one. An interrupt that leaves the block interrupts
    the process; a second one kills it.
    """

    def __init__(
        self,
        words: Sequence[str],
        output: Path,
        *,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """Starts the process.

        Args:
          words: the arguments.
          output: a file to which everything that it prints is appended.
          timeout_s: seconds after which it is interrupted, and killed where that does not help.
          memory_bytes: memory of it and the processes it started, above which all are killed.

        Raises:
          UsageError: this system has no process groups.
        """
        if os.name != "posix":
            raise UsageError("zoo nightly: expected Linux or macOS, whose processes can be limited and ended")
        self._output, self._timeout_s, self._memory_bytes = output, timeout_s, memory_bytes
        self._start, self._peak_bytes, self._is_over = time.monotonic(), 0, False
        # Beside the output, so that the next call finds what a killed one left.
        self._exit_file = output.with_name(f".{output.name}.exit.json")
        self._exit_file.unlink(missing_ok=True)
        with output.open("ab") as file:
            self._printed_before = file.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CALL, str(os.getpid()), *words],
                env={**os.environ, EXIT_FILE: str(self._exit_file)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt) and not self._is_over:
                _interrupt(self._process)
        finally:
            self._end()
            self._exit_file.unlink(missing_ok=True)

    def look(self) -> Ended | None:
        """Ends the process where it exceeds a limit; returns how it ended, or None while it runs."""
        limit = None
        if self._process.poll() is None:
            limit = self._exceeded()
            if limit is None:
                return None
        self._end()
        return Ended(
            self._process.returncode,
            limit,
            time.monotonic() - self._start,
            self._peak_bytes,
            read_json(self._exit_file) or {},
            _last_line(self._output.read_bytes()[self._printed_before :]),
        )

    def _end(self) -> None:
        # Once: its number may be another process's later.
        if not self._is_over:
            signal_group(self._process)
            self._process.wait()
            self._is_over = True

    def _exceeded(self) -> str | None:
        """Returns the limit that the process exceeds; it is killed, or was interrupted."""
        held_bytes = memory_of(self._process.pid)
        self._peak_bytes = max(self._peak_bytes, held_bytes)
        if self._memory_bytes is not None and held_bytes > self._memory_bytes:
            return (
                f"ended at {held_bytes / 2**30:.1f} GiB of memory, limit {self._memory_bytes / 2**30:g} GiB"
            )
        if self._timeout_s is not None and time.monotonic() - self._start > self._timeout_s:
            _interrupt(self._process)
            return f"ended after {self._timeout_s / 60:g} minutes"
        return None


def wait_for_one(calls: Mapping[Key, Call]) -> tuple[Key, Ended]:
    """Waits until one of several processes has ended, and returns which and how."""
    while True:
        for key, call in calls.items():
            ended = call.look()
            if ended is not None:
                return key, ended
        time.sleep(_LOOK_EVERY_S)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a process and waits for its end, for a while."""
    signal_group(process, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
