"""COCO predictions on disk have the numbers of the run that made them: a folder, a run, and a .zip."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import zoo

Whole = Any  # Of conftest.py: an undisturbed run over all images.

# Beside the run that all of these files compare with.
pytestmark = pytest.mark.xdist_group("minicoco")


@pytest.mark.parametrize("form", ["run", "coco", "zip"])
def test_predictions_have_the_numbers_of_their_run(whole_coco: Whole, form: str, tmp_path: Path) -> None:
    predictions = whole_coco.folder
    if form != "run":
        predictions = tmp_path / "model"
        for part in ("panoptic", "semantic"):
            shutil.copytree(
                whole_coco.folder / "predictions" / part,
                predictions / part,
                ignore=shutil.ignore_patterns("*.json"),
            )
        shutil.copy(whole_coco.folder / "predictions" / "panoptic.json", predictions)
    if form == "zip":
        predictions = Path(shutil.make_archive(str(predictions), "zip", predictions))
    record = zoo.score(predictions, dataset="minicoco", out=tmp_path / "runs", claims=["pq=63.2", "ap=40"])
    for part in ("metrics", "per_class", "ap12", "pictures"):
        assert record[part] == whole_coco.record[part], part
    assert [claim["verdict"] for claim in record["claims"]] == ["match", "mismatch"]
