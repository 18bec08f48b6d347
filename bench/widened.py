"""Writes the bundled checkpoint in the width of the published MobileNetV3-Small, for whole runs at full cost.

The extra channels are zero, so the wide network predicts what the bundled one predicts, at the published
network's price. (Nothing is trained; the published checkpoint itself may not be bundled.)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def widen(
    narrow: np.ndarray, shape: Sequence[int], groups: Sequence[Sequence[tuple[int, int]]]
) -> np.ndarray:
    """Returns zeros of `shape` with `narrow` in them; `groups[axis]` lists (narrow, wide) sizes."""
    wide = np.zeros(shape, narrow.dtype)
    sources, targets = [], []
    for axis_groups in groups:
        source = target = 0
        source_index, target_index = [], []
        for narrow_size, wide_size in axis_groups:
            source_index += range(source, source + narrow_size)
            target_index += range(target, target + narrow_size)
            source, target = source + narrow_size, target + wide_size
        sources.append(source_index)
        targets.append(target_index)
    wide[np.ix_(*targets)] = narrow[np.ix_(*sources)]
    return wide


def channel_groups(key: str, narrow: SimpleNamespace, wide: SimpleNamespace) -> list[tuple[int, int]] | None:
    """Returns the groups of the channels that enter the layer of `key`, or None where they are one group."""
    kind = key.partition("/")[0]
    if kind not in ("semantic_decoder", "instance_decoder"):
        return None
    small, large = getattr(narrow, kind), getattr(wide, kind)
    if "_aspp/_proj_conv_bn_act/_conv/kernel" in key:
        return [(small.aspp_channels, large.aspp_channels)] * 5
    for index, name in enumerate(("_fusion_conv1/", "_fusion_conv2/")):
        if name in key and ("_depthwise/" in key or "_pointwise/_conv/" in key):
            upper = (small.aspp_channels, large.aspp_channels)
            if index:
                upper = (small.decoder_channels, large.decoder_channels)
            low = small.low_level[index].channels_project, large.low_level[index].channels_project
            return [upper, low]
    return None


def write_widened(
    source: str, narrow: SimpleNamespace, wide: SimpleNamespace, shapes: dict, out: Path
) -> None:
    """Writes the checkpoint `source` of network `narrow` as one of network `wide` to the prefix `out`.

    Args:
      source: prefix of the narrow checkpoint.
      narrow: settings of its network.
      wide: settings of the wide network.
      shapes: key -> shape of the wide network's variables.
      out: prefix to write.
    """
    reader = tf.train.load_checkpoint(source)
    names, tensors = [], []
    for key, shape in shapes.items():
        value = reader.get_tensor(key + SUFFIX)
        groups: list[Sequence[tuple[int, int]]] = [[(n, w)] for n, w in zip(value.shape, shape, strict=True)]
        entering = channel_groups(key, narrow, wide)
        if entering is not None:
            groups[2 if value.ndim == 4 else 0] = entering
        names.append(key + SUFFIX)
        tensors.append(tf.constant(widen(value, shape, groups)))
    tf.raw_ops.SaveV2(
        prefix=str(out), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )


def main() -> None:
    """Arguments: a registry file with both entries, the names of the narrow and the wide one, a prefix."""
    from zoo.fetch.fetcher import Fetcher
    from zoo.model.checkpoint import variables
    from zoo.network.loading import build
    from zoo.registry import load_registry

    registry = load_registry([Path(sys.argv[1])])
    narrow, wide, out = registry.resolve(sys.argv[2]), registry.resolve(sys.argv[3]), Path(sys.argv[4])
    network = build(wide.name, registry=registry)
    shapes = {key: tuple(variable.shape) for key, variable in variables(network).items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_widened(str(Fetcher().checkpoint(narrow).path), narrow.network, wide.network, shapes, out)


if __name__ == "__main__":
    main()
