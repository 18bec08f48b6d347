"""Runs nights in a loop, with a fault in a tenth of them, and looks for what grows.

    python tests/fuzz/soak.py --hours 2 --out soak

Nights run in this process, which starts one for the entry. After a fault the same night runs again,
undisturbed, and its record has to equal the first one. A line for each night goes to OUT/rounds.jsonl, a
plot to OUT/soak.svg. Exit code 1 where a figure grows by more than its limit, or a night was lost.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import psutil
from driver import captured, fault_of
from kills import MARK, NAME, fixed
from replies import RawServer, damaged, whole

LIMITS = {"memory_mib": 4.0, "open_files": 1.0, "threads": 1.0, "disk_mib": 2.0, "temporary_files": 1.0}
"""By so much may a figure grow in an hour; the rest of `sample` is for the reader."""

WARM_UP = 12
"""So many rounds are left out of slopes: until then nights pile up, and modules and pages are new."""

_NIGHTS_KEPT = 10
_ROUNDS_A_FAULT = 10
_CALLS = 4
_DISK_BYTES = 1 << 30
_TEMPORARY = re.compile(r".*\.(part|unfinished)|\..*\.(\d+-[0-9a-f]{8}|exit\.json)")


class Ground:
    """Where the nights run: cache, results and temporary files, on a disk of their own."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self.has_disk, self.did = root, _mount(root, stack), ""
        self.cache, self.out, self.temporary = (root / name for name in ("cache", "out", "tmp"))
        for folder in (self.cache, self.out, self.temporary):
            folder.mkdir()
        self.archive = resources.files("zoo.assets").joinpath(f"{NAME.replace('/', '_')}.tar.gz").read_bytes()
        self.server = RawServer()
        stack.callback(self.server.close)
        self.server.replies = whole(self.archive)
        self.registry = root / "own.yaml"
        self.registry.write_text(
            f"entries:\n  own/net: {{extends: {NAME}, dataset: minicity, title: Mine, "
            f"checkpoint: {self.server.url}/net.tar.gz}}\n"
        )
        os.environ.update(ZOO_CACHE=str(self.cache), TMPDIR=str(self.temporary), NO_PROXY="127.0.0.1")
        os.environ.update({MARK: str(root), "TF_CPP_MIN_LOG_LEVEL": "3"})
        tempfile.tempdir = None

    def words(self, day: str) -> list[str]:
        """Returns the arguments of a night."""
        own = ["--registry", str(self.registry)]
        return [*own, "nightly", "own/net", "--fetch", "--limit", "2", "--date", day, "--out", str(self.out)]

    def records(self, day: str) -> list[Any]:
        """Returns the records of a day's nights, without what no two runs share."""
        paths = self.out.glob(f"{day}*/*/record.json")
        return [fixed(json.loads(path.read_text()), self.root) for path in paths]

    def forget(self, days: list[str]) -> None:
        """Removes all nights but the newest."""
        for day in days[:-_NIGHTS_KEPT]:
            for folder in self.out.glob(f"{day}*"):
                shutil.rmtree(folder)


