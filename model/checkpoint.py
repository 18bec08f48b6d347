"""The names of a network's variables in a TensorFlow checkpoint, and a restore that is whole or refused.

A checkpoint is PREFIX.index with PREFIX.data-00000-of-0000N. The published ones were written by
google-research/deeplab2, whose attribute names are the parts of each key.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.errors import CheckpointError
from zoo.files.tensorflow import import_tensorflow
from zoo.model.backend import take_values, values_of

Shape = tuple[int, ...]

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_COUNTERS = {"save_counter", "global_step", "step", "iterations", "iter", "epoch"}
_AVERAGES = {"average", "ExponentialMovingAverage", "exponential_moving_average"}
_PUBLIC = {"convolution", "conv_block", "final_conv"}
_LARGE_BYTES = 1 << 20
"""TensorFlow reads larger tensors into memory that it never gives back."""
_OTHER_ENCODER = re.compile("^backbone/_encoder/|^(?=downsample_layers/|stages/)")
"""Where encoders begin that another trainer wrote, or, with ConvNeXt's ImageNet weights, that stand alone."""


def variables(network: Any) -> dict[str, keras.Variable]:
    """Returns the network's variables by checkpoint key, without the ending `/.ATTRIBUTES/VARIABLE_VALUE`.

    Args:
      network: what `zoo.load` or `zoo.build` returns, or a Keras model of `zoo.model.build`; not folded.

    Returns:
      For instance `encoder/_blocks/0/_conv/kernel` -> the kernel of layer `encoder.blocks.0.conv`.
    """
    return {
        _key(layer, variable.name): variable
        for layer in getattr(network, "keras_model", network).layers
        for variable in layer.weights
        if not isinstance(layer, keras.layers.Dropout)
    }


def _key(layer: keras.layers.Layer, variable_name: str) -> str:
    if isinstance(layer, keras.layers.DepthwiseConv2D) and variable_name == "kernel":
        variable_name = "depthwise_kernel"
    # All attributes on the way to a variable are private, but for positions in a list, these, and ConvNeXt's.
    root, *parts, leaf = f"{layer.name}.{variable_name}".split(".")
    is_public = "layer_with_weights-" in layer.name
    attributes = (p if is_public or p.isdigit() or p in _PUBLIC else f"_{p}" for p in parts)
    return "/".join((root, *attributes, leaf))


class ShapeDifference(NamedTuple):
    """A variable that the checkpoint holds in another shape than the network."""

    key: str
    expected: Shape
    found: Shape


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What was restored from a checkpoint. Keys are without the ending `/.ATTRIBUTES/VARIABLE_VALUE`.

    `sha256` is over key, type, shape and the bytes' own SHA-256 of every restored variable, in the order of
    keys; None if nothing was read.
    """

    prefix: str  # the checkpoint's path, without `.index`
    restored: tuple[str, ...] = ()  # keys read into the network
    missing: tuple[str, ...] = ()  # keys the network has and the checkpoint lacks
    unused: tuple[str, ...] = ()  # keys the checkpoint has and the network lacks, other than the next three
    optimizer: tuple[str, ...] = ()  # optimizer slots and settings
    moving_averages: tuple[str, ...] = ()  # averages of variables, kept by some optimizers
    counters: tuple[str, ...] = ()  # steps and saves
    different_shape: tuple[ShapeDifference, ...] = ()
    initial: tuple[str, ...] = ()  # keys the checkpoint may lack, and lacks: they keep their initial values
    sha256: str | None = None
    bytes: int = 0  # sum over the restored variables
    archive_sha256: str | None = None  # of the archive that the checkpoint came in, where there is one

    @property
    def ok(self) -> bool:
        """Whether every variable of the network, or of the part that was asked for, was restored."""
        return bool(self.restored) and not self.missing and not self.different_shape

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain JSON values."""
        different = [each._asdict() for each in self.different_shape]
        return {**dataclasses.asdict(self), "different_shape": different, "ok": self.ok}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], prefix: str) -> Receipt:
        """Returns the receipt that a file at `prefix` holds.

        Raises:
          KeyError: it lacks a part.
          ValueError: a part is not a list that should be.
        """
        given = {each.name: values[each.name] for each in dataclasses.fields(cls)}
        for each in dataclasses.fields(cls):
            if each.default == () and not isinstance(given[each.name], (list, tuple)):
                raise ValueError(f"{each.name}: expected a list, found {given[each.name]!r:.40}")
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{**given, **lists, "prefix": prefix})

    def __str__(self) -> str:
        kinds = ("unused", "optimizer", "moving_averages", "counters")
        apart = ", ".join(f"{kind.replace('_', ' ')} {len(getattr(self, kind))}" for kind in kinds)
        return (
            f"{self.prefix}: {'complete' if self.ok else 'incomplete'}\n"
            f"  restored {len(self.restored)} variables, {self.bytes:,} bytes, sha256 {self.sha256}\n"
            f"  missing {len(self.missing)}, of another shape {len(self.different_shape)}\n"
            f"  not read: {apart}"
        )


