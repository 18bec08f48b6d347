"""Times networks at their published input against this machine's own rate of matrix multiplication.

    python bench/networks.py --only 'cityscapes/mobilenet_v3_small_*' --repeat 5
    python bench/networks.py --json > records.jsonl && python bench/networks.py --markdown records.jsonl

Each network, and each precision, runs in a process of its own, folded and compiled, with random values: their
speed does not depend on them. Before each image and after the last, the same process times matrix
multiplications: large square ones, and those that the network's own 1 x 1 convolutions are, each in every
precision in which the network convolves. A rate is 2 operations for each multiplication with addition, over
the fastest time seen: those of all convolutions over the time of one image, or those of a matrix
multiplication over its own time.

The share is the network's rate relative to the fastest matrix multiplication seen. It cannot be above 100 %:
such a result is an error of measurement, on a busy machine mostly. It is reported as one, ends with 1, and
does not get into the page. Peak memory is the process's resident set, with what TensorFlow itself takes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

PRECISIONS = ("float32", "bfloat16")
MATRIX_SIDES = (1024, 2048, 3072)
AT_MOST_S = 40.0
COLUMNS = {
    "network": "<38",
    "precision": "<9",
    "s/image": ">8",
    "fastest": ">8",
    "processor s": ">11",
    "GFLOP/s": ">8",
    "matmul": ">7",
    "share": ">6",
    "peak GiB": ">8",
    "speed-up": ">8",
    "by processor": ">12",
}
"""Column -> how it is written in plain text."""


class Clock:
    """Seconds of what was called, by the clock and of processor time."""

    def __init__(self) -> None:
        self.wall_s: list[float] = []
        self.processor_s: list[float] = []

    def time(self, call: Callable[[], Any]) -> None:
        """Calls once and notes the time."""
        wall, processor = time.perf_counter(), time.process_time()
        call()
        self.wall_s.append(time.perf_counter() - wall)
        self.processor_s.append(time.process_time() - processor)


Product = tuple[int, int, int, str]
"""Rows, summands and columns of a matrix multiplication, and its precision."""


def products(network: Any) -> set[Product]:
    """Returns the matrix multiplications that a network is compared with."""
    from zoo.model.layers import Conv2D, Dense

    convolutions = [layer for layer in network.layers if isinstance(layer, (Conv2D, Dense))]
    found = {(side, side, side, layer.compute_dtype) for side in MATRIX_SIDES for layer in convolutions}
    for layer in convolutions:
        *window, inputs, outputs = layer.kernel.shape
        if math.prod(window) == 1:
            found.add((math.prod(layer.output.shape[1:-1]), inputs, outputs, layer.compute_dtype))
    return found


def time_product(product: Product, clock: Clock) -> None:
    """Multiplies once; the operands are not kept, so that they add nothing to the network's peak memory."""
    import tensorflow as tf

    rows, summands, columns, precision = product
    one, other = tf.ones((rows, summands), precision), tf.ones((summands, columns), precision)
    clock.time(lambda: tf.matmul(one, other))


def machine() -> dict[str, str]:
    """Describes what this runs on."""
    import tensorflow as tf

    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split("\t", 1) for line in cpu.splitlines() if "\t" in line)
    fields = {name.strip(): value.strip(" \t:") for name, value in fields.items()}
    extensions = [
        name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in fields.get("flags", "")
    ]
    return {
        "processor": fields.get("model name", platform.processor() or platform.machine()),
        "cores": str(os.cpu_count()),
        "extensions": ", ".join(extensions),
        "tensorflow": tf.__version__,
    }


def measure(name: str, precision: str, repeat: int) -> dict[str, Any]:
    """Measures one network in this process."""
    import resource

    import numpy as np

    from zoo.model.build import build_network
    from zoo.model.folding import fold_batch_norm
    from zoo.model.inference import compile_inference
    from zoo.registry import load_registry

    def peak_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    entry = load_registry().resolve(name)
    size = entry.evaluation.crop_size
    start_bytes = peak_bytes()
    network = build_network(entry.network, size, precision=precision)
    network = fold_batch_norm(network, consume=True)
    matrices = {product: Clock() for product in products(network)}
    predict = compile_inference(network, fold=False)
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.float32)

    def call() -> None:
        for values in predict(image).values():
            values.numpy()

    first, images = Clock(), Clock()
    first.time(call)

    def multiply() -> None:
        for product, clock in matrices.items():
            time_product(product, clock)

    while len(images.wall_s) < repeat and sum(images.wall_s) < AT_MOST_S:
        multiply()
        images.time(call)
    multiply()

    rate = 2 * entry.multiply_adds / min(images.wall_s)
    matmul_rate, matmul = max(
        (2 * math.prod(product[:3]) / min(clock.wall_s), product) for product, clock in matrices.items()
    )
    return {
        "name": name,
        "precision": precision,
        "input_size": list(size),
        "images": len(images.wall_s),
        "first_s": first.wall_s[0],
        "median_s": statistics.median(images.wall_s),
        "fastest_s": min(images.wall_s),
        "processor_s": statistics.median(images.processor_s),
        "rate": rate,
        "matmul": matmul,
        "matmul_rate": matmul_rate,
        "share": rate / matmul_rate,
        "peak_bytes": peak_bytes(),
        "start_bytes": start_bytes,
        "machine": machine(),
    }


