"""What the tests of the reports share.

The files in `tests/data/reports` are tables of google-research/deeplab2 (Apache-2.0), as published.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from zoo.registry import Registry, load_registry
from zoo.reports.lint.markdown_file import LintReport, lint_file

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


@pytest.fixture(scope="session")
def axial_table() -> str:
    return (DATA / "published_axial.md").read_bytes().decode()


@pytest.fixture(scope="session")
def kmax_tables() -> dict[str, str]:
    """The tables of kMaX-DeepLab by data set."""
    text = (DATA.parent / "registry/published_tables.md").read_text(encoding="utf-8")
    sections = re.findall(r"<!-- kmax_deeplab\.md:\d+ (\w+) -->\n(.*?\n)(?:\n|\Z)", text, re.DOTALL)
    return dict(sections)


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


@pytest.fixture
def text(cityscapes_table: str, coco_table: str) -> str:
    return (
        "# Panoptic-DeepLab\n\n### Cityscapes Panoptic Segmentation\n\n"
        f"{cityscapes_table}\n[*]: official\n\n"
        f"### COCO Panoptic Segmentation\n\n{coco_table}\nThe | end.\n"
    )


@pytest.fixture
def lint(registry: Registry, tmp_path: Path) -> Callable[..., LintReport]:
    def run(text: str, dataset: str | None = None) -> LintReport:
        path = tmp_path / "tables.md"
        path.write_text(text, encoding="utf-8")
        return lint_file(path, registry, dataset)

    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes a run folder of drawn scenes, and returns it."""
    drawn_run = runpy.run_path(str(Path(__file__).with_name("drawn_run.py")))
    return partial(drawn_run["make_run"], tmp_path)
