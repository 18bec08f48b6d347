"""From a registry name to a ready network."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import CheckpointError

if TYPE_CHECKING:
    import keras

    from zoo.fetching import FetchedCheckpoint
    from zoo.model.checkpoint import Receipt
    from zoo.registry import Entry, Registry


def build(
    name: str,
    input_size: tuple[int, int] | None = None,
    registry: Registry | None = None,
    precision: str = "float32",
) -> keras.Model:
    """Builds the network of an entry, not loaded.

    Args:
      name: of the entry, full, or short where that is unambiguous.
      input_size: (height, width) of images in px; None for the entry's published crop.
      registry: where to look the name up; None for the built-in one with those of `ZOO_REGISTRY`.
      precision: "float32", or "bfloat16" for convolutions in bfloat16.

    Returns:
      A network as `zoo.model.panoptic_deeplab.build_network` describes it; `network.entry` is the registry's
      entry.

    Raises:
      UnknownNameError: the name fits no entry, or several.
      UsageError: a precision or input size that cannot be built.
    """
    return _build(_entry(name, registry), input_size, precision)


def load(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    input_size: tuple[int, int] | None = None,
    registry: Registry | None = None,
    precision: str = "float32",
    optimize: bool = False,
) -> keras.Model:
    """Builds the network of an entry and restores it completely from its checkpoint.

    Args:
      name: of the entry, full, or short where that is unambiguous.
      checkpoint: to restore instead of the entry's own: a prefix (`.../ckpt-60000`), a folder that holds one
        checkpoint, an archive, or the URL of an archive.
      input_size: (height, width) of images in px; None for the entry's published crop.
      registry: where to look the name up; None for the built-in one with those of `ZOO_REGISTRY`.
      precision: "float32", or "bfloat16" for convolutions in bfloat16.
      optimize: whether batch normalisation is folded into the convolutions: faster, equal up to rounding.

    Returns:
      A network as `zoo.model.panoptic_deeplab.build_network` describes it; `network.entry` is the registry's
      entry, `network.receipt` says what was read.

    Raises:
      UnknownNameError: the name fits no entry, or several.
      UsageError: a precision or input size that cannot be built.
      CheckpointError: the checkpoint does not restore the whole network, or is corrupt.
      ZooError: it could not be fetched or verified.
    """
    entry = _entry(name, registry)
    prefix, archive_sha256 = _locate(entry, checkpoint)
    return _load(entry, prefix, archive_sha256, input_size, precision, optimize)


def load_entry(
    entry: Entry,
    checkpoint: FetchedCheckpoint,
    input_size: tuple[int, int] | None = None,
    precision: str = "float32",
    optimize: bool = False,
) -> keras.Model:
    """Like `load`, for an entry and a checkpoint that are at hand.

    Raises:
      ZooError: as `load`.
    """
    return _load(entry, checkpoint.prefix, checkpoint.sha256, input_size, precision, optimize)


def load_check(
    name: str, checkpoint: str | os.PathLike[str] | None = None, registry: Registry | None = None
) -> Receipt:
    """Restores the network of an entry as `load` does and returns the receipt alone.

    Raises:
      ZooError: as `load`.
    """
    return load(name, checkpoint, registry=registry).receipt


def _entry(name: str, registry: Registry | None) -> Entry:
    from zoo.registry import load_registry

    return (registry or load_registry()).resolve(name)


def _build(entry: Entry, input_size: tuple[int, int] | None, precision: str) -> keras.Model:
    from zoo.model.panoptic_deeplab import build_network

    network = build_network(entry.network, input_size or entry.evaluation.crop_size, precision=precision)
    network.entry = entry
    return network


def _load(
    entry: Entry,
    prefix: Path,
    archive_sha256: str | None,
    input_size: tuple[int, int] | None,
    precision: str,
    optimize: bool,
) -> keras.Model:
    from zoo.model.checkpoint import restore
    from zoo.model.folding import fold_batch_norm

    network = _build(entry, input_size, precision)
    try:
        receipt = restore(network, str(prefix))
    except CheckpointError as error:
        raise CheckpointError(f"{entry.name}: {error}") from error
    if optimize:
        network = fold_batch_norm(network)
        network.entry = entry
    network.receipt = dataclasses.replace(receipt, archive_sha256=archive_sha256)
    return network


def _locate(entry: Entry, checkpoint: str | os.PathLike[str] | None) -> tuple[Path, str | None]:
    """Returns a checkpoint's prefix, and the digest of the archive it came in."""
    from zoo.archive import find_checkpoint
    from zoo.fetching import fetch_checkpoint
    from zoo.schema import RemoteFile

    if checkpoint is not None and "://" in os.fspath(checkpoint):
        entry = entry.model_copy(update={"checkpoint": RemoteFile(url=os.fspath(checkpoint))})
        checkpoint = None
    if checkpoint is None:
        fetched = fetch_checkpoint(entry)
        return fetched.prefix, fetched.sha256
    path = Path(checkpoint)
    prefix = path.with_name(path.name.removesuffix(".index"))
    if prefix.with_name(f"{prefix.name}.index").is_file():
        return prefix, None
    if path.is_dir():
        return find_checkpoint(path), None
    if path.is_file():
        return _unpack(path)
    raise CheckpointError(
        f"{entry.name}: no checkpoint {checkpoint}: expected {path.name}.index beside its data files, "
        "a folder with one checkpoint, or an archive of one"
    )


def _unpack(archive: Path) -> tuple[Path, str]:
    from zoo.archive import find_checkpoint
    from zoo.cache import Cache
    from zoo.downloaded import digest_file
    from zoo.unpacked import unpack_into_cache

    sha256 = digest_file(archive).sha256
    unpacked = unpack_into_cache(archive, sha256, "checkpoints", Cache())
    return find_checkpoint(unpacked.folder), sha256
