"""The official COCO scores, on predictions made from ground truth."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling
from PIL import Image

from zoo.repro.coco.classes import COCO
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.coco.script_jobs import panoptic_script
from zoo.repro.datasets.opening import open_files
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.official.scripts import OfficialScores, start_official

# panopticapi's module is the one from which the script of cityscapesscripts was made.
PANOPTICAPI = (
    Path(evalPanopticSemanticLabeling.__file__).read_text()
    + """

def pq_compute(gt_json_file, pred_json_file, gt_folder=None, pred_folder=None):
    return evaluatePanoptic(gt_json_file, gt_folder, pred_json_file, pred_folder, "own.json")
"""
)


@pytest.fixture
def dataset(minicoco: Path, tmp_path: Path) -> CocoDataset:
    dataset = open_files(CocoDataset, minicoco, "val2017", cache=tmp_path / "cache")
    assert isinstance(dataset, CocoDataset)
    return dataset


def predict(
    dataset: CocoDataset, folder: Path, images: Sequence[int], move: tuple[int, int] = (0, 0)
) -> None:
    """Writes ground truth, moved by some pixels, as predictions; crowd regions are void."""
    for index in images:
        sample = dataset.load(index)
        panoptic = np.roll(sample.panoptic, move, (0, 1))
        labels = np.unique(panoptic)
        things = labels[labels % 256 > 0]
        write_predictions(
            folder,
            sample.image_id,
            panoptic=panoptic,
            semantic=np.roll(sample.semantic, move, (0, 1)),
            instances=SimpleNamespace(labels=things, score=0.5 + things % 7 / 20),
            info=COCO,
        )


def score(dataset: CocoDataset, tmp_path: Path, images: Sequence[int]) -> OfficialScores:
    image_ids = [dataset.image_ids[index] for index in images]
    with start_official(dataset, image_ids, tmp_path / "predictions", tmp_path / "official") as run:
        return run.finish()


def test_ground_truth_as_prediction_is_perfect(dataset: CocoDataset, tmp_path: Path) -> None:
    images = range(len(dataset))
    predict(dataset, tmp_path / "predictions", images)
    scores = score(dataset, tmp_path, images)
    for metric in ("pq", "sq", "rq", "pq_things", "sq_stuff", "rq_stuff"):
        assert scores.metrics[metric] == 100.0, metric
    # The instance annotations hold what other things cover in the panoptic ones.
    assert 80 < scores.metrics["ap"] <= 100.0
    assert scores.provenance["handled"] == []
    assert all(script["as_published"] for script in scores.provenance["scripts"].values())
    assert scores.per_class["pq"]["person"] == 100.0
    assert scores.per_class["pq"]["zebra"] == 0.0
    assert "void" not in scores.per_class["pq"]
    assert set(scores.per_class["ap"]) == {COCO.class_names[i] for i in COCO.thing_class_ids}


def plain_panoptic_quality(dataset: CocoDataset, predictions: Path, images: Sequence[int]) -> float:
    """PQ from the written PNG and JSON files, segment by segment, as the task's paper and page define it."""
    counts = np.zeros((201, 4))
    truth = json.loads(dataset.panoptic_json.read_text())
    for index in images:
        annotation = truth["annotations"][index]
        name = Path(annotation["file_name"]).stem
        maps = []
        for folder in (dataset.panoptic_folder, predictions / "panoptic"):
            colours = np.array(Image.open(folder / f"{name}.png").convert("RGB")).astype(np.int64)
            maps.append(colours @ [1, 256, 65536])
        predicted = json.loads((predictions / f"panoptic/{name}.json").read_text())["segments_info"]
        matched = set()
        for segment in annotation["segments_info"]:
            if segment["iscrowd"]:
                continue
            mask = maps[0] == segment["id"]
            for other in predicted:
                if other["category_id"] != segment["category_id"]:
                    continue
                other_mask = maps[1] == other["id"]
                intersection = (mask & other_mask).sum()
                union = mask.sum() + other_mask.sum() - intersection - (other_mask & (maps[0] == 0)).sum()
                if intersection / union > 0.5:
                    counts[segment["category_id"], :2] += [intersection / union, 1]
                    matched.add(other["id"])
                    break
            else:
                counts[segment["category_id"], 3] += 1
        for other in predicted:
            if other["id"] in matched:
                continue
            mask = maps[1] == other["id"]
            ignored = maps[0] == 0
            for segment in annotation["segments_info"]:
                if segment["iscrowd"] and segment["category_id"] == other["category_id"]:
                    ignored = ignored | (maps[0] == segment["id"])
            if (mask & ignored).sum() / mask.sum() <= 0.5:
                counts[other["category_id"], 2] += 1
    occurs = counts[:, 1:].any(axis=1)
    iou, tp, fp, fn = counts[occurs].T
    return float(100 * (iou / (tp + fp / 2 + fn / 2)).mean())


