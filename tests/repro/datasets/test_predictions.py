from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from zoo.metrics.mask_overlaps import mask_pixels
from zoo.model.postprocess.result import ThingMap
from zoo.registry.dataset_info import DatasetInfo
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.coco.classes import COCO
from zoo.repro.datasets.predictions import assemble_panoptic_json, missing_predictions, write_predictions

LABELS = [0, 1000, 10000, 11001, 11002, 13001, 18199, 255000]


def scored(panoptic: np.ndarray) -> SimpleNamespace:
    labels = np.unique(panoptic)
    labels = labels[(labels < 255000) & (labels % 1000 > 0)]
    return SimpleNamespace(labels=labels, score=(labels % 97 / 97).astype(np.float32))


def write(folder: Path, panoptic: np.ndarray, semantic: np.ndarray, image_id: str = "a_0_0") -> None:
    write_predictions(
        folder, image_id, panoptic=panoptic, semantic=semantic, instances=scored(panoptic), info=CITYSCAPES
    )


@st.composite
def maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))
    panoptic = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from(LABELS)))
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64]))
    return panoptic, draw(hnp.arrays(dtype, shape, elements=st.sampled_from([*range(19), 255])))


@given(maps=maps())
def test_what_is_written_is_what_was_predicted(
    maps: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> None:
    panoptic, semantic = maps
    folder = tmp_path_factory.mktemp("predictions")
    write(folder, panoptic, semantic)

    label_of = np.array([*CITYSCAPES.original_ids, *[0] * 237])
    written = np.array(Image.open(folder / "semantic/a_0_0.png"))
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, label_of[semantic])

    rgb = np.array(Image.open(folder / "panoptic/a_0_0.png")).astype(np.int64)
    segments = rgb @ np.array([1, 256, 65536])
    original = label_of[panoptic // 1000]
    expected = np.where(panoptic % 1000 > 0, original * 1000 + panoptic % 1000, original)
    np.testing.assert_array_equal(segments, expected)
    annotation = json.loads((folder / "panoptic/a_0_0.json").read_text())
    listed = {segment["id"]: segment["category_id"] for segment in annotation["segments_info"]}
    for segment in annotation["segments_info"]:
        y, x = np.nonzero(segments == segment["id"])
        box = [x.min(), y.min(), 1 + x.max() - x.min(), 1 + y.max() - y.min()]
        assert (segment["area"], segment["bbox"], segment["iscrowd"]) == (x.size, box, 0)
    assert set(listed) == set(np.unique(segments).tolist()) - {0}
    assert all(category == (i // 1000 or i) for i, category in listed.items())

    lines = (folder / "instance/a_0_0.txt").read_text().splitlines()
    instances = scored(panoptic)
    assert len(lines) == len(instances.labels)
    given = [segment["score"] for segment in annotation["segments_info"] if "score" in segment]
    assert given == [float(score) for score in instances.score]
    for line, label, score in zip(lines, instances.labels, instances.score, strict=True):
        name, label_id, confidence = line.split(" ")
        mask = np.array(Image.open(folder / "instance" / name).convert("L")) != 0
        np.testing.assert_array_equal(mask, panoptic == label)
        assert int(label_id) == label_of[label // 1000]
        assert float(confidence) == float(score)


def test_views_of_padded_maps_are_written(tmp_path: Path) -> None:
    panoptic = np.full((9, 17), 11001, np.int32)
    panoptic[:8, :16] = 13002
    write(tmp_path, panoptic[:8, :16], np.zeros((9, 17), np.int32)[:8, :16])
    with Image.open(tmp_path / "panoptic/a_0_0.png") as written:
        assert written.size == (16, 8)
    assert len((tmp_path / "instance/a_0_0.txt").read_text().splitlines()) == 1


def test_no_temporary_files_stay(tmp_path: Path) -> None:
    panoptic = np.full((4, 4), 11001, np.int32)
    for _ in range(2):
        write(tmp_path, panoptic, np.zeros((4, 4), np.uint8))
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "semantic/a_0_0.png",
        "panoptic/a_0_0.png",
        "panoptic/a_0_0.json",
        "instance/a_0_0.txt",
        "instance/masks/a_0_0/24001.png",
    }


@settings(max_examples=30)
@given(data=st.data(), info=st.sampled_from([CITYSCAPES, COCO]))
def test_labels_and_colours_there_and_back(data: Any, info: DatasetInfo) -> None:
    """The written colours and categories give every label back."""
    classes = st.sampled_from([c for c in range(info.num_classes) if c != info.ignore_label])
    instances = st.integers(1, info.label_divisor - 1)
    labels = [info.void_label]
    for class_id in data.draw(st.lists(classes, min_size=1, max_size=6)):
        instance = data.draw(instances) if class_id in info.thing_class_ids else 0
        labels.append(class_id * info.label_divisor + instance)
    rows = data.draw(st.lists(st.sampled_from(labels), min_size=12, max_size=12))
    panoptic = np.array(rows, np.int32).reshape(3, 4)
    things = np.unique(panoptic[panoptic % info.label_divisor > 0])
    with tempfile.TemporaryDirectory() as name:
        write_predictions(
            Path(name),
            "a_0_0",
            panoptic=panoptic,
            semantic=np.zeros((3, 4), np.uint8),
            instances=SimpleNamespace(labels=things, score=np.full(things.size, 0.5)),
            info=info,
        )
        colours = np.array(Image.open(f"{name}/panoptic/a_0_0.png")).astype(np.int64)
        entry = json.loads(Path(name, "panoptic/a_0_0.json").read_text())
    categories = {segment["id"]: segment["category_id"] for segment in entry["segments_info"]}
    found = np.full(panoptic.shape, info.void_label, np.int32)
    ids = colours @ [1, 256, 65536]
    for segment, category in categories.items():
        class_id = info.original_ids.index(category)
        # Segment ids are category * 1000 + instance for things, and the category for stuff.
        instance = segment - category * 1000 if class_id in info.thing_class_ids else 0
        found[ids == segment] = class_id * info.label_divisor + instance
    np.testing.assert_array_equal(found, panoptic)


def test_a_name_may_be_a_path_and_hold_blanks(tmp_path: Path) -> None:
    write(tmp_path, np.full((4, 4), 11001, np.int32), np.zeros((4, 4), np.uint8), "my trip/a b")
    assert missing_predictions(tmp_path, ["my trip/a b"]) == []
    name, label_id, _ = (tmp_path / "instance/my trip/a b.txt").read_text().split(" ")
    # As the official script reads it: relative to the list.
    assert (name, label_id) == ("../masks/my%20trip/a%20b/24001.png", "24")
    assert (tmp_path / "instance/my trip" / name).is_file()


def test_entries_join_in_the_order_asked_for(tmp_path: Path) -> None:
    for image_id in ("a_0_0", "b_0_0"):
        write(tmp_path, np.zeros((4, 4), np.int32), np.zeros((4, 4), np.uint8), image_id)
    assert missing_predictions(tmp_path, ["a_0_0", "c_0_0", "b_0_0"]) == ["c_0_0"]
    joined = json.loads(assemble_panoptic_json(tmp_path, ["b_0_0", "a_0_0"]).read_text())
    assert [annotation["image_id"] for annotation in joined["annotations"]] == ["b_0_0", "a_0_0"]
    road = {"id": 7, "category_id": 7, "area": 16, "bbox": [0, 0, 4, 4], "iscrowd": 0}
    assert joined["annotations"][0]["segments_info"] == [road]


def test_wrong_maps_are_refused(tmp_path: Path) -> None:
    zeros = np.zeros((4, 4), np.int32)
    with pytest.raises(ValueError, match="two maps of one size"):
        write(tmp_path, zeros, zeros[:2])
    for wrong in (-1, 256_000):
        with pytest.raises(ValueError, match="panoptic map holds a value that is not a label"):
            write(tmp_path, zeros + np.int32(wrong), zeros)
        with pytest.raises(ValueError, match="semantic map holds a value that is not a class"):
            write(tmp_path, zeros, zeros + np.int32(wrong))
    with pytest.raises(ValueError, match="no score for panoptic label 11001"):
        write_predictions(
            tmp_path,
            "a_0_0",
            panoptic=zeros + np.int32(11001),
            semantic=zeros,
            instances=scored(zeros),
            info=CITYSCAPES,
        )
    assert missing_predictions(tmp_path, ["a_0_0"]) == ["a_0_0"]


def test_masks_that_overlap_are_written_for_either_script(tmp_path: Path) -> None:
    first, second = np.zeros((5, 7), np.bool_), np.zeros((5, 7), np.uint8)
    first[1:4, 2:6] = True
    second[2:, :3] = 1
    rle = {"size": [5, 7], "counts": [11, 3, 2, 3, 2, 3, 2, 3, 6]}
    masks = [(13, 0.75, first), (11, 0.5, second), (13, 0.25, rle)]
    for form in ("masks", "rle"):
        write_predictions(
            tmp_path,
            f"a_{form}",
            panoptic=None,
            semantic=None,
            instances=masks,
            info=CITYSCAPES,
            things_as=form,
        )
    lines = (tmp_path / "instance/a_masks.txt").read_text(encoding="utf-8").split("\n")[:-1]
    entries = json.loads((tmp_path / "instance/a_rle.json").read_text(encoding="utf-8"))
    expected = [first, second != 0, first]
    for line, entry, (class_id, score, _), pixels in zip(lines, entries, masks, expected, strict=True):
        name, category, text = line.split()
        assert int(category) == entry["category_id"] == CITYSCAPES.original_ids[class_id]
        assert float(text) == entry["score"] == score
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "instance" / name)), pixels)
        np.testing.assert_array_equal(mask_pixels(entry["segmentation"], (5, 7)), pixels)
    assert missing_predictions(tmp_path, ["a_masks", "a_rle", "b"], {"instances"}) == ["b"]
    assert list(tmp_path.iterdir()) == [tmp_path / "instance"]


