"""The registry that a command works on: the built-in one, and the files named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.registry import Registry

registry_files: list[Path] = []
"""What `--registry` named in the call that is running."""


def chosen_registry() -> Registry:
    """Returns the registry with the files of `ZOO_REGISTRY` and `--registry`.

    Raises:
      RegistryError: a file does not follow the schema.
    """
    from zoo.registry import load_registry

    return load_registry(registry_files)
