"""Finds the checkpoint that a caller means, and restores a network from it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo.errors import CheckpointError, UsageError
from zoo.files.tensorflow import import_tensorflow

if TYPE_CHECKING:
    import keras

    from zoo.model.checkpoint import Receipt
    from zoo.registry import Backbone, Entry, Registry

ARCHITECTURE = (
    "name",
    "use_squeeze_and_excite",
    "stem_width_multiplier",
    "backbone_width_multiplier",
    "backbone_layer_multiplier",
    "use_sac_beyond_stride",
)
"""The settings that decide an encoder's variables."""


class CheckpointFile(NamedTuple):
    """A checkpoint on disk.

    Attributes:
      owner: the name of its entry, for error messages.
      prefix: its path, without `.index`.
      sha256: digest of the archive that it came in; None where there is none.
    """

    owner: str
    prefix: Path
    sha256: str | None = None

    def restore_into(self, model: keras.Model, part: str = "") -> Receipt:
        """Restores a Keras network, or only the part whose keys start with `part`, such as "encoder/".

        Raises:
          CheckpointError: the checkpoint does not restore all of that, or is corrupt.
        """
        from zoo.model.backbones.residual import switches_of_strided_blocks
        from zoo.model.checkpoint import restore, variables

        may_lack = switches_of_strided_blocks(variables(model)) if part else ()
        try:
            receipt = restore(model, str(self.prefix), part=part, may_lack=may_lack)
        except CheckpointError as error:
            raise CheckpointError(f"{self.owner}: {error}") from error
        return dataclasses.replace(receipt, archive_sha256=self.sha256)


def find_checkpoint_of(
    entry: Entry | Backbone, chosen: str | os.PathLike[str] | None = None
) -> CheckpointFile:
    """Returns an entry's own checkpoint, fetched and verified, or the one `chosen` as for `zoo.load`.

    Raises:
      CheckpointError: there is no such checkpoint.
      ZooError: it could not be fetched or verified.
    """
    import_tensorflow()
    from zoo.fetch.archive import find_checkpoint
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry.schema import RemoteFile

    if chosen is not None and "://" in os.fspath(chosen):
        entry = entry.model_copy(update={"checkpoint": RemoteFile(url=os.fspath(chosen))})
        chosen = None
    if chosen is None:
        fetched = Fetcher().checkpoint(entry)
        return CheckpointFile(entry.name, fetched.path, fetched.sha256)
    path = Path(chosen)
    prefix = path.with_name(path.name.removesuffix(".index"))
    if prefix.with_name(f"{prefix.name}.index").is_file():
        return CheckpointFile(entry.name, prefix)
    if path.is_dir():
        return CheckpointFile(entry.name, find_checkpoint(path))
    if path.is_file():
        return CheckpointFile(entry.name, *Fetcher().own_checkpoint(path))
    raise CheckpointError(
        f"{entry.name}: no checkpoint {chosen}: expected {path.name}.index beside its data files, "
        "a folder with one checkpoint, or an archive of one"
    )


def find_backbone_weights(
    entry: Entry | Backbone, weights: str | os.PathLike[str], registry: Registry
) -> CheckpointFile:
    """Returns the checkpoint that `backbone_weights` means: of an ImageNet backbone by name, or a file.

    Raises:
      UsageError: a backbone of another kind than the entry's.
      ZooError: as `find_checkpoint_of`, or the name is unknown.
    """
    text = os.fspath(weights)
    is_file = "://" in text or os.path.lexists(text) or os.path.lexists(f"{text}.index")
    if is_file and all(text != backbone.name for backbone in registry.backbones):
        return find_checkpoint_of(entry, weights)
    backbone = registry.find(text)
    for name in ARCHITECTURE:
        expected, found = (getattr(each.network.backbone, name) for each in (entry, backbone))
        if expected != found:
            raise UsageError(
                f"{entry.name}: backbone_weights {backbone.name}: {name}: expected {expected}, "
                f"found {found}; choose the backbone of this network"
            )
    return find_checkpoint_of(backbone)
