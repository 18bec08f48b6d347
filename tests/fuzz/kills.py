"""Kills commands anywhere, calls them again, and compares what comes of it with an undisturbed call.

    python tests/fuzz/kills.py --count 100

prints a table: the command, the moment, how it was stopped, and what the next call made of it. Exit code 1
where a number differs, or a process or a temporary file is left.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

NAME = "minicity/mobilenet_v3_small_os16"
TESTS = Path(__file__).parents[1]
MARK = "ZOO_KILLS"
LONGEST_S = 900
_ENDED_S = 15
_VARYING = ("timings", "efficiency", "started", "finished", "path", "versions")


@dataclass(frozen=True)
class Job:
    """A command: its words with CASE for its folder, and what is left of it that may not change."""

    words: list[str]
    result: Callable[[Path, str], Any]
    weight: int


@dataclass
class Stop:
    """A way to stop a process.

    Attributes:
      number: the signal to send, None for a limit that it meets by itself.
      to_group: whether its children get it too, as from a terminal.
      limits: resource -> the most that it may take.
      read_only: whether it may not write into its folder.
    """

    name: str
    number: int | None = None
    to_group: bool = False
    limits: dict[int, int] = field(default_factory=dict)
    read_only: bool = False

    def prepare(self) -> None:
        """Sets the limits, in the new process."""
        for what, most in self.limits.items():
            resource.setrlimit(what, (most, most))
        if self.read_only:
            # Otherwise root may write anywhere: PR_CAPBSET_DROP of the two rights to ignore permissions.
            for right in (1, 2):
                ctypes.CDLL(None).prctl(24, right, 0, 0, 0)


def record_of(folder: Path, out: str) -> Any:
    """Returns the record that a run printed, without what no two runs share."""
    return fixed(json.loads(out), folder)


def fixed(value: Any, folder: Path) -> Any:
    """Returns a record without what no two runs share."""
    if isinstance(value, dict):
        return {key: fixed(part, folder) for key, part in value.items() if key not in _VARYING}
    if isinstance(value, list):
        return [fixed(part, folder) for part in value]
    return value.replace(str(folder), "CASE") if isinstance(value, str) else value


def night_of(folder: Path, out: str) -> Any:
    """Returns the records of a night."""
    paths = sorted(folder.glob("out/2026*/*/record.json"))
    return [fixed(json.loads(path.read_text()), folder) for path in paths]


def files_of(folder: Path) -> set[str]:
    """Returns what is below a folder, without names that hold times, numbers of processes, or digests."""
    skipped = ("/numba/", "/locks/", "/fingerprints/")
    # A night that ended, be it with a failure, is not gone on with: the next is the second of its date.
    names = (
        "/" + path.relative_to(folder).as_posix().replace(".2/", "/").removesuffix(".2")
        for path in folder.rglob("*")
    )
    return {name for name in names if not any(part in name for part in skipped)}


def jobs(seeds: Path, url: str) -> dict[str, Job]:
    """Returns the commands, over the whole input in `seeds`."""

    def digests(folder: Path, out: str) -> Any:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.glob("cache/checkpoints/*/contents/**/*")
            if path.is_file()
        }

    def page(folder: Path, out: str) -> Any:
        return (folder / "out/page.html").read_text().replace(str(folder), "CASE")

    own = seeds / "own.yaml"
    own.write_text(
        f"entries:\n  own/net: {{extends: {NAME}, dataset: minicity, title: Mine, checkpoint: {url}}}\n"
    )
    out = ["--out", "CASE/out"]
    return {
        "fetch": Job(["--registry", str(own), "fetch", "own/net", "--json"], digests, 5),
        "load-check": Job(["load-check", NAME, "--json"], lambda folder, text: json.loads(text)["sha256"], 2),
        "reproduce": Job(["reproduce", NAME, "--limit", "4", *out, "--json"], record_of, 3),
        "score": Job(
            ["score", str(seeds / "predictions"), "--dataset", "minicity", "--limit", "4", *out, "--json"],
            record_of,
            2,
        ),
        "page": Job(["report", "html", str(seeds / "run"), "--out", "CASE/out/page.html"], page, 4),
        "nightly": Job(["nightly", NAME, "--limit", "2", "--date", "2026-01-01", *out], night_of, 1),
    }


def stops(rng: random.Random) -> Stop:
    """Returns one of the ways."""
    return rng.choice(
        (
            Stop("SIGKILL", signal.SIGKILL),
            Stop("SIGKILL", signal.SIGKILL),
            Stop("SIGTERM", signal.SIGTERM),
            Stop("SIGINT", signal.SIGINT, to_group=True),
            Stop("memory", limits={resource.RLIMIT_AS: rng.randrange(200, 4000) << 20}),
            Stop("full disk", limits={resource.RLIMIT_FSIZE: rng.randrange(1, 10_000) << rng.randrange(11)}),
            Stop("read-only", read_only=True),
        )
    )


class Ground:
    """Where the cases are: each in a folder of its own, with a copy of a warm cache."""

    def __init__(self, root: Path, seeds: Path, url: str, names: Collection[str]) -> None:
        known = jobs(seeds, url)
        self.root, self.jobs = root, {name: known[name] for name in names or known}
        self.whole: dict[str, tuple[float, Any, set[str]]] = {}
        self._warm = root / "warm"

    def prepare(self) -> None:
        """Makes the warm cache and the predictions for `score`, and runs each command undisturbed."""
        if "reproduce" in self.jobs:
            self._warm_up()
        for name in self.jobs:
            folder = self._folder(f"whole-{name}", name)
            began = time.monotonic()
            out, _ = self._call(name, folder, Stop("none")).communicate(timeout=LONGEST_S)
            result = self.jobs[name].result(folder, out)
            self.whole[name] = (time.monotonic() - began, result, files_of(folder))

    def _warm_up(self) -> None:
        folder = self._folder("predictions", "reproduce")
        _, err = self._call("reproduce", folder, Stop("none")).communicate(timeout=LONGEST_S)
        (found,) = folder.glob("out/*/predictions") or [err]
        shutil.copytree(found, self.root / "seeds" / "predictions")
        shutil.copytree(folder / "cache", self._warm)

    def _folder(self, case: str, name: str) -> Path:
        folder = self.root / case
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("out", "cwd", "tmp"):
            (folder / part).mkdir(parents=True)
        if self._warm.exists() and name != "fetch":
            shutil.copytree(self._warm, folder / "cache")
        (folder / "cache").mkdir(exist_ok=True)
        return folder

    def _call(self, name: str, folder: Path, stop: Stop) -> subprocess.Popen[str]:
        words = [word.replace("CASE", str(folder)) for word in self.jobs[name].words]
        own = {"ZOO_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp"), MARK: str(folder)}
        return subprocess.Popen(
            [sys.executable, "-m", "zoo", *words],
            env={**os.environ, **own, "TF_CPP_MIN_LOG_LEVEL": "3", "NO_PROXY": "127.0.0.1"},
            cwd=folder / "cwd",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=stop.prepare,
        )

    def try_one(self, number: int, seed: int) -> tuple[str, bool]:
        """Stops a command once, calls it again, and returns a row of the table, and whether all is well."""
        rng = random.Random(f"{seed} {number}")
        name = rng.choices(list(self.jobs), [job.weight for job in self.jobs.values()])[0]
        stop, moment = stops(rng), rng.random()
        took, whole, files = self.whole[name]
        folder = self._folder(f"case-{number}", name)
        ended = self._stop(name, folder, stop, moment * took)
        problems = [f"left the process {left}" for left in self._left_over(folder)]
        again = self._call(name, folder, Stop("none"))
        out, err = again.communicate(timeout=LONGEST_S)
        if again.returncode:
            problems.append(f"the next call ended with {again.returncode}: {err.splitlines()[-1:]}")
        elif self.jobs[name].result(folder, out) != whole:
            problems.append("another result")
        elif more := sorted(files_of(folder) - files):
            problems.append(f"left {more[:5]}")
        when = f"{moment:.0%}" if stop.number else "-"
        found = "; ".join(problems) or "same result"
        row = f"| {number} | {name} | {when} | {stop.name} | {ended} | {found} |"
        if not problems:
            shutil.rmtree(folder)
        return row, not problems

    def _stop(self, name: str, folder: Path, stop: Stop, after_s: float) -> str:
        """Calls a command, stops it, and returns how it ended."""
        parts = [folder, *(path for path in folder.rglob("*") if path.is_dir())] if stop.read_only else []
        for path in parts:
            path.chmod(0o555)
        process = self._call(name, folder, stop)
        try:
            if stop.number is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(after_s)
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if stop.to_group else os.kill)(process.pid, stop.number)
            _, err = process.communicate(timeout=LONGEST_S)
        finally:
            for path in parts:
                path.chmod(0o755)
        code, last = process.returncode, (err.splitlines() or [""])[-1]
        if "Traceback" in err or "this is a defect" in err:
            return f"{code}, NOT ONE LINE: {last[:200]}"
        return f"{code}" if code <= 0 else f"{code}, {last[11:61]}"

    def _left_over(self, folder: Path) -> list[str]:
        """Returns the processes of a case that are still there a while after its end."""
        until = time.monotonic() + _ENDED_S
        while True:
            found = []
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if process.environ().get(MARK) == str(folder) and process.status() != "zombie":
                        found.append(" ".join(process.cmdline())[:100])
            if not found or time.monotonic() > until:
                return found
            time.sleep(0.2)


def _slow_server(archive: bytes) -> Any:
    """Returns a server that takes a second or so to send the archive, and knows ranges."""
    shared = runpy.run_path(str(TESTS / "zoo" / "conftest.py"))

    class Slow:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def write(self, data: bytes) -> None:
            time.sleep(0.002)
            self._stream.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    def slowly(handler: Any, file: Any) -> None:
        handler.wfile = Slow(handler.wfile)
        shared["serve"](handler, file)

    server = shared["FileServer"]()
    server.put("/net.tar.gz", archive, always=slowly)
    return server


def run(
    root: Path, numbers: range, seed: int, workers: int, names: Collection[str] = ()
) -> list[tuple[str, bool]]:
    """Tries cases of the commands `names`, by default of all, and prints and returns their rows."""
    import threading
    from importlib import resources

    archive = resources.files("zoo.assets").joinpath(f"{NAME.replace('/', '_')}.tar.gz").read_bytes()
    seeds = root / "seeds"
    seeds.mkdir(parents=True)
    run_of = runpy.run_path(str(TESTS / "conftest.py"))["_unpack_run"]
    run_of("minicity", seeds / "made").rename(seeds / "run")
    with _slow_server(archive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ground = Ground(root, seeds, f"{server.endpoint}/net.tar.gz", names)
        ground.prepare()

        def one(number: int) -> tuple[str, bool]:
            row, ok = ground.try_one(number, seed)
            print(row, flush=True)
            return row, ok

        with ThreadPoolExecutor(workers) as pool:
            rows = list(pool.map(one, numbers))
        server.shutdown()
    return rows


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zoo-kills-", ignore_cleanup_errors=True) as folder:
        numbers = range(options.first, options.first + options.count)
        print("| case | command | moment | stopped by | ended | afterwards |\n" + "| --- " * 6 + "|")
        rows = run(Path(folder), numbers, options.seed, options.workers)
        lost = sum(not ok for _, ok in rows)
        print(f"\n{len(rows)} kills of seed {options.seed}, {lost} lost")
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
