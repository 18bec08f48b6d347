"""Calls `zoo` in a process of its own, within limits of time and memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import UsageError

# Not `-m`: from the root of a checkout it would find the folder `zoo` before an installed package.
_CALL = "import sys; sys.path[:] = filter(None, sys.path); from zoo.repro.nights.limited import main; main()"

_LOOK_EVERY_S = 0.2
# An interrupted run says what it has measured so far, and ends its own processes.
_GRACE_S = 60.0
_HOW_FAR = re.compile(r"interrupted with (\d+ of \d+ images done)")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
      exit_code: its exit code, or the negative number of the signal that ended it.
      limit: the limit that it met, as in "ended after 5 minutes", or None.
      duration_s: seconds from its start to its end.
      peak_memory_bytes: the most memory that it and the processes it started held at one time; memory that
        processes share counts in each of them.
    """

    exit_code: int
    limit: str | None
    duration_s: float
    peak_memory_bytes: int

    def error(self, output: str) -> str:
        """Returns in one line why it did not succeed, from what it printed."""
        if self.limit is not None:
            how_far = _HOW_FAR.findall(output)
            return f"{self.limit} with {how_far[-1]}" if how_far else self.limit
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("zoo: error: ")]
        if errors:
            return errors[-1].removeprefix("zoo: error: ")
        if self.exit_code < 0:
            name = signal.Signals(-self.exit_code).name
            hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
            return f"ended by {name}{hint}"
        return f"ended with exit code {self.exit_code}{f': {lines[-1]}' if lines else ''}"


def call_zoo(
    words: Sequence[str], output: Path, *, timeout_s: float | None = None, memory_bytes: int | None = None
) -> Ended:
    """Runs `zoo` with arguments to its end, or to a limit.

    The process ends when this one does, however that ends. Interrupting this one a second time kills it.

    Args:
      words: the arguments.
      output: a file to which all that it prints is appended.
      timeout_s: seconds after which it is interrupted, and killed where that does not help.
      memory_bytes: memory of it and the processes it started, above which all are killed.

    Raises:
      KeyboardInterrupt: this process was interrupted; the other one has ended.
      UsageError: this system has no process groups.
    """
    if os.name != "posix":
        raise UsageError("zoo nightly: expected Linux or macOS, whose processes can be limited and ended")
    start = time.monotonic()
    with output.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _CALL, *words],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    limit, peak_bytes = None, 0
    try:
        while not _has_ended(process):
            held_bytes = memory_of(process.pid)
            peak_bytes = max(peak_bytes, held_bytes)
            if memory_bytes is not None and held_bytes > memory_bytes:
                limit = f"ended at {held_bytes / 2**30:.1f} GiB of memory, limit {memory_bytes / 2**30:g} GiB"
                _signal(process, signal.SIGKILL)
                break
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                limit = f"ended after {timeout_s / 60:g} minutes"
                _interrupt(process)
                break
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        _interrupt(process)
        raise
    finally:
        _signal(process, signal.SIGKILL)
        while not _has_ended(process):
            time.sleep(0.01)
        assert process.stdin is not None
        process.stdin.close()
    return Ended(int(process.returncode), limit, time.monotonic() - start, peak_bytes)


def memory_of(pid: int) -> int:
    """Returns the memory in bytes that a process and the processes it started hold, 0 where it has ended."""
    children: dict[int, list[int]] = {}
    held: dict[int, int] = {}
    for process, parent, size_bytes in _processes():
        children.setdefault(parent, []).append(process)
        held[process] = size_bytes
    family = [pid]
    for member in family:
        family += children.get(member, ())
    return sum(held.get(member, 0) for member in family)


def _processes() -> Iterator[tuple[int, int, int]]:
    """Returns process, parent, and resident bytes of every process that can be seen."""
    return _processes_of_linux() if Path("/proc/self/stat").exists() else _processes_of_ps()


def _processes_of_linux() -> Iterator[tuple[int, int, int]]:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):
        if name.isdigit():
            # A process may end while we look. Its name, in parentheses, may hold anything.
            with suppress(OSError):
                text = Path("/proc", name, "stat").read_text(encoding="utf-8", errors="replace")
                fields = text.rpartition(")")[2].split()
                yield int(name), int(fields[1]), int(fields[21]) * page_bytes


def _processes_of_ps() -> Iterator[tuple[int, int, int]]:
    # One option each: on macOS what follows the first "=" is a title, commas included.
    words = ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "rss="]
    listed = subprocess.run(words, capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        process, parent, kibibytes = map(int, line.split())
        yield process, parent, kibibytes * 1024


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a process and waits for its end, for a while."""
    _signal(process, signal.SIGINT)
    deadline = time.monotonic() + _GRACE_S
    while not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def main() -> None:
    """Is the process that `call_zoo` starts: `zoo`, until its end or that of the process that started it."""
    # A shell starts background jobs with SIGINT ignored; here it is how a limit ends a run in good order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[0] = "zoo"
    from zoo.cli import main as zoo

    zoo()


def _end_with_parent() -> Any:
    # Nothing is ever written: the pipe ends when the process that holds its other end does. Not sys.stdin,
    # whose lock a waiting thread would hold when the interpreter ends.
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
