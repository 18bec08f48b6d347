"""From a registry name to a ready network: a panoptic one, or an ImageNet backbone as a feature extractor."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from zoo.errors import CheckpointError, UsageError
from zoo.files.tensorflow import import_tensorflow

if TYPE_CHECKING:
    import keras

    from zoo.fetch.fetcher import Fetched
    from zoo.model.checkpoint import Receipt
    from zoo.network.saved_model import SavedModelNetwork
    from zoo.registry import Backbone, Entry, Registry

    RegistryLike = Registry | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

BACKBONE_INPUT_SIZE = (225, 225)
"""(height, width) in px of a backbone's images where none is asked for: about ImageNet's, one past 7 * 32."""
BACKBONE_OUTPUT_STRIDE = 32
ARCHITECTURE = (
    "name",
    "use_squeeze_and_excite",
    "stem_width_multiplier",
    "backbone_width_multiplier",
    "backbone_layer_multiplier",
    "use_sac_beyond_stride",
)
"""The settings that decide an encoder's variables."""


def build(
    name: str,
    input_size: tuple[int, int] | None = None,
    registry: RegistryLike | None = None,
    precision: str = "float32",
    backbone_weights: str | os.PathLike[str] | None = None,
    output_stride: int | None = None,
) -> keras.Model:
    """Builds the network of an entry, not loaded.

    Args:
      name: of the entry, full, or short where that is unambiguous; or of an ImageNet backbone.
      input_size: (height, width) of images in px; None for the entry's published crop, 225 x 225 for a
        backbone.
      registry: where to look the name up: registry files, one path or several, beside the built-in one and
        those of `ZOO_REGISTRY`, which count anyway; or a loaded registry.
      precision: "float32", or "bfloat16" for convolutions in bfloat16.
      backbone_weights: what to restore the encoder from, as a training starts: an ImageNet backbone
        ("imagenet/resnet50_beta"), or a checkpoint of one, given as for `load`. The rest stays random.
      output_stride: of a backbone: 8, 16 or 32 (None); an entry has its own.

    Returns:
      A network as `zoo.model.decoders.panoptic_deeplab.build_network` describes it, for a backbone as
      `build_encoder`;
      `network.entry` is the registry's entry, `network.backbone_receipt` says what came from
      `backbone_weights`.

    Raises:
      UnknownNameError: the name matches no entry, or several.
      UsageError: a precision, input size or output stride that cannot be built, or weights of another kind of
        backbone.
      CheckpointError: the checkpoint does not restore the whole encoder, or is corrupt.
      ZooError: it could not be fetched or verified.
    """
    entry = _find(name, registry)
    input_size = _checked_size(entry, input_size)
    if backbone_weights is None:
        return _build(entry, input_size, precision, output_stride)
    source = _backbone_source(entry, backbone_weights, registry)
    prefix, archive_sha256 = _locate(*source)
    network = _build(entry, input_size, precision, output_stride)
    network.backbone_receipt = _restore(network, source[0].name, prefix, archive_sha256, "encoder/")
    return network


def load(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    input_size: tuple[int, int] | None = None,
    registry: RegistryLike | None = None,
    precision: str = "float32",
    optimize: bool = False,
    output_stride: int | None = None,
    source: str = "checkpoint",
) -> keras.Model | SavedModelNetwork:
    """Builds the network of an entry and restores it completely from its checkpoint.

    Each tensor goes from the file straight into its variable: memory holds the variables once.

    Args:
      name: of the entry, full, or short where that is unambiguous; or of an ImageNet backbone.
      checkpoint: to restore instead of the entry's own: a prefix (`.../ckpt-60000`), a folder that holds one
        checkpoint, an archive, or the URL of an archive.
      input_size: (height, width) of images in px; None for the entry's published crop, 225 x 225 for a
        backbone.
      registry: where to look the name up: registry files, one path or several, beside the built-in one and
        those of `ZOO_REGISTRY`, which count anyway; or a loaded registry.
      precision: "float32", or "bfloat16" for convolutions in bfloat16.
      optimize: whether batch normalisation is folded into the convolutions: faster, equal up to rounding.
      output_stride: of a backbone: 8, 16 or 32 (None); an entry has its own.
      source: "checkpoint", or "saved_model" for the SavedModel that was published beside it, as it is.

    Returns:
      A network as `zoo.model.decoders.panoptic_deeplab.build_network` describes it; for a backbone a feature
      extractor
      of the end points `res1` ... `res5`, as `build_encoder` describes it. `network.entry` is the registry's
      entry, `network.receipt` says what was read, `network.predict_panoptic(image)` takes an image of any
      size to its panoptic map: see `zoo.predict_panoptic`. From a SavedModel, a
      `zoo.network.saved_model.SavedModelNetwork`, which is called in the same way.

    Raises:
      UnknownNameError: the name matches no entry, or several.
      UsageError: a precision, input size or output stride that cannot be built.
      CheckpointError: the checkpoint does not restore the whole network, or is corrupt.
      ZooError: it could not be fetched or verified.
    """
    entry = _find(name, registry)
    input_size = _checked_size(entry, input_size)
    if source == "saved_model":
        options = {
            "checkpoint": checkpoint,
            "input_size": input_size,
            "precision": None if precision == "float32" else precision,
            "optimize": optimize or None,
            "output_stride": output_stride,
        }
        return _load_saved_model(entry, [name for name, value in options.items() if value is not None])
    if source != "checkpoint":
        raise UsageError(f"{entry.name}: source: expected checkpoint or saved_model, found {source!r}")
    prefix, archive_sha256 = _locate(entry, checkpoint)
    return _load(entry, prefix, archive_sha256, input_size, precision, optimize, output_stride)


