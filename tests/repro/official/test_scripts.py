from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cityscapesscripts
import numpy as np
import pytest
from PIL import Image

from zoo.errors import EvaluationError
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets.opening import open_files
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.official import process as official_process
from zoo.repro.official.scripts import OfficialScores, start_official

open_cityscapes = partial(open_files, CityscapesDataset, split="val")

PACKAGE = Path(cityscapesscripts.__file__).parent


def score(dataset: Any, tmp_path: Path, **options: Any) -> OfficialScores:
    image_ids = options.pop("image_ids", dataset.image_ids)
    with start_official(
        dataset, image_ids, tmp_path / "predictions", tmp_path / "official", **options
    ) as run:
        return run.finish()


def write_one(
    tmp_path: Path, image_id: str, panoptic: np.ndarray, scores: dict[int, float] | None = None
) -> None:
    scores = scores or {}
    write_predictions(
        tmp_path / "predictions",
        image_id,
        panoptic=panoptic,
        semantic=np.minimum(panoptic // 1000, 18),
        instances=SimpleNamespace(labels=np.array(list(scores)), score=np.array(list(scores.values()))),
        info=CITYSCAPES,
    )


def write_scene(root: Path, image_id: str, instance_ids: np.ndarray) -> None:
    """Writes an image with ground truth in the original layout."""
    city = image_id.split("_")[0]
    images, truth = root / "leftImg8bit/val" / city, root / "gtFine/val" / city
    images.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    label_ids = np.where(instance_ids >= 1000, instance_ids // 1000, instance_ids)
    Image.fromarray(np.zeros((*instance_ids.shape, 3), np.uint8)).save(images / f"{image_id}_leftImg8bit.png")
    Image.fromarray(label_ids.astype(np.uint8)).save(truth / f"{image_id}_gtFine_labelIds.png")
    Image.fromarray(instance_ids.astype(np.uint16)).save(truth / f"{image_id}_gtFine_instanceIds.png")


def test_ground_truth_as_prediction_is_perfect(
    tiny: CityscapesDataset, tmp_path: Path, predict: Callable[..., None]
) -> None:
    predict(tiny, tmp_path / "predictions")
    scores = score(tiny, tmp_path)
    for metric in ("pq", "sq", "rq", "pq_things", "pq_stuff", "miou", "iiou", "ap", "ap50"):
        assert scores.metrics[metric] == pytest.approx(100.0, abs=1e-9), metric
    assert scores.per_class["pq"]["road"] == pytest.approx(100.0)
    assert scores.per_class["ap"].keys() == {CITYSCAPES.class_names[i] for i in CITYSCAPES.thing_class_ids}
    assert scores.provenance["handled"] == []
    assert all(script["as_published"] for script in scores.provenance["scripts"].values())
    assert {f"official_{name}_s" for name in ("ground_truth", "panoptic", "pixel", "instance")} == set(
        scores.timings
    )


def by_hand(dataset: CityscapesDataset, tmp_path: Path) -> dict[str, Any]:
    """Runs the scripts as their own documentation says, but for the integers that NumPy 2.3 changed."""
    work = tmp_path / "by_hand"
    work.mkdir()
    shutil.copytree(dataset.root, work / "data")
    results = tmp_path / "predictions"
    results.joinpath("panoptic.json").unlink(missing_ok=True)
    annotations = [
        json.loads((results / f"panoptic/{image_id}.json").read_text()) for image_id in dataset.image_ids
    ]
    (work / "predictions.json").write_text(json.dumps({"annotations": annotations}))
    program = f"""
import sys, numpy
count = numpy.count_nonzero
numpy.count_nonzero = lambda *values, **named: int(count(*values, **named))
import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as script
script.args.gtInstancesFile = {str(work / "gtInstances.json")!r}
script.main()
"""
    module = [sys.executable, "-m"]
    environment = {**os.environ, "CITYSCAPES_DATASET": str(work / "data")}
    truth = work / "data" / "gtFine"
    for command, predictions in (
        ([*module, "cityscapesscripts.preparation.createPanopticImgs", "--set-names", "val"], "panoptic"),
        (
            [
                *module,
                "cityscapesscripts.evaluation.evalPanopticSemanticLabeling",
                *("--prediction-json-file", str(work / "predictions.json")),
                *("--prediction-folder", str(results / "panoptic")),
                *("--gt-json-file", str(truth / "cityscapes_panoptic_val.json")),
            ],
            "panoptic",
        ),
        ([*module, "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"], "semantic"),
        ([sys.executable, "-c", program], "instance"),
    ):
        environment["CITYSCAPES_RESULTS"] = str(results / predictions)
        subprocess.run(command, cwd=work, env=environment, check=True, capture_output=True)
    exported = work / "data" / "evaluationResults"
    return {
        "panoptic": json.loads((work / "resultPanopticSemanticLabeling.json").read_text()),
        "pixel": json.loads((exported / "resultPixelLevelSemanticLabeling.json").read_text()),
        "instance": json.loads((exported / "resultInstanceLevelSemanticLabeling.json").read_text()),
    }


def test_scores_equal_those_of_the_scripts_run_by_hand(
    copy_images: Callable[..., Path], tmp_path: Path, predict: Callable[..., None]
) -> None:
    dataset = open_cityscapes(copy_images(4), cache=tmp_path / "cache")
    assert isinstance(dataset, CityscapesDataset)
    predict(dataset, tmp_path / "predictions", (1, 2))
    # Four processes also take the way on which instances are matched in parallel.
    scores = score(dataset, tmp_path, processes=4)
    expected = by_hand(dataset, tmp_path)

    for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        for metric in ("pq", "sq", "rq"):
            found = scores.metrics[metric + suffix]
            assert found == pytest.approx(100 * expected["panoptic"][group][metric], rel=1e-12)
    assert 0 < scores.metrics["pq"] < 99
    assert scores.metrics["miou"] == 100 * expected["pixel"]["averageScoreClasses"]
    assert scores.metrics["iiou"] == pytest.approx(
        100 * expected["pixel"]["averageScoreInstClasses"], rel=1e-12
    )
    averages = expected["instance"]["averages"]
    assert scores.metrics["ap"] == 100 * averages["allAp"]
    assert scores.metrics["ap50"] == 100 * averages["allAp50%"]
    assert 0 < scores.metrics["ap"] < 99
    for name, label_id in zip(CITYSCAPES.class_names, CITYSCAPES.original_ids, strict=True):
        pq = expected["panoptic"]["per_class"][str(label_id)]["pq"]
        assert scores.per_class["pq"][name] == pytest.approx(100 * pq, rel=1e-12)
        iou = expected["pixel"]["classScores"][name]
        assert scores.per_class["iou"][name] == (None if math.isnan(iou) else 100 * iou)
    for name, values in averages["classes"].items():
        ap = values["ap"]
        assert scores.per_class["ap"][name] == (None if math.isnan(ap) else 100 * ap)


def test_nothing_is_written_into_the_package_the_data_or_the_current_folder(
    tiny: CityscapesDataset,
    tmp_path: Path,
    predict: Callable[..., None],
    snapshot: Callable[[Path], dict[str, tuple[int, int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    predict(tiny, tmp_path / "predictions")
    before = snapshot(PACKAGE), snapshot(tiny.root)
    # An old result of the user's must not be found either.
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(current))
    monkeypatch.setenv("CITYSCAPES_DATASET", str(current))
    monkeypatch.setenv("CITYSCAPES_EXPORT_DIR", str(current / "nowhere"))
    assert score(tiny, tmp_path).metrics["pq"] == pytest.approx(100.0)
    assert (snapshot(PACKAGE), snapshot(tiny.root)) == before
    assert list(current.iterdir()) == []
    assert (tmp_path / "official/instance/matches.json").exists()


def test_relative_folders_work(
    tiny: CityscapesDataset, tmp_path: Path, predict: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predict(tiny, tmp_path / "predictions")
    dataset = open_cityscapes(Path("data"), cache=Path("cache"))
    with start_official(dataset, dataset.image_ids, Path("predictions"), Path("official")) as run:
        assert run.finish().metrics["ap"] == pytest.approx(100.0)


def test_characters_that_patterns_know_are_no_trouble(
    minicity: Path, tmp_path: Path, predict: Callable[..., None]
) -> None:
    odd = tmp_path / "a [b] *c labelIds"
    shutil.copytree(
        minicity,
        odd / "data",
        ignore=lambda _, names: [n for n in names if "frankfurt_00001" in n or "frankfurt_00002" in n],
    )
    dataset = open_cityscapes(odd / "data", cache=odd / "cache")
    assert isinstance(dataset, CityscapesDataset)
    predict(dataset, odd / "predictions")
    assert score(dataset, odd).metrics["miou"] == pytest.approx(100.0)


def test_a_part_of_the_images_is_scored_alone(
    copy_images: Callable[..., Path], tmp_path: Path, predict: Callable[..., None]
) -> None:
    whole = open_cityscapes(copy_images(4, "whole"), cache=tmp_path / "cache")
    part = open_cityscapes(copy_images(2, "part"), cache=tmp_path / "cache")
    assert isinstance(part, CityscapesDataset)
    predict(part, tmp_path / "predictions", (1, 1))
    expected = score(part, tmp_path)
    found = score(whole, tmp_path, image_ids=whole.image_ids[:2])
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-12)
    assert expected.metrics["pq"] < 99


def test_missing_predictions_are_counted_and_named(
    copy_images: Callable[..., Path], tiny: CityscapesDataset, tmp_path: Path, predict: Callable[..., None]
) -> None:
    predict(tiny, tmp_path / "predictions")
    more = open_cityscapes(copy_images(3, "more"), cache=tmp_path / "cache")
    with pytest.raises(EvaluationError, match="1 of 3 predictions missing, first: frankfurt_000002_000019"):
        score(more, tmp_path)


@pytest.mark.parametrize(
    ("broken", "script"),
    [
        ("semantic/{}.png", "evalPixelLevelSemanticLabeling"),
        ("panoptic/{}.png", "evalPanopticSemanticLabeling"),
        ("instance/{}.txt", "evalInstanceLevelSemanticLabeling"),
    ],
)
def test_a_script_that_fails_is_told_in_one_line(
    tiny: CityscapesDataset, tmp_path: Path, predict: Callable[..., None], broken: str, script: str
) -> None:
    predict(tiny, tmp_path / "predictions")
    (tmp_path / "predictions" / broken.format(tiny.image_ids[1])).write_bytes(b"broken\n")
    scores = score(tiny, tmp_path)
    assert scores.metrics == scores.per_class == {}
    message = scores.provenance["failed"]
    assert "\n" not in message
    assert script in message
    assert scores.provenance["output"][-1] in message
    log = Path(message.rsplit("its output is in ", 1)[1])
    assert log.read_text().strip()
    assert log.is_relative_to(tmp_path / "official")


def scene_with_ignored_prediction(tmp_path: Path) -> CityscapesDataset:
    ids = np.full((64, 64), 7)
    ids[:20, :20] = 33001
    ids[40:, 40:] = 33
    ids[:20, 40:60] = 26001
    write_scene(tmp_path / "data", "town_000000_000000", ids)
    panoptic = np.zeros((64, 64), np.int32)
    panoptic[40:, 40:] = 18001
    panoptic[:20, 40:60] = 13001
    write_one(tmp_path, "town_000000_000000", panoptic, {18001: 0.5, 13001: 0.75})
    dataset = open_cityscapes(tmp_path / "data", cache=tmp_path / "cache")
    assert isinstance(dataset, CityscapesDataset)
    return dataset


def test_a_class_whose_predictions_are_all_ignored_scores_zero(tmp_path: Path) -> None:
    scores = score(scene_with_ignored_prediction(tmp_path), tmp_path)
    assert scores.per_class["ap"]["bicycle"] == 0.0
    assert scores.per_class["ap"]["car"] == 100.0
    assert scores.per_class["ap"]["person"] is None
    assert scores.metrics["ap"] == 50.0
    assert "instance: bicycle at 0.50: every prediction is ignored, AP is 0" in scores.provenance["handled"]
    assert not any("car" in line for line in scores.provenance["handled"])


def test_the_unmodified_script_does_fail_on_that_class(tmp_path: Path) -> None:
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    score(scene_with_ignored_prediction(tmp_path), tmp_path)
    matches = json.loads((tmp_path / "official/instance/matches.json").read_text())
    script.setInstanceLabels(script.args)
    with pytest.raises(IndexError, match="index -1 is out of bounds"):
        script.evaluateMatches(matches, script.args)


def test_images_without_things_have_no_number_for_them(tmp_path: Path) -> None:
    write_scene(tmp_path / "data", "town_000000_000000", np.full((32, 32), 7))
    write_one(tmp_path, "town_000000_000000", np.zeros((32, 32), np.int32))
    scores = score(open_cityscapes(tmp_path / "data", cache=tmp_path), tmp_path)
    assert scores.metrics["pq"] == scores.metrics["pq_stuff"] == scores.metrics["miou"] == 100.0
    assert math.isnan(scores.metrics["pq_things"])
    assert math.isnan(scores.metrics["ap"])
    assert scores.per_class["iou"]["sky"] is None
    assert scores.provenance["handled"] == ["panoptic: Things: no class of this group occurs"]


def test_numpy_gets_back_what_the_scripts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.count_nonzero
    monkeypatch.setattr(np, "count_nonzero", lambda *values, **named: np.intp(kept(*values, **named)))
    monkeypatch.delattr(np, "in1d", raising=False)
    monkeypatch.setitem(np.__dict__, "in1d", None)
    monkeypatch.delitem(np.__dict__, "in1d")
    official_process.restore_numpy()
    values = np.array([[1, 2], [3, 0]])
    assert type(np.count_nonzero(values)) is int
    assert np.count_nonzero(values, axis=0).tolist() == [2, 1]
    in1d = np.__dict__["in1d"]
    assert in1d(values, [3, 1]).tolist() == [True, False, True, False]
    assert in1d(values, [3, 1], invert=True).tolist() == [False, True, False, True]
