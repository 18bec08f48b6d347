"""Measures what bfloat16 costs in quality: the same entry reproduced in float32 and in bfloat16.

    python bench/precision.py

Runs `zoo reproduce` twice for each bundled entry, each in a process of its own, and prints every metric of
both, their difference, and seconds of the network per image. Ends with 1 where internal PQ differs by more
than `--within`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PRECISIONS = ("float32", "bfloat16")
METRICS = ("pq", "miou", "ap")
BUNDLED = ["minicity/mobilenet_v3_small_os16", "minicoco/mobilenet_v3_small_os16"]


def reproduce(name: str, precision: str, out: Path, more: list[str]) -> dict[str, Any]:
    """Returns the run record of one entry in one precision."""
    command = [sys.executable, "-m", "zoo.cli", "reproduce", name, "--precision", precision]
    command += ["--out", str(out / precision), "--json", *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def compare(name: str, more: list[str], within: float) -> bool:
    """Prints every metric of an entry in both precisions, and whether internal PQ stays as near as asked."""
    with tempfile.TemporaryDirectory() as folder:
        records = {p: reproduce(name, p, Path(folder), more) for p in PRECISIONS}
    images = records["float32"]["images"]
    print(f"{name}, {images} images")
    print(f"{'metric':<14} {'float32':>9} {'bfloat16':>9} {'difference':>11}")
    for evaluator in ("official", "internal"):
        for metric in METRICS:
            values = [records[p]["metrics"].get(evaluator, {}).get(metric) for p in PRECISIONS]
            if None not in values:
                one, other = values
                print(f"{evaluator} {metric:<5} {one:9.3f} {other:9.3f} {other - one:+11.3f}")
    seconds = [records[p]["timings"]["network_s"] / images for p in PRECISIONS]
    print(f"{'s per image':<14} {seconds[0]:9.3f} {seconds[1]:9.3f}  (with the first image's compilation)")
    loss = records["bfloat16"]["metrics"]["internal"]["pq"] - records["float32"]["metrics"]["internal"]["pq"]
    holds = abs(loss) <= within
    print(f"internal PQ {loss:+.3f}: {'within' if holds else 'NOT within'} {within:g}\n", flush=True)
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=BUNDLED, help="entries; the bundled ones if not given")
    parser.add_argument("--data", help="the data set's folder, where it is not bundled")
    parser.add_argument("--limit", help="only the first N images")
    parser.add_argument("--within", type=float, default=0.3, help="percentage points of internal PQ")
    options = parser.parse_args()
    more = [] if options.data is None else ["--data", options.data]
    more += [] if options.limit is None else ["--limit", options.limit]
    holds = [compare(name, more, options.within) for name in options.names]
    raise SystemExit(0 if all(holds) else 1)


if __name__ == "__main__":
    main()
