"""Files of `reports/` that are generated, and whether they are as they would be generated now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DataError
from zoo.files.atomic import write_atomically
from zoo.reports.tables.published import published_tables

if TYPE_CHECKING:
    from zoo.registry import Registry

COMMAND = "zoo report write"


def published_page(registry: Registry) -> str:
    """Returns the page of the published tables."""
    return (
        f"<!-- Generated from registry.yaml by `{COMMAND}`; changes made here are lost. -->\n\n"
        "# The published tables\n\n"
        "As google-research/deeplab2 printed them, irregularities included. Links to configurations start\n"
        "at its `g3doc/projects`. `[*]` is the data set's official scripts, `[**]` the pipeline of the\n"
        "reference implementation.\n\n"
        f"{published_tables(registry)}"
    )


GENERATED: dict[str, Callable[[Registry], str]] = {"published.md": published_page}
"""Name of a file -> what makes its text from the registry."""


def write_generated(registry: Registry, folder: Path) -> list[Path]:
    """Writes the generated files into a folder and returns those that changed.

    Raises:
      DataError: there is no such folder.
    """
    stale = stale_files(registry, folder)
    for path in stale:
        write_atomically(path, GENERATED[path.name](registry))
    return stale


def stale_files(registry: Registry, folder: Path) -> list[Path]:
    """Returns the generated files that are missing in a folder, or not as they would be generated now.

    Raises:
      DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected the folder of the generated tables, found none; "
            "call it in the root of a checkout, or give --folder"
        )
    return [
        folder / name for name, make in GENERATED.items() if _bytes(folder / name) != make(registry).encode()
    ]


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
