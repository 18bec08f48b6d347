"""Gives damaged input to the commands, in this process, and says what was wrong with how they took it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = int(os.environ.get("FUZZ_SEED", "0"))
CASES = int(os.environ.get("FUZZ_CASES", "0"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))

LIMIT_S = 60
"""So much time of processors may a command take; the first one of a kind, which compiles, ten times that."""

LIMIT_BYTES = 4 << 30
"""By so much may a command widen the address space of the process."""

EXIT_CODES = (0, 1, 2, 3, 4)
"""What commands document; 1 and 4 say that a number is not as published."""


class TooLongError(BaseException):
    """A command took longer than `LIMIT_S`; not an Exception, so that no command catches it."""


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The last line on standard error."""
        return (self.err.splitlines() or [""])[-1]


@dataclass(frozen=True)
class Case:
    """A command, and what is wrong with its result; None where nothing is."""

    words: list[object]
    look: Callable[[Done], str | None] = lambda done: None


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
      make: writes an input into the folder, damaged by the generator or, with None, whole; returns the case.
      cases: how many of them a short run tries.
    """

    make: Callable[[random.Random | None, Path], Case]
    cases: int


def call(*words: object, limit_s: int = LIMIT_S) -> Done:
    """Runs `zoo` in this process, within the limits."""
    with _limits(limit_s):
        return captured(*words)


def captured(*words: object) -> Done:
    """Runs `zoo` in this process."""
    from zoo.cli import app as cli

    # As of a process: data have to be text, and of messages nothing is lost.
    out, err = _stream("strict"), _stream("backslashreplace")
    before = sys.argv
    sys.argv = ["zoo", *map(str, words)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as exit_:
        code = exit_.code or 0
    finally:
        sys.argv = before
    return Done(code, *(_text(stream) for stream in (out, err)))


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    raw: Any = stream.buffer
    return str(raw.getvalue().decode("utf-8"))


@contextlib.contextmanager
def _limits(limit_s: int) -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise TooLongError

    handler = signal.signal(signal.SIGPROF, too_long)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc").is_dir() else None
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    try:
        if pages is not None:
            most = pages * resource.getpagesize() + LIMIT_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def fault_of(done: Done) -> str | None:
    """Returns what is wrong with how a command ended, whatever it was given; None where nothing is."""
    if done.code not in EXIT_CODES:
        return f"exit code {done.code}"
    for words in ("Traceback", "this is a defect", "not enough memory"):
        if words in done.err:
            return f"standard error has {words!r}"
    lines = done.err.split("\n")[:-1]
    if stray := next((line for line in lines if not line.startswith("zoo: ")), None):
        return f"a line that is not a message: {stray[:200]!r}"
    # Checks print what they found as data.
    if done.code in (2, 3) and not done.out and not done.message.startswith("zoo: error: "):
        return "an error without a line about it"
    for text in (done.out, done.err):
        if unsafe := sorted({mark for mark in text if is_unsafe(mark)}):
            return f"printed {unsafe!r}, which a terminal obeys"
    return None


def is_unsafe(mark: str) -> bool:
    """Returns whether a character does something to a terminal other than to stand there."""
    return mark not in "\n\t" and (unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp") or mark in _TURNS)


_TURNS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C)}
"""What changes the direction of the text after it."""


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the files below a folder, and the targets of links."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def try_case(kind: Kind, rng: random.Random | None, ground: Path) -> str | None:
    """Tries one case in an empty folder; returns its fault, None where there is none."""
    shutil.rmtree(ground, ignore_errors=True)
    given, beside = ground / "given", ground / "beside"
    for folder in (given, beside, ground / "out", ground / "cwd"):
        folder.mkdir(parents=True)
    (beside / "own.txt").write_text("the user's own")
    case = kind.make(rng, given)
    before = contents(given), contents(beside)
    began = time.monotonic()
    os.chdir(ground / "cwd")
    try:
        done = call(*case.words, limit_s=LIMIT_S * (10 if rng is None else 1))
    except TooLongError:
        return f"`zoo {case.words}` took longer than {LIMIT_S} s"
    except BaseException as error:
        return f"`zoo {case.words}` raised {type(error).__name__}: {str(error)[:200]}"
    finally:
        os.chdir(ground)
    if rng is None and done.code not in (0, 1):
        return f"`zoo {case.words}` refused whole input: {done.code}, {done.message[:500]}"
    fault = fault_of(done) or case.look(done)
    if fault is None and before != (contents(given), contents(beside)):
        fault = "changed or wrote files outside of its folders"
    if fault is None and list((ground / "cwd").iterdir()):
        fault = "wrote into the current folder"
    took = time.monotonic() - began
    return fault and (
        f"{fault}; exit code {done.code} after {took:.1f} s of `zoo {' '.join(map(str, case.words))}`: "
        f"{done.message[:400]!r}"
    )


def run(kind: Kind, name: str, seed: int, numbers: range, ground: Path) -> list[str]:
    """Tries cases, after the whole input; returns the faults, at most 20 of them."""
    if (fault := try_case(kind, None, ground)) is not None:
        return [fault]
    faults: list[str] = []
    for number in numbers:
        fault = try_case(kind, random.Random(f"{seed} {name} {number}"), ground)
        if fault is not None:
            faults.append(f"case {number} of seed {seed}: {fault}")
            if len(faults) == 20:
                break
    return faults
