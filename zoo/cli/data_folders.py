"""The option `--data`: which folder holds which data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.registry import Registry


def data_folders(texts: Sequence[str], registry: Registry, only_needed: str | None = None) -> dict[str, Path]:
    """Returns data set -> its folder, from `DATASET=DIR`.

    Args:
      texts: what `--data` was given, once or more.
      registry: where the data sets are declared.
      only_needed: the one data set that is needed, whose folder may be given without its name.

    Raises:
      UsageError: another form, an unknown data set, or two folders of one.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if only_needed is not None and (not equals or Path(text).expanduser().exists()):
            name, folder = only_needed, text
        elif not (name and equals and folder):
            raise UsageError(f"--data {text}: expected DATASET=DIR, e.g. cityscapes=~/cityscapes")
        name = registry.dataset(name).name
        if name in folders:
            raise UsageError(f"--data {text}: expected one folder of {name}, found {folders[name]} before")
        folders[name] = Path(folder).expanduser().absolute()
    return folders