def test_things_of_a_map_of_their_own_are_written_in_place_of_the_panoptic_ones(tmp_path: Path) -> None:
    panoptic = np.full((4, 6), 7000, np.int32)
    panoptic[1:3, 1:3] = 13002
    own = np.full((4, 6), CITYSCAPES.void_label, np.int32)
    own[:2] = 13001
    own[2:, 4:] = 11003
    things = ThingMap(own, np.array([11003, 13001], np.int32), np.array([0.25, 0.5]))
    semantic = (panoptic // 1000).astype(np.uint8)
    write_predictions(tmp_path, "a", panoptic=panoptic, semantic=semantic, instances=things, info=CITYSCAPES)

    found = {}
    for line in (tmp_path / "instance" / "a.txt").read_text().splitlines():
        name, category, score = line.split()
        found[category, score] = np.array(Image.open(tmp_path / "instance" / name)) != 0
    assert found.keys() == {("24", "0.25"), ("26", "0.5")}
    np.testing.assert_array_equal(found["24", "0.25"], own == 11003)
    np.testing.assert_array_equal(found["26", "0.5"], own == 13001)
    annotation = json.loads((tmp_path / "panoptic" / "a.json").read_text())
    assert [each["id"] for each in annotation["segments_info"]] == [20, 26002]
