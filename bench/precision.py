"""Measures what bfloat16 costs in quality, on this processor and on the older ones that it can pass for.

    python bench/precision.py

Runs `zoo reproduce` for each bundled entry in float32 and, for each instruction set, in bfloat16, each in a
process of its own. Prints the processor, and for every run PQ, mIoU, what differs from float32, and seconds
of the network per image. Ends with 1 where internal PQ differs from float32 by more than `--within`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

METRICS = ("pq", "miou", "ap")
BUNDLED = [
    "minicity/mobilenet_v3_small_os16",
    "minicoco/mobilenet_v3_small_os16",
    "minicity/axial_swidernet_os16",
]
INSTRUCTION_SETS: dict[str, dict[str, str]] = {
    "all": {},
    "AVX-512 core": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "SSE 4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "no oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}
"""What oneDNN may use -> the environment that says so. More than the processor has changes nothing."""


def processor() -> str:
    """Returns the processor's name and which of the instructions that matter here it has."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    found = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{fields.get('model name', platform.machine())}: {', '.join(found) or 'instructions unknown'}"


def reproduce(name: str, precision: str, environment: dict[str, str], more: list[str]) -> Any:
    """Returns the run record of one entry in one precision, or None where TensorFlow could not run it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "zoo", "reproduce", name, "--precision", precision]
        command += ["--out", folder, "--json", *more]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, **environment}
        )
        return json.loads(done.stdout) if done.stdout else None


def compare(name: str, sets: list[str], more: list[str], within: float) -> bool:
    """Prints an entry's metrics in every run, and whether internal PQ stays as near float32 as asked."""
    runs = [("float32", "all"), *(("bfloat16", each) for each in sets)]
    print(f"{name}\n{'precision':<10}{'instructions':<14}" + "".join(f"{m:>9}" for m in METRICS), end="")
    print(f"{'PQ change':>11}{'s/image':>9}", flush=True)
    float32_pq, changes = None, []
    for precision, instructions in runs:
        record = reproduce(name, precision, INSTRUCTION_SETS[instructions], more)
        if record is None and precision == "float32":
            raise SystemExit(3)
        if record is None:
            # TensorFlow looks at the processor itself, and may choose a kernel that oneDNN then refuses.
            print(f"{precision:<10}{instructions:<14}  cannot be run on this processor", flush=True)
            continue
        values = record["metrics"]["internal"]
        float32_pq = values["pq"] if float32_pq is None else float32_pq
        changes.append(values["pq"] - float32_pq)
        cells = "".join(f"{values[metric]:9.3f}" if metric in values else " " * 9 for metric in METRICS)
        seconds = record["timings"]["network_s"] / record["images"]
        print(f"{precision:<10}{instructions:<14}{cells}{changes[-1]:+11.3f}{seconds:9.3f}", flush=True)
    largest = max(changes, key=abs)
    holds = abs(largest) <= within
    print(
        f"internal PQ {largest:+.3f} at most: {'within' if holds else 'NOT within'} {within:g}\n", flush=True
    )
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=BUNDLED, help="entries; the bundled ones if not given")
    parser.add_argument("--data", help="the data set's folder, where it is not bundled")
    parser.add_argument("--limit", help="only the first N images")
    parser.add_argument("--within", type=float, default=0.1, help="percentage points of internal PQ")
    parser.add_argument(
        "--instructions",
        nargs="+",
        choices=INSTRUCTION_SETS,
        default=list(INSTRUCTION_SETS),
        metavar="SET",
        help=", ".join(INSTRUCTION_SETS),
    )
    options = parser.parse_args()
    print(f"{processor()}\n")
    more = [] if options.data is None else ["--data", options.data]
    more += [] if options.limit is None else ["--limit", options.limit]
    holds = [compare(name, options.instructions, more, options.within) for name in options.names]
    raise SystemExit(0 if all(holds) else 1)


if __name__ == "__main__":
    main()