def restore(network: keras.Model, prefix: str, *, part: str = "", may_lack: Collection[str] = ()) -> Receipt:
    """Reads a checkpoint into `network`, tensor by tensor, or refuses it.

    Names, types and shapes are compared before anything is assigned; each tensor's own checksum is checked as
    it is read: after an error about the data, do not use the network.

    Args:
      network: of `zoo.model.build`, not folded.
      prefix: path of the checkpoint without `.index`.
      part: what the keys of the variables to restore start with, for instance `encoder/`; others stay.
      may_lack: keys that the checkpoint may lack, or hold in other shapes; either all of them or none.

    Returns:
      The receipt of a complete restore.

    Raises:
      CheckpointError: a variable is missing or has another shape, or a file is absent or corrupt.
      UsageError: TensorFlow, which alone reads checkpoints, is not installed.
    """
    reader = _open(prefix)
    ours = {key: variable for key, variable in variables(network).items() if key.startswith(part)}
    receipt, stored_names = _compare(ours, reader, prefix)
    if may_lack and set(may_lack).isdisjoint(receipt.restored):
        missing = tuple(key for key in receipt.missing if key not in may_lack)
        different = tuple(each for each in receipt.different_shape if each.key not in may_lack)
        initial = tuple(sorted(may_lack))
        receipt = dataclasses.replace(receipt, missing=missing, different_shape=different, initial=initial)
    if not receipt.ok:
        raise CheckpointError(_refusal(receipt, reader))
    digests = {}
    size_bytes = {key: 4 * math.prod(ours[key].shape) for key in receipt.restored}
    largest_first = sorted(receipt.restored, key=lambda key: -size_bytes[key])
    for key, following in itertools.zip_longest(largest_first, largest_first[1:]):
        value = _read(reader, stored_names[key], prefix)
        digests[key] = _digest_line(key, value)
        # The memory that this was read into is for the next tensor of the same size, or stays this one's.
        is_needed = size_bytes[key] == size_bytes.get(following)
        take_values(ours[key], value, copy=is_needed and size_bytes[key] > _LARGE_BYTES)
        del value
    return dataclasses.replace(
        receipt,
        sha256=hashlib.sha256("".join(digests[key] for key in receipt.restored).encode()).hexdigest(),
        bytes=sum(size_bytes.values()),
    )


def values_digest(network: Any, keys: Iterable[str]) -> str:
    """Returns what `Receipt.sha256` is where a network holds what was restored under these keys."""
    ours = variables(network)
    lines = (_digest_line(key, np.ascontiguousarray(values_of(ours[key]))) for key in sorted(keys))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest_line(key: str, value: np.ndarray) -> str:
    return f"{key} {value.dtype} {value.shape} {hashlib.sha256(value.data).hexdigest()}\n"


def _open(prefix: str) -> Any:
    tf = import_tensorflow()
    try:
        return tf.train.load_checkpoint(prefix)
    except tf.errors.NotFoundError as error:
        raise CheckpointError(f"checkpoint {prefix}: no {prefix}.index with its data files") from error
    except _read_errors() as error:
        raise CheckpointError(
            f"checkpoint {prefix}: {prefix}.index is corrupt ({_first_line(error)}); fetch the archive again"
        ) from error


def _read(reader: Any, stored_name: str, prefix: str) -> np.ndarray:
    try:
        return reader.get_tensor(stored_name)
    except _read_errors() as error:
        files = ", ".join(sorted(glob.glob(f"{glob.escape(prefix)}.data-*"))) or f"{prefix}.data-*"
        key = stored_name.removesuffix(_SUFFIX)
        raise CheckpointError(
            f"checkpoint {prefix}: variable {key} in {files} is corrupt or cut off ({_first_line(error)}); "
            "fetch the archive again"
        ) from error


