"""Times networks at their published input against this machine's own rate of matrix multiplication.

    python bench/networks.py --only 'cityscapes/mobilenet_v3_small_*' --repeat 5

Each network, and each precision, runs in a process of its own, folded and compiled, with random values: their
speed does not depend on them. In the same process, before and after the network, a large matrix
multiplication is timed in the same precision. A network's rate is 2 operations for each multiplication with
addition of its convolutions, over the median time of one image; the share is that rate over the best rate of
the two multiplications. Peak memory is the process's resident set, with what TensorFlow itself takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from typing import Any

PRECISIONS = ("float32", "bfloat16")
MATRIX_SIDE = 3072


def seconds_of(call: Any, repeat: int, *, at_least_s: float = 0.0) -> list[float]:
    """Returns the seconds of each of `repeat` calls, more until `at_least_s` have passed."""
    spent: list[float] = []
    while len(spent) < repeat or sum(spent) < at_least_s:
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return spent


def matmul_rate(precision: str, repeat: int) -> float:
    """Returns floating-point operations per second of a large matrix multiplication: the best of several."""
    import tensorflow as tf

    side = MATRIX_SIDE
    one, other = (tf.cast(tf.random.normal((side, side), seed=s), precision) for s in (1, 2))
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(one, other)), autograph=False)
    float(multiply())
    return 2 * side**3 / min(seconds_of(lambda: float(multiply()), repeat, at_least_s=1.0))


def measure(name: str, precision: str, repeat: int) -> dict[str, Any]:
    """Measures one network in this process."""
    import resource

    import numpy as np

    from zoo.model.folding import fold_batch_norm
    from zoo.model.panoptic_deeplab import build_network, compile_inference
    from zoo.registry import load_registry

    def peak_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    entry = load_registry().resolve(name)
    size = entry.evaluation.crop_size
    before = matmul_rate(precision, 3)
    start_bytes = peak_bytes()
    network = build_network(entry.network, size, precision=precision)
    predict = compile_inference(fold_batch_norm(network, consume=True), fold=False)
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.float32)

    def call() -> None:
        for values in predict(image).values():
            values.numpy()

    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    spent = seconds_of(call, repeat)
    after = matmul_rate(precision, 3)
    rate = 2 * entry.multiply_adds / statistics.median(spent)
    return {
        "name": name,
        "precision": precision,
        "input_size": list(size),
        "first_s": first,
        "median_s": statistics.median(spent),
        "fastest_s": min(spent),
        "rate": rate,
        "matmul_before": before,
        "matmul_after": after,
        "share": rate / max(before, after),
        "peak_bytes": peak_bytes(),
        "start_bytes": start_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="names of entries, e.g. 'cityscapes/*'"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="one alone")
    parser.add_argument("--repeat", type=int, default=5, help="timed images for each")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    precisions = PRECISIONS if options.precision is None else (options.precision,)
    if options.here:
        print(json.dumps(measure(options.here, precisions[0], options.repeat)))
        return

    from zoo.registry import load_registry

    names = [entry.name for entry in load_registry().entries if fnmatchcase(entry.name, options.only)]
    if not names:
        raise SystemExit(f"--only {options.only}: no entry fits; run `zoo list` for all names")
    if not options.json:
        print(
            f"{'network':<38} {'precision':<9} {'s/image':>8} {'fastest':>8} {'GFLOP/s':>8} "
            f"{'matmul':>8} {'share':>6} {'peak GiB':>8} {'speed-up':>8}"
        )
    for name in names:
        float32_s = None
        for precision in precisions:
            command = [sys.executable, __file__, "--here", name, "--precision", precision]
            command += ["--repeat", str(options.repeat)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{name} {precision}: failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            if options.json:
                print(json.dumps(found), flush=True)
                continue
            float32_s = found["median_s"] if precision == "float32" else float32_s
            speed_up = f"{float32_s / found['median_s']:.2f}" if float32_s else ""
            print(
                f"{name:<38} {precision:<9} {found['median_s']:8.3f} {found['fastest_s']:8.3f} "
                f"{found['rate'] / 1e9:8.1f} {max(found['matmul_before'], found['matmul_after']) / 1e9:8.1f} "
                f"{found['share']:6.1%} {found['peak_bytes'] / 2**30:8.2f} {speed_up:>8}",
                flush=True,
            )


if __name__ == "__main__":
    main()
