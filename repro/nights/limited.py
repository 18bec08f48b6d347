"""Calls `zoo` in a process of its own, within limits of time and memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UsageError
from zoo.files.processes import memory_of, signal_group

# Not `-m`: from the root of a checkout it would find the folder `zoo` before an installed package.
# A shell starts background jobs with SIGINT ignored; here it is how a limit ends a run in good order.
_CALL = """
import signal, sys
sys.path[:] = filter(None, sys.path)
signal.signal(signal.SIGINT, signal.default_int_handler)
from zoo.files.processes import end_with_parent
end_with_parent(int(sys.argv[1]))
sys.argv[:2] = ["zoo"]
from zoo.cli import main
main()
"""

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
            [sys.executable, "-c", _CALL, str(os.getpid()), *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    limit, peak_bytes = None, 0
    try:
        while process.poll() is None:
            held_bytes = memory_of(process.pid)
            peak_bytes = max(peak_bytes, held_bytes)
            if memory_bytes is not None and held_bytes > memory_bytes:
                limit = f"ended at {held_bytes / 2**30:.1f} GiB of memory, limit {memory_bytes / 2**30:g} GiB"
                signal_group(process)
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
        signal_group(process)
        process.wait()
    return Ended(process.returncode, limit, time.monotonic() - start, peak_bytes)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a process and waits for its end, for a while."""
    signal_group(process, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
