"""What the scripts find in images may be found anywhere, in parts of any size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets.opening import open_files
from zoo.repro.official.jobs import ScriptError
from zoo.repro.official.scripts import OfficialRun, start_official


def results(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/result.json")}


@pytest.fixture
def dataset(copy_images: Callable[..., Path], tmp_path: Path) -> CityscapesDataset:
    dataset = open_files(CityscapesDataset, copy_images(6), split="val", cache=tmp_path / "cache")
    assert isinstance(dataset, CityscapesDataset)
    return dataset


def start(dataset: Any, image_ids: Any, tmp_path: Path, folder: str, processes: int = 1) -> OfficialRun:
    return start_official(dataset, image_ids, tmp_path / "predictions", tmp_path / folder, processes)


def test_parts_give_the_same_files_as_the_whole(
    dataset: CityscapesDataset, tmp_path: Path, predict: Callable[..., None]
) -> None:
    predict(dataset, tmp_path / "predictions", (1, 2))
    ids = list(dataset.image_ids)
    with start(dataset, ids, tmp_path, "whole", 2) as run:
        expected = run.finish()
    assert 0 < expected.metrics["pq"] < 99
    parts = []
    # In another order, and of other sizes, than the two parts in which the panoptic script adds up.
    for part in (ids[3:], ids[:1], ids[1:3]):
        with start(dataset, part, tmp_path, "part") as run:
            parts.append(run.finish_part())
    assert [sorted(found) for found in parts] == [["instance", "panoptic", "pixel"]] * 3
    # Nothing is looked at again, so that files which no script can read do no harm.
    for path in (tmp_path / "predictions").glob("*/*.png"):
        path.write_bytes(b"broken")
    with start(dataset, ids, tmp_path, "joined", 2) as run:
        for number, found in enumerate(parts):
            run.take_part(number, found)
        scores = run.finish()
    assert results(tmp_path / "joined") == results(tmp_path / "whole")
    assert scores.metrics == expected.metrics
    assert scores.per_class == expected.per_class


def test_what_an_earlier_run_left_is_not_taken(
    dataset: CityscapesDataset, tmp_path: Path, predict: Callable[..., None]
) -> None:
    ids = dataset.image_ids[:2]
    predict(dataset, tmp_path / "predictions")
    with start(dataset, ids, tmp_path, "official") as run:
        run.take_part(0, run.finish_part())
    predict(dataset, tmp_path / "predictions", (1, 2))
    with start(dataset, ids, tmp_path, "official") as run:
        assert run.finish().metrics["pq"] < 99


def test_a_part_that_fails_says_so(
    dataset: CityscapesDataset, tmp_path: Path, predict: Callable[..., None]
) -> None:
    predict(dataset, tmp_path / "predictions")
    ids = dataset.image_ids[:2]
    description = json.loads((tmp_path / f"predictions/panoptic/{ids[1]}.json").read_text())
    description["segments_info"][0]["category_id"] = 999
    (tmp_path / f"predictions/panoptic/{ids[1]}.json").write_text(json.dumps(description))
    with (
        start(dataset, ids, tmp_path, "part") as run,
        pytest.raises(ScriptError, match=r"evalPanopticSemanticLabeling: ended .* unknown category_id 999"),
    ):
        run.finish_part()