def row(found: dict[str, Any], float32: dict[str, Any] | None) -> list[str]:
    """Returns a record's cells, in the order of `COLUMNS`; speed-ups are over the network's `float32`."""
    speed_up = (
        ["", ""]
        if float32 is None or float32 is found
        else [f"{float32[key] / found[key]:.2f}" for key in ("median_s", "processor_s")]
    )
    return [
        found["name"],
        found["precision"],
        f"{found['median_s']:.3f}",
        f"{found['fastest_s']:.3f}",
        f"{found['processor_s']:.3f}",
        f"{found['rate'] / 1e9:.1f}",
        f"{found['matmul_rate'] / 1e9:.1f}",
        f"{found['share']:.1%}",
        f"{found['peak_bytes'] / 2**30:.2f}",
        *speed_up,
    ]


def plain(cells: Iterable[str]) -> str:
    """Returns a line of the plain table."""
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True)).rstrip()


def markdown(records: list[dict[str, Any]]) -> str:
    """Returns the page of what `--json` printed."""
    about = records[0]["machine"]
    if any(record["machine"] != about for record in records):
        raise SystemExit("--markdown: expected records of one machine, found several")
    wrong = [f"{record['name']} {record['precision']}" for record in records if record["share"] > 1]
    if wrong:
        raise SystemExit(f"--markdown: errors of measurement, share above 100 %: {', '.join(wrong)}")
    float32 = {record["name"]: record for record in records if record["precision"] == "float32"}
    lines = [
        "# Speed of the networks",
        "",
        "Written by `bench/networks.py --markdown`, whose first lines say what is measured.",
        "",
        f"Machine: {about['processor']}, {about['cores']} cores, {about['extensions']}; "
        f"TensorFlow {about['tensorflow']}. One image at the published input size, 1025 x 2049 px for "
        "Cityscapes and 641 x 641 px for COCO, with kMaX-DeepLab 1281 x 1281 px. `matmul` is the rate of the "
        "fastest matrix multiplication seen in the same process, in GFLOP/s.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"| {' | '.join('---:' if width[0] == '>' else '---' for width in COLUMNS.values())} |",
    ]
    lines += [f"| {' | '.join(row(record, float32.get(record['name'])))} |" for record in records]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="names of entries, e.g. 'cityscapes/*'"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="one alone")
    parser.add_argument(
        "--repeat", type=int, default=5, help=f"timed images for each, fewer after {AT_MOST_S:.0f} s"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--markdown", nargs="+", metavar="FILE", help="print a page of what --json printed; measure nothing"
    )
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    precisions = PRECISIONS if options.precision is None else (options.precision,)
    if options.here:
        print(json.dumps(measure(options.here, precisions[0], options.repeat)))
        return
    if options.markdown:
        lines = [line for file in options.markdown for line in Path(file).read_text().splitlines()]
        print(markdown([json.loads(line) for line in lines]))
        return

    from zoo.registry import load_registry

    entries = [entry for entry in load_registry().entries if fnmatchcase(entry.name, options.only)]
    if not entries:
        raise SystemExit(f"--only {options.only}: no entry fits; run `zoo list` for all names")
    if not options.json:
        print(plain(COLUMNS))
    failed = False
    for entry in entries:
        name, float32 = entry.name, None
        for precision in precisions:
            if precision != "float32" and entry.network.backbone.is_kmax:
                continue  # Has no such form: see `zoo.model.build`.
            command = [sys.executable, __file__, "--here", name, "--precision", precision]
            command += ["--repeat", str(options.repeat)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{name} {precision}: failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                failed = True
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            float32 = found if precision == "float32" else float32
            print(json.dumps(found) if options.json else plain(row(found, float32)), flush=True)
            if found["share"] > 1:
                failed = True
                print(f"{name} {precision}: error of measurement: share above 100 %", file=sys.stderr)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