def test_moved_ground_truth_equals_a_plain_computation(dataset: CocoDataset, tmp_path: Path) -> None:
    images = range(0, 30, 3)
    predict(dataset, tmp_path / "predictions", images, move=(3, -5))
    scores = score(dataset, tmp_path, images)
    expected = plain_panoptic_quality(dataset, tmp_path / "predictions", images)
    assert 20 < expected < 95
    assert scores.metrics["pq"] == pytest.approx(expected, abs=1e-9)


def test_written_colours_hold_segments_of_original_categories(dataset: CocoDataset, tmp_path: Path) -> None:
    predict(dataset, tmp_path, [0])
    sample = dataset.load(0)
    colours = np.array(Image.open(tmp_path / f"panoptic/{sample.image_id}.png")).astype(np.int64)
    ids = colours @ [1, 256, 65536]
    entry = json.loads((tmp_path / f"panoptic/{sample.image_id}.json").read_text())
    found = {segment["id"]: segment["category_id"] for segment in entry["segments_info"]}
    assert set(np.unique(ids)) - {0} == set(found)
    category = np.zeros(ids.shape, np.int64)
    for segment, category_id in found.items():
        category[ids == segment] = category_id
    original_ids = np.array(COCO.original_ids)
    np.testing.assert_array_equal(category, original_ids[sample.semantic])
    semantic = np.array(Image.open(tmp_path / f"semantic/{sample.image_id}.png"))
    np.testing.assert_array_equal(semantic, original_ids[sample.semantic])
    # One to one with the panoptic labels.
    pairs = np.unique(np.stack([ids.ravel(), sample.panoptic.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_nothing_detected_scores_zero(dataset: CocoDataset, tmp_path: Path) -> None:
    sample = dataset.load(0)
    write_predictions(
        tmp_path / "predictions",
        sample.image_id,
        panoptic=np.zeros_like(sample.panoptic),
        semantic=sample.semantic,
        instances=SimpleNamespace(labels=np.zeros(0, np.int32), score=np.zeros(0)),
        info=COCO,
    )
    scores = score(dataset, tmp_path, [0])
    assert scores.metrics["pq"] == scores.metrics["ap"] == 0.0
    assert scores.provenance["handled"] == ["instance: nothing was detected, AP is 0"]


def test_panopticapi_is_taken_where_it_is_installed(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(dataset, tmp_path / "predictions", [0, 1], move=(2, 2))
    without = score(dataset, tmp_path, [0, 1])
    assert panoptic_script()["script"].startswith("cityscapesscripts")
    package = tmp_path / "site" / "panopticapi"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "evaluation.py").write_text(PANOPTICAPI)
    information = tmp_path / "site" / "panopticapi-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: panopticapi\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    found = score(dataset, tmp_path, [0, 1])
    assert found.metrics == without.metrics
    assert "panopticapi 0.1" in found.provenance["package"]
    assert "panopticapi" not in without.provenance["package"]
    for name in ("panopticapi", "panopticapi.evaluation"):
        sys.modules.pop(name, None)


def test_a_part_of_the_images_is_scored_alone(dataset: CocoDataset, tmp_path: Path) -> None:
    predict(dataset, tmp_path / "predictions", [4, 7], move=(1, 0))
    part: dict[str, Any] = score(dataset, tmp_path, [4]).metrics
    both: dict[str, Any] = score(dataset, tmp_path, [4, 7]).metrics
    assert part["pq"] != both["pq"]
    assert part["ap"] != both["ap"]


def test_parts_give_the_same_files_as_the_whole(dataset: CocoDataset, tmp_path: Path) -> None:
    images = range(0, 30, 2)
    predict(dataset, tmp_path / "predictions", images, move=(2, -3))
    # One image where nothing is detected.
    image_ids = [dataset.image_ids[index] for index in images]
    (tmp_path / f"predictions/instance/{image_ids[3]}.json").write_text("[]")
    expected = score(dataset, tmp_path, images)
    files = {path: path.read_bytes() for path in (tmp_path / "official").glob("*/result.json")}
    parts = []
    for part in (image_ids[4:], image_ids[3:4], image_ids[:3]):
        with start_official(dataset, part, tmp_path / "predictions", tmp_path / "part") as run:
            parts.append(run.finish_part())
    for path in (tmp_path / "predictions/panoptic").glob("*.png"):
        path.write_bytes(b"broken")
    with start_official(dataset, image_ids, tmp_path / "predictions", tmp_path / "official") as run:
        for number, found in enumerate(parts):
            run.take_part(number, found)
        scores = run.finish()
    assert scores.metrics == expected.metrics
    assert {path: path.read_bytes() for path in files} == files
