"""Generates `reports/published.md`, or checks that it is up to date."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import DataError
from zoo.files.atomic import write_atomically
from zoo.registry import Registry
from zoo.reports.tables.published import published_tables

COMMAND = "zoo report write"
FILE = "published.md"


def page_text(registry: Registry) -> str:
    """Returns the page of the published tables."""
    return (
        f"<!-- Generated from registry.yaml by `{COMMAND}`; changes made here are lost. -->\n\n"
        "# The published tables\n\n"
        "As google-research/deeplab2 printed them, irregularities included. Links to configurations start\n"
        "at its `g3doc/projects`. `[*]` is the data set's official scripts, `[**]` the pipeline of the\n"
        "reference implementation.\n\n"
        f"{published_tables(registry)}"
    )


def write_generated(registry: Registry, folder: Path) -> list[Path]:
    """Writes the generated files into a folder and returns those that changed.

    Raises:
      DataError: there is no such folder.
    """
    stale = stale_files(registry, folder)
    for path in stale:
        write_atomically(path, page_text(registry))
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
    path = folder / FILE
    is_fresh = path.exists() and path.read_bytes() == page_text(registry).encode()
    return [] if is_fresh else [path]
