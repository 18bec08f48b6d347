"""Checkpoints of the published form with golden values, written by plain TensorFlow."""

from __future__ import annotations

import runpy
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SHARD_BYTES = 256 << 20

golden_values = runpy.run_path(str(Path(__file__).with_name("golden_weights.py")))["values"]

Shapes = Mapping[str, tuple[int, ...]]


def write_checkpoint(prefix: Path, shapes: Shapes, *, optimizer: bool = False) -> str:
    """Writes golden values under the names that a training gives them, in data files of a bounded size.

    Args:
      prefix: path without `.index`.
      shapes: key -> shape of each variable, without the ending of a stored name.
      optimizer: whether to add what an optimizer keeps, and counters.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    parts: list[str] = []
    pending: dict[str, tf.Tensor] = {}

    def write() -> None:
        parts.append(f"{prefix}.part{len(parts)}")
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=list(pending),
            shape_and_slices=[""] * len(pending),
            tensors=list(pending.values()),
        )
        pending.clear()

    pending["_CHECKPOINTABLE_OBJECT_GRAPH"] = tf.constant(b"")
    pending[f"save_counter{SUFFIX}"] = tf.constant(1, tf.int64)
    if optimizer:
        pending[f"global_step{SUFFIX}"] = tf.constant(60000, tf.int64)
        pending[f"optimizer/iter{SUFFIX}"] = tf.constant(60000, tf.int64)
        pending[f"optimizer/learning_rate{SUFFIX}"] = tf.constant(1e-4)
        for key in list(shapes)[::50]:
            for slot in ("m", "v", "average"):
                pending[f"{key}/.OPTIMIZER_SLOT/optimizer/{slot}{SUFFIX}"] = tf.zeros(shapes[key])
    size_bytes = 0
    for key, shape in shapes.items():
        pending[f"{key}{SUFFIX}"] = tf.constant(golden_values(key, shape))
        size_bytes += 4 * int(np.prod(shape))
        if size_bytes > SHARD_BYTES:
            write()
            size_bytes = 0
    write()
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=False
    )
    return str(prefix)


def write_archive(folder: Path, name: str, shapes: Shapes, *, optimizer: bool = False) -> Path:
    """Writes `folder/model.tar.gz` with one folder that holds the checkpoint called `name`."""
    write_checkpoint(folder / "model" / name, shapes, optimizer=optimizer)
    path = folder / "model.tar.gz"
    # Random values hardly get smaller: level 1 would take a minute for the largest network.
    with tarfile.open(path, "w:gz", compresslevel=0, copybufsize=1 << 20) as tar:
        tar.add(folder / "model", "model")
    for file in (folder / "model").iterdir():
        file.unlink()
    return path