def load_entry(
    entry: Entry,
    checkpoint: Fetched,
    input_size: tuple[int, int] | None = None,
    precision: str = "float32",
    optimize: bool = False,
) -> keras.Model:
    """Like `load`, for an entry and a checkpoint that are at hand.

    Raises:
      ZooError: as `load`.
    """
    return _load(entry, checkpoint.path, checkpoint.sha256, input_size, precision, optimize)


def load_check(
    name: str, checkpoint: str | os.PathLike[str] | None = None, registry: RegistryLike | None = None
) -> Receipt:
    """Restores the network of an entry as `load` does and returns the receipt alone.

    Raises:
      ZooError: as `load`.
    """
    network: Any = load(name, checkpoint, registry=registry)
    receipt: Receipt = network.receipt
    return receipt


def _find(name: str, registry: RegistryLike | None) -> Entry | Backbone:
    return _registry(registry).find(name)


def _registry(chosen: RegistryLike | None) -> Registry:
    from zoo.registry import Registry, load_registry

    if chosen is None or isinstance(chosen, Registry):
        return chosen or load_registry()
    return load_registry([chosen] if isinstance(chosen, (str, os.PathLike)) else chosen)


def _build(
    entry: Entry | Backbone,
    input_size: tuple[int, int] | None,
    precision: str,
    output_stride: int | None = None,
    random_values: bool = True,
) -> keras.Model:
    import_tensorflow()
    from zoo.model.decoders.panoptic_deeplab import build_encoder, build_network

    if entry.kind == "backbone":
        settings = encoder_settings(entry, output_stride or BACKBONE_OUTPUT_STRIDE)
        network = build_encoder(settings, input_size, precision=precision, random_values=random_values)
    elif output_stride not in (None, entry.output_stride):
        raise UsageError(
            f"{entry.name}: output_stride: expected {entry.output_stride}, found {output_stride}; "
            "only an ImageNet backbone can be given another one"
        )
    else:
        size = input_size or entry.evaluation.crop_size
        network = build_network(entry.network, size, precision=precision, random_values=random_values)
    return _of_entry(network, entry)


def _checked_size(entry: Entry | Backbone, size: Any) -> tuple[int, int] | None:
    """Returns the (height, width) that a caller asked for."""
    if size is None:
        return None
    try:
        height, width = map(operator.index, size)
    except (TypeError, ValueError):
        height, width = 0, 0
    if min(height, width) < 2:
        raise UsageError(
            f"{entry.name}: input_size: expected (height, width), two whole numbers of at least 2 px, "
            f"found {size!r}"
        )
    return height, width


def _of_entry(network: keras.Model, entry: Entry | Backbone) -> keras.Model:
    """Gives a network what belongs to its entry."""
    from zoo.network.prediction import predict_panoptic

    network.entry = entry
    if entry.kind == "panoptic":
        network.predict_panoptic = MethodType(predict_panoptic, network)
    return network


