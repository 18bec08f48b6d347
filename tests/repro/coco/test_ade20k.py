"""ADE20K in the folders that DeepLab2 reads: annotations beside the images, images called by their names."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.registry import load_registry
from zoo.repro.coco.ade20k import ADE20K, Ade20kDataset
from zoo.repro.datasets.checking import wrong_headers
from zoo.repro.datasets.opening import open_files
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.official.scripts import start_official
from zoo.repro.run.scores import InternalScores

OWN = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "own_data.py")))
PANOPTIC = "ade20k_panoptic_val"
# By the ids of `own_data.CATEGORIES`.
CATEGORY = {7: 12, 3: 20, 0: 6, 1200: 1, 40: 2}
PERSON, CAR, ROAD, BUILDING, SKY = (train_id + 1 for train_id in CATEGORY.values())
COVERED = 40
"""Pixels of the first image's building that things were drawn over, after its area had been counted."""


@pytest.fixture
def root(minicoco: Path, tmp_path: Path) -> Path:
    """Seven drawn scenes in the form of ADE20K: image ids are names, and nothing is a crowd."""
    made = OWN.make_own_coco(tmp_path / "coco", minicoco, instances=True)
    root = tmp_path / "ade"
    (root / "images").mkdir(parents=True)
    (root / "annotations/validation").mkdir(parents=True)
    (made / "val").rename(root / "images/validation")
    (made / "annotations/panoptic_val").rename(root / PANOPTIC)
    for kind in ("panoptic", "instances"):
        content = json.loads((made / f"annotations/{kind}_val.json").read_text())
        rows = content["annotations"]
        for segment in rows if kind == "instances" else [s for row in rows for s in row["segments_info"]]:
            segment |= {"category_id": CATEGORY[segment["category_id"]], "iscrowd": 0}
        for image in content["images"]:
            image["id"] = Path(image["file_name"]).stem
        for row in rows:
            row["image_id"] = f"{row['image_id']:012d}"
        # Both files call the classes by names of their own.
        names = [f"{name}, and more" for name in ADE20K.class_names]
        content["categories"] = [
            {"id": category_id, "name": names[train_id], "isthing": int(train_id in ADE20K.thing_class_ids)}
            for category_id, train_id in ADE20K.train_ids.items()
            if kind == "panoptic" or train_id in ADE20K.thing_class_ids
        ]
        if kind == "panoptic":
            next(s for s in rows[0]["segments_info"] if s["category_id"] == 1)["area"] += COVERED
        name = "ade20k_instance_val.json" if kind == "instances" else f"{PANOPTIC}.json"
        (root / name).write_text(json.dumps(content))
    return root


def opened(root: Path, tmp_path: Path, **options: Any) -> Ade20kDataset:
    dataset = open_files(Ade20kDataset, root, "val", cache=tmp_path / "cache", **options)
    assert isinstance(dataset, Ade20kDataset)
    return dataset


def test_classes() -> None:
    things = [ADE20K.class_names[train_id] for train_id in ADE20K.thing_class_ids]
    assert (ADE20K.num_classes, len(things), len(set(ADE20K.class_names))) == (151, 100, 151)
    assert (things[:3], things[-1]) == (["bed", "windowpane", "cabinet"], "flag")
    assert (ADE20K.original_ids[:3], ADE20K.original_ids[-1]) == ((255, 0, 1), 149)
    assert (ADE20K.label_divisor, ADE20K.void_label) == (1000, 0)
    assert ADE20K.colours[ADE20K.class_names.index("sky")] == "06e6e6"


