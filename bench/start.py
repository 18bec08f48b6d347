"""Times how `zoo` starts, against plain imports of what it needs, in the same run.

    python bench/start.py [--rounds 5] [--only commands|first-image]

Light commands are compared with `import typer, yaml, pydantic`. The first image of `zoo reproduce` on a
bundled entry is compared with `import tensorflow, keras`: with an empty cache, in which the pixel loops are
not compiled yet, and with the cache that this left. Rounds take turns, and the best of each counts: seconds,
and the CPU seconds of a process and its children, which say more where others use the machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

ENTRY = "minicity/mobilenet_v3_small_os16"
ZOO = [sys.executable, "-m", "zoo"]
LIGHT_PEER = [sys.executable, "-c", "import typer, yaml, pydantic"]
HEAVY_PEER = [sys.executable, "-c", "import tensorflow, keras"]
COMMANDS = {"zoo list": ["list"], "zoo --help": ["--help"], "zoo show": ["show", ENTRY]}


class Taken(NamedTuple):
    """What something took, in seconds."""

    wall_s: float
    cpu_s: float


def whole(command: list[str]) -> Taken:
    """Runs a command to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[1:]} ended with status {status}")
    return Taken(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def first_image(cache: Path) -> Taken:
    """Runs `zoo reproduce` until the statistics of its first image are on disk, and ends it."""
    with tempfile.TemporaryDirectory() as out:
        command = [*ZOO, "reproduce", ENTRY, "--out", out]
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, "ZOO_CACHE": str(cache)},
            start_new_session=True,
        )
        watched = psutil.Process(process.pid)
        while not any(Path(out).glob("**/images/*.npz")):
            if process.poll() is not None:
                raise SystemExit(f"{command[1:]} ended with status {process.returncode}")
            time.sleep(0.005)
        wall_s = time.perf_counter() - start
        cpu_s = 0.0
        for part in (watched, *watched.children(recursive=True)):
            with suppress(psutil.Error):
                cpu_s += sum(part.cpu_times()[:2])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Taken(wall_s, cpu_s)


def best(measures: Mapping[str, Callable[[], Taken]], rounds: int) -> dict[str, Taken]:
    """Returns the least that each took in rounds that take turns."""
    taken = [{name: measure() for name, measure in measures.items()} for _ in range(rounds)]
    return {name: Taken(*map(min, zip(*(each[name] for each in taken), strict=True))) for name in measures}


def show(peer: str, taken: Mapping[str, Taken]) -> None:
    """Prints what each took, and how many times the peer's that is."""
    print(f"{'':34}{'seconds':>9}{'ratio':>8}{'CPU s':>9}{'ratio':>8}")
    for name, (wall_s, cpu_s) in taken.items():
        ratios = wall_s / taken[peer].wall_s, cpu_s / taken[peer].cpu_s
        print(f"{name:34}{wall_s:9.3f}{ratios[0]:8.2f}{cpu_s:9.3f}{ratios[1]:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("commands", "first-image"))
    options = parser.parse_args()
    if options.only != "first-image":
        commands = {name: [*ZOO, *words] for name, words in COMMANDS.items()}
        light = {"import typer, yaml, pydantic": LIGHT_PEER, **commands}
        show(
            "import typer, yaml, pydantic",
            best(
                {name: lambda command=command: whole(command) for name, command in light.items()},
                options.rounds,
            ),
        )
    if options.only != "commands":
        with tempfile.TemporaryDirectory() as name:
            kept = Path(name)

            def fresh() -> Taken:
                with tempfile.TemporaryDirectory() as empty:
                    return first_image(Path(empty))

            whole(HEAVY_PEER)
            first_image(kept)
            measures = {
                "import tensorflow, keras": lambda: whole(HEAVY_PEER),
                "first image, fresh cache": fresh,
                "first image, later": lambda: first_image(kept),
            }
            show("import tensorflow, keras", best(measures, options.rounds))


if __name__ == "__main__":
    main()