def encoder_settings(backbone: Backbone, output_stride: int) -> Any:
    """Returns what `build_encoder` reads, with what an ImageNet checkpoint does not decide."""
    from zoo.registry.network_options import BackboneOptions, BatchNormOptions

    if output_stride not in (8, 16, 32):
        raise UsageError(f"{backbone.name}: output_stride: expected 8, 16 or 32, found {output_stride}")
    architecture = backbone.network.backbone
    options = BackboneOptions(
        **architecture.model_dump(),
        output_stride=output_stride,  # type: ignore[arg-type]
        drop_path_keep_prob=1.0,
        drop_path_schedule="constant",
        low_level_endpoints="block_output" if architecture.name.startswith("mobilenet_v3") else None,
    )
    return SimpleNamespace(
        backbone=options,
        batch_norm=BatchNormOptions(epsilon=0.001, momentum=0.99),
        train_crop_size=BACKBONE_INPUT_SIZE,
    )


def _backbone_source(
    entry: Entry | Backbone, weights: str | os.PathLike[str], registry: RegistryLike | None
) -> tuple[Entry | Backbone, str | os.PathLike[str] | None]:
    """Returns the entry that `backbone_weights` means, and the checkpoint if it is one."""
    text = os.fspath(weights)
    registry = _registry(registry)
    is_file = "://" in text or os.path.lexists(text) or os.path.lexists(f"{text}.index")
    if is_file and all(text != backbone.name for backbone in registry.backbones):
        return entry, weights
    backbone = registry.find(text)
    expected = {name: getattr(entry.network.backbone, name) for name in ARCHITECTURE}
    found = {name: getattr(backbone.network.backbone, name) for name in ARCHITECTURE}
    different = [name for name in ARCHITECTURE if expected[name] != found[name]]
    if different:
        name = different[0]
        raise UsageError(
            f"{entry.name}: backbone_weights {backbone.name}: {name}: expected {expected[name]}, "
            f"found {found[name]}; choose the backbone of this network"
        )
    return backbone, None


def _restore(
    network: keras.Model, name: str, prefix: Path, archive_sha256: str | None, part: str = ""
) -> Receipt:
    from zoo.model.backbones.residual import switches_of_strided_blocks
    from zoo.model.checkpoint import restore, variables

    may_lack = switches_of_strided_blocks(variables(network)) if part else ()
    try:
        receipt = restore(network, str(prefix), part=part, may_lack=may_lack)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    return dataclasses.replace(receipt, archive_sha256=archive_sha256)


def _load(
    entry: Entry | Backbone,
    prefix: Path,
    archive_sha256: str | None,
    input_size: tuple[int, int] | None,
    precision: str,
    optimize: bool,
    output_stride: int | None = None,
) -> keras.Model:
    from zoo.model.folding import fold_batch_norm

    network = _build(entry, input_size, precision, output_stride, random_values=False)
    part = "encoder/" if entry.kind == "backbone" else ""
    receipt = _restore(network, entry.name, prefix, archive_sha256, part)
    if optimize:
        network = _of_entry(fold_batch_norm(network, consume=True), entry)
    network.receipt = receipt
    return network


def _load_saved_model(entry: Entry | Backbone, options: list[str]) -> SavedModelNetwork:
    from zoo.fetch.fetcher import Fetcher
    from zoo.network.saved_model import load_saved_model

    if entry.kind == "backbone":
        raise UsageError(f"{entry.name}: source: expected checkpoint, found saved_model: backbones have none")
    if options:
        raise UsageError(
            f'{entry.name}: {", ".join(options)}: expected none of these with source="saved_model", which is '
            'taken as it was published; use source="checkpoint"'
        )
    return load_saved_model(entry, Fetcher())


def _locate(entry: Entry | Backbone, checkpoint: str | os.PathLike[str] | None) -> tuple[Path, str | None]:
    """Returns a checkpoint's prefix, and the digest of the archive it came in."""
    import_tensorflow()
    from zoo.fetch.archive import find_checkpoint
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry.schema import RemoteFile

    if checkpoint is not None and "://" in os.fspath(checkpoint):
        entry = entry.model_copy(update={"checkpoint": RemoteFile(url=os.fspath(checkpoint))})
        checkpoint = None
    if checkpoint is None:
        fetched = Fetcher().checkpoint(entry)
        return fetched.path, fetched.sha256
    path = Path(checkpoint)
    prefix = path.with_name(path.name.removesuffix(".index"))
    if prefix.with_name(f"{prefix.name}.index").is_file():
        return prefix, None
    if path.is_dir():
        return find_checkpoint(path), None
    if path.is_file():
        return Fetcher().own_checkpoint(path)
    raise CheckpointError(
        f"{entry.name}: no checkpoint {checkpoint}: expected {path.name}.index beside its data files, "
        "a folder with one checkpoint, or an archive of one"
    )