def test_from_the_folder_to_a_declaration(zoo_call: Callable[..., Any], root: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    added = zoo_call("data", "add", "rooms", "--data", root.parent / "ade/images", "--out", file)
    assert added.returncode == 0, added.stderr
    assert f"rooms: 7 images in {root}, format ade20k, split val" in added.stderr
    assert "150 classes: 100 things (bed, windowpane" in added.stderr
    check = zoo_call("--registry", file, "data", "check", "rooms", "--full")
    assert check.returncode == 0, check.stdout
    assert "no official" not in check.stdout
    check = zoo_call("data", "check", "ade20k", "--data", root)
    assert check.returncode == 3
    assert "val has 7 images, expected 2,000" in check.stdout
    assert load_registry().dataset("ade20k").split == "val"


def test_official_numbers_take_the_annotated_areas(root: Path, tmp_path: Path) -> None:
    dataset = opened(root, tmp_path)
    assert dataset.info is ADE20K
    scores = InternalScores(dataset.info)
    smallest = 1.0
    for index, image_id in enumerate(dataset.image_ids):
        sample = dataset.load(index)
        labels = np.unique(sample.panoptic[np.isin(sample.panoptic // 1000, ADE20K.thing_class_ids)])
        things: Any = SimpleNamespace(labels=labels, score=np.full(labels.size, 0.5, np.float32))
        maps = {"panoptic": sample.panoptic, "semantic": sample.semantic, "instances": things}
        write_predictions(tmp_path / "predictions", image_id, info=dataset.info, **maps)
        scores.add(scores.measure(sample, **maps))
        if index == 0:
            area = int((sample.semantic == BUILDING).sum())
            smallest = area / (area + COVERED)
    internal = scores.compute()
    assert internal.metrics == pytest.approx(dict.fromkeys(("pq", "sq", "rq", "miou", "ap"), 100.0))
    with start_official(
        dataset, dataset.image_ids, tmp_path / "predictions", tmp_path / "official", 2
    ) as run:
        official = run.finish()
    images = sum(bool((dataset.load(i).semantic == BUILDING).any()) for i in range(len(dataset)))
    building = official.per_class["pq"]["building"]
    assert building == pytest.approx(100 * (images - 1 + smallest) / images)
    assert official.metrics["pq_things"] == 100
    assert official.metrics["pq_stuff"] == pytest.approx((200 + building) / 3)
    # Instances are matched on their own annotations, by the images' names.
    assert official.metrics["ap"] == pytest.approx(100)
    official.take_semantic(internal.official_miou, internal.official_iou)
    assert official.metrics["miou"] == 100


def test_a_folder_of_predictions_is_scored(zoo_call: Callable[..., Any], root: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    assert zoo_call("data", "add", "rooms", "--data", root, "--out", file).returncode == 0
    predicted = tmp_path / "predicted"
    shutil.copytree(root / PANOPTIC, predicted / PANOPTIC)
    content = json.loads((root / f"{PANOPTIC}.json").read_text())
    for row in content["annotations"]:
        for segment in row["segments_info"]:
            del segment["area"]
    (predicted / f"{PANOPTIC}.json").write_text(json.dumps(content))
    arguments = ("--dataset", "rooms", "--json", "--out", tmp_path / "run")
    done = zoo_call("--registry", file, "score", predicted, *arguments)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["internal"]["pq"] == pytest.approx(100)
    assert metrics["official"]["pq_things"] == 100


@pytest.fixture
def edit(root: Path) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Returns a function that changes the panoptic annotations."""

    def change(function: Callable[[dict[str, Any]], None]) -> None:
        path = root / f"{PANOPTIC}.json"
        content = json.loads(path.read_text())
        function(content)
        path.write_text(json.dumps(content))

    return change


def test_nothing_covers_a_thing(root: Path, tmp_path: Path, edit: Callable[..., None]) -> None:
    def enlarge_things(content: dict[str, Any]) -> None:
        for segment in content["annotations"][0]["segments_info"]:
            segment["area"] += segment["category_id"] in (12, 20)

    edit(enlarge_things)
    with pytest.raises(DataError, match=r"segment \d+ \((car|person)\) has \d+ pixels, expected \d+"):
        opened(root, tmp_path).load(0)


def test_an_image_is_called_by_its_name_or_a_number(
    root: Path, tmp_path: Path, edit: Callable[..., None]
) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["images"][1]["id"] = content["annotations"][1]["image_id"] = "x"

    edit(rename)
    with pytest.raises(DataError, match=r"000000001001\.jpg 'x', expected a number or '000000001001'"):
        opened(root, tmp_path)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (PANOPTIC, r"PNG files is missing; Mask2Former's prepare_ade20k_pan_seg\.py makes it"),
        ("images/validation", r"no folder images/validation; it is in ADEChallengeData2016\.zip"),
        (
            "images/validation/000000001000.jpg",
            r"images/validation/000000001000\.jpg is missing, but annotated",
        ),
        (f"{PANOPTIC}/000000001000.png", rf"{PANOPTIC}/000000001000\.png is missing, but annotated"),
    ],
)
def test_what_is_missing_is_said(root: Path, tmp_path: Path, missing: str, message: str) -> None:
    (root / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=message):
        opened(root, tmp_path)
    if Path(missing).suffix:
        kept = opened(root, tmp_path, keep_going=True)
        assert list(kept.skipped) == ["000000001000"]
        assert wrong_headers(kept, kept.image_ids) == {}
