"""What the tests of the reports share.

The files in `tests/data/reports` are tables of google-research/deeplab2 (Apache-2.0), as published.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.registry import Registry, load_registry

DATA = Path(__file__).parent.parent / "data" / "reports"


@pytest.fixture(scope="session")
def registry() -> Registry:
    return load_registry()


@pytest.fixture(scope="session")
def cityscapes_table() -> str:
    return (DATA / "published_cityscapes.md").read_bytes().decode()


@pytest.fixture(scope="session")
def coco_table() -> str:
    return (DATA / "published_coco.md").read_bytes().decode()


WriteRecord = Callable[..., Path]


@pytest.fixture
def write_record(tmp_path: Path) -> WriteRecord:
    """Returns a function that writes a run record and returns its path."""

    def write(entry: str, name: str = "", **fields: Any) -> Path:
        record = {
            "schema": 1,
            "entry": entry,
            "images": 30,
            "images_in_dataset": 30,
            "claims": [],
            "metrics": {},
            **fields,
        }
        path = tmp_path / (name or entry.replace("/", "__")) / "record.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record), encoding="utf-8")
        return path

    return write
