"""Ways to break correct predictions that several forms share; tests run this file by its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DataError
from zoo.repro.datasets.dataset import Dataset
from zoo.repro.predictions.check import check_predictions
from zoo.repro.predictions.finding import FindingError
from zoo.repro.predictions.fix import fix_predictions
from zoo.repro.predictions.predictions import PredictedImage, open_predictions


class Break(NamedTuple):
    """One way: what it does, and the finding that it has to cause.

    Attributes:
      kind, file, found: of the first finding of the kind; `file` and `found` are parts of it.
      count: how many there are; None for one or more.
      fixable: whether a corrected copy scores as before.
    """

    function: Callable[[Path], Any]
    kind: str
    file: str
    found: str
    count: int | None = 1
    fixable: bool = False
    blocks: bool = True


def rows_of(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    content = json.loads((folder / "panoptic.json").read_text())
    return content, content["annotations"]


def edits(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    def function(folder: Path) -> None:
        content, rows = rows_of(folder)
        change(rows)
        (folder / "panoptic.json").write_text(json.dumps(content))

    return function


def segments(
    change: Callable[[dict[str, Any]], object], *, images: slice = slice(1)
) -> Callable[[Path], None]:
    def of_rows(rows: list[dict[str, Any]]) -> None:
        for row in rows[images]:
            for segment in row["segments_info"]:
                change(segment)

    return edits(of_rows)


def first_file(folder: Path, part: str = "panoptic") -> Path:
    return min((folder / part).glob("*.png"))


def pixels(change: Callable[[Image.Image], Image.Image], part: str = "panoptic") -> Callable[[Path], None]:
    def function(folder: Path) -> None:
        path = first_file(folder, part)
        with Image.open(path) as image:
            changed = change(image.copy())
        changed.save(path, "PNG")

    return function


def as_jpeg(part: str = "panoptic") -> Callable[[Path], None]:
    def function(folder: Path) -> None:
        path = first_file(folder, part)
        with Image.open(path) as image:
            pixels = image.convert("RGB")
        pixels.save(path, "JPEG")

    return function


def removed(pattern: str) -> Callable[[Path], None]:
    return lambda folder: min(folder.glob(pattern)).unlink()


def look(broken: Break, folder: Path, dataset: Dataset) -> None:
    broken.function(folder)
    check = check_predictions(folder, dataset)
    found = [finding for finding in check.findings if finding.kind == broken.kind]
    assert found, check
    assert broken.count in (None, check.counts[broken.kind]), check
    first = min(found, key=lambda finding: broken.found not in finding.found)
    assert broken.file in first.file
    assert broken.found in first.found
    assert (first.fixable, first.blocks) == (broken.fixable, broken.blocks), first
    assert "\n" not in str(first)
    assert str(first) in str(check)
    if broken.blocks:
        with pytest.raises(DataError, match=r"expected .*, found "):
            read_all(folder, dataset)


def read_all(folder: Path, dataset: Dataset) -> list[PredictedImage]:
    predictions = open_predictions(folder, dataset)
    read = [predictions.read(image_id) for image_id in dataset.image_ids]
    for finding in (*predictions.problems, *(finding for _, findings in read for finding in findings)):
        if finding.blocks:
            raise FindingError(finding)
    return [image for image, _ in read]


def mend(broken: Break, folder: Path, dataset: Dataset) -> None:
    correct = read_all(folder, dataset)
    broken.function(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    fixed = fix_predictions(folder, folder.with_name("fixed"), dataset)
    assert fixed.changed[broken.kind], fixed
    assert fixed.left == ()
    check = check_predictions(folder.with_name("fixed"), dataset)
    assert check.ok, check
    for was, image in zip(correct, read_all(folder.with_name("fixed"), dataset), strict=True):
        np.testing.assert_array_equal(image.panoptic, was.panoptic)
        np.testing.assert_array_equal(image.semantic, was.semantic)
        assert image.instances is not None
        assert was.instances is not None
        np.testing.assert_array_equal(image.instances.labels, was.instances.labels)
        np.testing.assert_allclose(image.instances.score, was.instances.score, rtol=1e-6)
        assert len(image.masks or []) == len(was.masks or [])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