def _read_errors() -> tuple[type[Exception], ...]:
    """Returns what TensorFlow raises for a file that is corrupt, or cut off (an `IndexError`)."""
    import tensorflow as tf

    return tf.errors.OpError, RuntimeError, ValueError, IndexError


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _compare(
    expected: Mapping[str, keras.Variable], reader: Any, prefix: str
) -> tuple[Receipt, dict[str, str]]:
    """Returns a receipt with nothing read yet, and key -> name as stored."""
    shapes = reader.get_variable_to_shape_map()
    types = reader.get_variable_to_dtype_map()
    stored_names = _keys(shapes)
    restored, missing, different = [], [], []
    for key, variable in sorted(expected.items()):
        if key not in stored_names:
            missing.append(key)
            continue
        name = stored_names[key]
        shape, found = tuple(variable.shape), tuple(shapes[name])
        if shape != found:
            different.append(ShapeDifference(key, shape, found))
        elif types[name].name != "float32":
            raise CheckpointError(
                f"checkpoint {prefix}: variable {key} is {types[name].name}, expected float32; "
                "this is not a checkpoint of the published form"
            )
        else:
            restored.append(key)
    receipt = Receipt(prefix, tuple(restored), tuple(missing), different_shape=tuple(different))
    others = [key for key in sorted(stored_names) if key not in expected]
    kinds = set(map(_kind, others))
    apart: dict[str, Any] = {kind: tuple(key for key in others if _kind(key) == kind) for kind in kinds}
    return dataclasses.replace(receipt, **apart), stored_names


def _keys(stored_names: Iterable[str]) -> dict[str, str]:
    """Returns key -> name as stored, with the encoder under `encoder/` whichever trainer wrote it."""
    keys = {name.removesuffix(_SUFFIX): name for name in stored_names if name != _OBJECT_GRAPH}
    if not any(key.startswith("encoder/") for key in keys):
        keys = {_OTHER_ENCODER.sub("encoder/", key): name for key, name in keys.items()}
    return keys


def _kind(key: str) -> str:
    """Returns the field of `Receipt` to which a key belongs that the network does not have."""
    root, leaf = key.split("/", 1)[0], key.rsplit("/", 1)[-1]
    if leaf in _AVERAGES:
        return "moving_averages"
    if _SLOT in key or "optimizer" in root:
        return "optimizer"
    return "counters" if leaf in _COUNTERS and "/" not in key else "unused"


# --- what to say when a checkpoint is refused -------------------------------------------------------------


def _refusal(receipt: Receipt, reader: Any) -> str:
    different = [
        f"{d.key}: expected {_text(d.expected)}, found {_text(d.found)}" for d in receipt.different_shape
    ]
    lists = {"missing": receipt.missing, "of another shape": different, "unused": receipt.unused}
    counts = "; ".join(_listed(what, names) for what, names in lists.items() if names)
    shapes = reader.get_variable_to_shape_map()
    hint = _hint(receipt, {key: tuple(shapes[name]) for key, name in _keys(shapes).items()})
    problem = f"checkpoint {receipt.prefix} does not restore the whole network: {counts}"
    return f"{problem}. {hint}" if hint else problem


def _listed(what: str, names: Sequence[str], at_most: int = 3) -> str:
    rest = f", and {len(names) - at_most} more" if len(names) > at_most else ""
    return f"{len(names)} {what} ({', '.join(names[:at_most])}{rest})"


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _hint(receipt: Receipt, found: Mapping[str, Shape]) -> str:
    """Returns the likely cause of a refusal in one sentence, or nothing."""
    different = {d.key: d for d in receipt.different_shape}
    roots = {key.split("/", 1)[0] for key in found}
    if "encoder" not in roots:
        return "It has no variables under encoder/: it is not a checkpoint of this family."
    wrong_encoder = [k for k in (*receipt.missing, *different) if k.startswith("encoder/")]
    unknown_encoder = [k for k in receipt.unused if k.startswith("encoder/")]
    if len(wrong_encoder) > 3 and (unknown_encoder or different):
        return f"Its encoder is {_backbone(found)}: choose the entry of that backbone."
    if receipt.missing and not any(root.startswith(("semantic_", "instance_")) for root in roots):
        return (
            "It holds an encoder only, as ImageNet checkpoints do; "
            "expected a trained Panoptic-DeepLab checkpoint."
        )
    if not receipt.missing and different and all("/_low_level_conv" in key for key in different):
        wider = all(d.found[2] > d.expected[2] for d in different.values())
        other = "depthwise_output" if wider else "block_output"
        return f"It was trained with the other kind of end points (low_level_endpoints: {other})."
    if not receipt.missing and different and all(key.startswith("semantic_last_layer/") for key in different):
        first = next(iter(different.values()))
        return f"It was trained for {first.found[-1]} classes, the network has {first.expected[-1]}."
    if len(receipt.missing) == len(receipt.unused) == 1 and not different:
        return f"Was {receipt.missing[0]} renamed to {receipt.unused[0]}?"
    return ""


def _backbone(found: Mapping[str, Shape]) -> str:
    """Names the encoder in a checkpoint by a variable that only it has."""
    for name, last in (("MobileNetV3-Small", 12), ("MobileNetV3-Large", 16)):
        if f"encoder/_blocks/{last}/_conv/kernel" in found:
            return name
    if any(key.startswith("encoder/downsample_layers/") for key in found):
        return "a ConvNeXt"
    if any(key.startswith("encoder/_stage") for key in found):
        return "one of the residual family"
    return "of another kind"
