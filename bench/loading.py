"""Loads a large checkpoint and measures, from outside, the memory and the time that takes.

    python bench/loading.py [--entry cityscapes/swidernet_sac_1_1_4.5_os16] [--optimize]

Writes a checkpoint of the entry's variables with random values, then runs in processes of their own:
reading the file's bytes, reading every tensor with TensorFlow's reader, and `zoo.load`. Prints seconds, peak
memory as the system saw it, and its ratio to the size of the variables. Needs room for the checkpoint in the
folder of temporary files, and for its variables in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MB = 1e6

WRITE = """
import sys
import numpy as np
import tensorflow as tf
from zoo.model.checkpoint import variables
from zoo.model.build import build_network
from zoo.registry import load_registry

entry = load_registry().resolve(sys.argv[1])
shapes = {
    key: tuple(variable.shape)
    for key, variable in variables(build_network(entry.network, (65, 129), random_values=False)).items()
}
rng = np.random.default_rng(0)
tf.raw_ops.SaveV2(
    prefix=sys.argv[2],
    tensor_names=[f"{key}/.ATTRIBUTES/VARIABLE_VALUE" for key in shapes],
    shape_and_slices=[""] * len(shapes),
    tensors=[tf.constant(rng.random(shape, np.float32) + 0.5) for shape in shapes.values()],
)
print(sum(4 * int(np.prod(shape)) for shape in shapes.values()))
"""

READ_BYTES = """
import glob, sys
block = bytearray(1 << 20)
for path in glob.glob(sys.argv[2] + ".data*"):
    with open(path, "rb", buffering=0) as stream:
        while stream.readinto(block):
            pass
"""

READ_TENSORS = """
import sys
import tensorflow as tf
reader = tf.train.load_checkpoint(sys.argv[2])
for name in reader.get_variable_to_shape_map():
    reader.get_tensor(name)
"""

LOAD = """
import sys, time
import zoo
import tensorflow
started = time.perf_counter()
network = zoo.load(sys.argv[1], checkpoint=sys.argv[2], optimize={optimize})
print("zoo.load itself", time.perf_counter() - started)
assert network.receipt.ok
"""


def run(code: str, *arguments: str) -> tuple[str, float, float]:
    """Runs a program to its end: its last word, seconds, and peak resident bytes."""
    started = time.perf_counter()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"a measured process failed with status {status}")
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return (output.split() or [""])[-1], time.perf_counter() - started, peak_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--entry", default="cityscapes/swidernet_sac_1_1_4.5_os16")
    parser.add_argument("--optimize", action="store_true", help="also fold batch normalisation")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_loading_") as folder:
        prefix = str(Path(folder) / "ckpt-60000")
        variable_bytes = int(run(WRITE, arguments.entry, prefix)[0])
        rows = {"import alone": run("import sys, zoo.network.loading, zoo.model.build", "", "")}
        rows["bytes of the file"] = run(READ_BYTES, arguments.entry, prefix)
        rows["tensors by TensorFlow's reader"] = run(READ_TENSORS, arguments.entry, prefix)
        rows["zoo.load"] = run(LOAD.format(optimize=False), arguments.entry, prefix)
        if arguments.optimize:
            rows["zoo.load, optimized"] = run(LOAD.format(optimize=True), arguments.entry, prefix)
    if arguments.json:
        record = {
            name: {"seconds": seconds, "peak_bytes": peak, "ratio": peak / variable_bytes}
            for name, (_, seconds, peak) in rows.items()
        }
        print(json.dumps({"entry": arguments.entry, "variable_bytes": variable_bytes, "measured": record}))
        return
    print(f"{arguments.entry}: variables of {variable_bytes / MB:.0f} MB")
    for name, (last, seconds, peak) in rows.items():
        inside = f", {float(last):.1f} s without imports" if name.startswith("zoo.load") else ""
        print(
            f"{name:32} {seconds:6.1f} s  peak {peak / MB:6.0f} MB = {peak / variable_bytes:5.3f} x{inside}"
        )


if __name__ == "__main__":
    main()