def _mount(root: Path, stack: ExitStack) -> bool:
    """Gives a folder a small disk of its own; returns whether this system and user can."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(root)]
    if not sys.platform.startswith("linux") or subprocess.run(words, capture_output=True).returncode:
        return False
    stack.callback(subprocess.run, ["umount", "--lazy", str(root)], check=True)
    return True


Fault = Callable[[Ground, str, random.Random, float], str | None]
"""Disturbs a night, which undisturbed takes the seconds given; returns what was wrong with how it ended."""


def entry_killed(ground: Ground, day: str, rng: random.Random, whole_s: float) -> str | None:
    """Kills one of the processes that the night started."""
    stop = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    after_s, over = rng.random() * whole_s, threading.Event()

    def kill() -> None:
        over.wait(after_s)
        with suppress(psutil.Error, IndexError):
            rng.choice(psutil.Process().children(recursive=True)).send_signal(stop)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        return fault_of(captured(*ground.words(day)))
    finally:
        over.set()
        thread.join()


def night_killed(ground: Ground, day: str, rng: random.Random, whole_s: float) -> str | None:
    """Kills the night itself, in a process of its own; what it started has to end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", *ground.words(day)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ground.temporary,
        text=True,
        start_new_session=True,
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(rng.random() * whole_s)
    process.send_signal(rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
    err = process.communicate()[1]
    return "a traceback" if "Traceback" in err else None


def damaged_cache(ground: Ground, day: str, rng: random.Random, whole_s: float) -> str | None:
    """Changes, cuts or removes a file of the cache."""
    skipped = ("locks", "numba")
    files = [
        path
        for path in sorted(ground.cache.rglob("*"))
        if path.is_file() and path.relative_to(ground.cache).parts[0] not in skipped
    ]
    path = rng.choice(files)
    before = path.read_bytes()
    content, way = bytearray(before), rng.randrange(3)
    ground.did = f"{('removed', 'cut', 'changed')[way]} {path.relative_to(ground.cache)}"
    if way == 0 or not content:
        path.unlink()
    elif way == 1:
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    try:
        return fault_of(captured(*ground.words(day)))
    finally:
        # A picture that a night does not read is told by the fingerprint alone.
        if way == 2 and path.exists() and path.read_bytes() == content:
            path.write_bytes(before)


def full_disk(ground: Ground, day: str, rng: random.Random, whole_s: float) -> str | None:
    """Leaves little of the disk."""
    ballast = ground.root / "ballast"
    with ballast.open("wb") as file:
        free = shutil.disk_usage(ground.root).free - (rng.randrange(1, 1 << 12) << rng.randrange(12))
        os.posix_fallocate(file.fileno(), 0, max(1, free))
    try:
        return fault_of(captured(*ground.words(day)))
    finally:
        ballast.unlink()


def read_only(ground: Ground, day: str, rng: random.Random, whole_s: float) -> str | None:
    """Mounts the disk again, to be read only."""
    mount = ["mount", "-o"]
    subprocess.run([*mount, "remount,ro", str(ground.root)], check=True)
    try:
        return fault_of(captured(*ground.words(day)))
    finally:
        subprocess.run([*mount, "remount,rw", str(ground.root)], check=True)


def broken_replies(ground: Ground, day: str, rng: random.Random, whole_s: float) -> str | None:
    """Lets the checkpoint be fetched again, from a server that lies or breaks off."""
    for kind in ("downloads", "checkpoints"):
        shutil.rmtree(ground.cache / kind, ignore_errors=True)
    ground.server.replies = damaged(ground.archive, ground.server.url, rng)
    try:
        return fault_of(captured(*ground.words(day)))
    finally:
        ground.server.replies = whole(ground.archive)


FAULTS: tuple[Fault, ...] = (
    *(entry_killed, entry_killed, night_killed, night_killed, damaged_cache, damaged_cache),
    *(broken_replies, full_disk, full_disk, read_only),
)


def sample(ground: Ground) -> dict[str, float]:
    """Returns what this process and its nights hold now."""
    gc.collect()
    process = psutil.Process()
    files = [path for folder in (ground.cache, ground.out) for path in folder.rglob("*")]
    temporary = [path for path in files if _TEMPORARY.fullmatch(path.name)]
    return {
        # Of its own: pages of files come and go with what else the machine does.
        "memory_mib": process.memory_full_info().uss / 2**20,
        "open_files": process.num_fds(),
        "threads": process.num_threads(),
        "disk_mib": sum(path.lstat().st_blocks for path in files) / 2**11,
        "files": len(files),
        "temporary_files": len(temporary) + sum(1 for _ in ground.temporary.rglob("*")),
        "processes": len(process.children(recursive=True)),
    }


def rounds(ground: Ground, rng: random.Random, until: Callable[[int], bool]) -> Iterator[dict[str, Any]]:
    """Runs nights, and yields what became of each, with a sample."""
    began, days, first, whole_s = time.monotonic(), [], None, 20.0
    disturbed, waiting = 0, []
    while not until(len(days)):
        if len(days) % _ROUNDS_A_FAULT == 0:
            disturbed = len(days) + rng.randrange(1, _ROUNDS_A_FAULT)
        waiting = waiting or rng.sample(FAULTS, len(FAULTS))
        day = (date(2026, 1, 1) + timedelta(len(days))).isoformat()
        days.append(day)
        fault = waiting.pop() if len(days) - 1 == disturbed else None
        if fault in (full_disk, read_only) and not ground.has_disk:
            fault = entry_killed
        wrong = [fault and fault(ground, day, rng, whole_s)]
        started, calls = time.monotonic(), 0
        # A message about what was damaged may ask for another call.
        while calls < (_CALLS if fault else 1):
            done, calls = captured(*ground.words(day)), calls + 1
            wrong.append(fault_of(done))
            if done.code == 0:
                break
        whole_s = time.monotonic() - started if calls == 1 and not fault else whole_s
        found = ground.records(day)
        first = first or found[0]
        if done.code == 130:
            return
        # Where a fault did no harm, the call after it measured a second night of the date.
        if done.code or not found:
            wrong.append(f"exit code {done.code}, {len(found)} records: {done.message[-300:]}")
        wrong += [
            f"{key}: {json.dumps(each.get(key))[:400]} after {ground.did}, expected {json.dumps(value)[:400]}"
            for each in found
            for key, value in first.items()
            if each.get(key) != value and not (key == "dataset" and fault is damaged_cache)
        ]
        ground.forget(days)
        yield {
            "round": len(days) - 1,
            "hours": (time.monotonic() - began) / 3600,
            "fault": fault and fault.__name__,
            "calls": calls,
            "did": ground.did if fault is damaged_cache else None,
            "wrong": "; ".join(filter(None, wrong)) or None,
            **sample(ground),
        }


def slope(hours: list[float], values: list[float]) -> float:
    """Returns the growth an hour: the median slope of all pairs, which single peaks do not move."""
    pairs = [
        (after - before) / (later - sooner)
        for index, (sooner, before) in enumerate(zip(hours, values, strict=True))
        for later, after in zip(hours[index + 1 :], values[index + 1 :], strict=True)
    ]
    return statistics.median(pairs) if pairs else 0.0


def growth(rows: list[dict[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """Returns start, end and slope of each figure, after the warm-up."""
    steady = rows[WARM_UP:] or rows
    hours = [row["hours"] for row in steady]
    values = {name: [row[name] for row in steady] for name in LIMITS}
    return {name: (each[0], each[-1], slope(hours, each)) for name, each in values.items()}


def plot(rows: list[dict[str, Any]]) -> str:
    """Returns the figures over time as SVG, with a mark at each fault."""
    width, height, panels = 720, 90, []
    longest = max(rows[-1]["hours"], 1e-9)
    for number, name in enumerate(LIMITS):
        values, top = [row[name] for row in rows], number * (height + 40) + 30
        most = max(*values, 1e-9) * 1.1
        places = [
            (60 + width * row["hours"] / longest, top + height * (1 - value / most))
            for row, value in zip(rows, values, strict=True)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#c33"/>'
            for (x, y), row in zip(places, rows, strict=True)
            if row["fault"]
        )
        panels.append(
            f'<text x="60" y="{top - 8}">{name.replace("_", " ")}: {values[0]:.4g} to {values[-1]:.4g}</text>'
            f'<path d="M60 {top}V{top + height}H{60 + width}" fill="none" stroke="#999"/>'
            f'<text x="56" y="{top + 8}" text-anchor="end">{most:.3g}</text>'
            f'<text x="56" y="{top + height}" text-anchor="end">0</text>'
            f'<polyline points="{line}" fill="none" stroke="#258"/>{marks}'
        )
    bottom = len(LIMITS) * (height + 40) + 20
    panels.append(
        f'<text x="60" y="{bottom}">{len(rows)} nights in {longest:.2f} h; red: disturbed by a fault</text>'
    )
    size = f'width="{width + 80}" height="{bottom + 10}"'
    style = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(panels)}</svg>\n'


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Ends the loop with its table, as at its own end, when it is interrupted or terminated."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    end, rows = time.monotonic() + options.hours * 3600, []
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="zoo-soak-") as folder,
        ExitStack() as stack,
        (options.out / "rounds.jsonl").open("w", buffering=1) as lines,
    ):
        ground = Ground(Path(folder), stack)
        with _ended_by_sigterm():
            for row in rounds(
                ground,
                random.Random(options.seed),
                lambda done: done >= options.rounds or time.monotonic() > end,
            ):
                rows.append(row)
                lines.write(json.dumps(row) + "\n")
    (options.out / "soak.svg").write_text(plot(rows))
    sys.exit(report(rows))


def report(rows: list[dict[str, Any]]) -> int:
    """Prints the table; returns the exit code."""
    faults = [row for row in rows if row["fault"]]
    lost = [row for row in rows if row["wrong"]]
    print(f"{len(rows)} nights in {rows[-1]['hours']:.2f} h, {len(faults)} disturbed, {len(lost)} lost\n")
    print("| figure | start | end | growth an hour | limit |\n" + "| --- " * 5 + "|")
    grown = False
    for name, (start, end, by) in growth(rows).items():
        grown = grown or by > LIMITS[name]
        print(f"| {name} | {start:.4g} | {end:.4g} | {by:+.3g} | {LIMITS[name]:g} |")
    for row in lost:
        print(f"round {row['round']} ({row['fault']}): {row['wrong']}")
    return int(grown or bool(lost))


if __name__ == "__main__":
    main()
