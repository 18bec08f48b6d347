from __future__ import annotations

import collections
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, labels, trainId2label
from cityscapesscripts.preparation import createPanopticImgs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from zoo.errors import DataError
from zoo.repro.cityscapes.classes import CITYSCAPES, train_id_of_label_id
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.cityscapes.instance_ids import panoptic_from_instance_ids
from zoo.repro.datasets.dataset import images_in_dataset
from zoo.repro.datasets.opening import open_files

LABEL_ID_TO_TRAIN_ID = train_id_of_label_id(CITYSCAPES)

open_cityscapes = partial(open_files, CityscapesDataset, split="val")


def ground_truth(root: Path, number: int, kind: str) -> Path:
    return root / f"gtFine/val/frankfurt/frankfurt_{number:06d}_000019_gtFine_{kind}.png"


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_classes_are_those_of_the_official_package() -> None:
    scored = [label for label in labels if not label.ignoreInEval]
    assert CITYSCAPES.num_classes == len(scored)
    for label in scored:
        assert CITYSCAPES.class_names[label.trainId] == label.name
        assert CITYSCAPES.original_ids[label.trainId] == label.id
        assert CITYSCAPES.colours[label.trainId] == bytes(label.color).hex()
        assert (label.trainId in CITYSCAPES.thing_class_ids) == label.hasInstances
    for label in labels:
        if label.id >= 0:
            assert LABEL_ID_TO_TRAIN_ID[label.id] == label.trainId
    assert CITYSCAPES.void_label == 255000


@given(hnp.arrays(np.uint8, st.integers(1, 40), elements=st.integers(0, CITYSCAPES.num_classes - 1)))
def test_train_ids_survive_the_way_to_label_ids_and_back(train_ids: np.ndarray) -> None:
    label_ids = np.array(CITYSCAPES.original_ids)[train_ids]
    assert [trainId2label[i].id for i in train_ids.tolist()] == label_ids.tolist()
    np.testing.assert_array_equal(LABEL_ID_TO_TRAIN_ID[label_ids], train_ids)


@given(hnp.arrays(np.uint8, st.integers(1, 40), elements=st.integers(0, 33)))
def test_label_ids_survive_where_they_are_scored(label_ids: np.ndarray) -> None:
    train_ids = LABEL_ID_TO_TRAIN_ID[label_ids]
    is_scored = np.array([not id2label[i].ignoreInEval for i in label_ids.tolist()])
    back = np.array(CITYSCAPES.original_ids)[train_ids[is_scored]]
    np.testing.assert_array_equal(back, label_ids[is_scored])
    assert (train_ids[~is_scored] == CITYSCAPES.ignore_label).all()
    assert set(label_ids[~is_scored].tolist()) <= set(CITYSCAPES.void_ids)


def reference_panoptic(png: np.ndarray, segments: list[dict[str, Any]]) -> np.ndarray:
    """The rule of DeepLab2's `build_cityscapes_data.py`, crowd as void, written plainly."""
    ids = png.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    panoptic = np.full(ids.shape, 255000, np.int32)
    counts: dict[int, int] = collections.Counter()
    for segment in segments:
        category = segment["category_id"]
        if category >= 11 and segment["iscrowd"]:
            continue
        if category >= 11:
            counts[category] += 1
        panoptic[ids == segment["id"]] = category * 1000 + counts[category]
    return panoptic


def test_panoptic_map_equals_official_train_id_ground_truth(minicity: Path, tmp_path: Path) -> None:
    createPanopticImgs.convert2panoptic(str(minicity / "gtFine"), str(tmp_path), True, ["val"])
    made = json.loads((tmp_path / "cityscapes_panoptic_val_trainId.json").read_text())
    dataset = CityscapesDataset(minicity, "val", cache=tmp_path / "cache")
    by_id = {annotation["image_id"]: annotation for annotation in made["annotations"]}
    assert sum(s["iscrowd"] for a in made["annotations"] for s in a["segments_info"]) > 0
    for index, image_id in enumerate(dataset.image_ids):
        annotation = by_id[image_id]
        png = np.array(Image.open(tmp_path / "cityscapes_panoptic_val_trainId" / annotation["file_name"]))
        sample = dataset.load(index)
        np.testing.assert_array_equal(
            sample.panoptic, reference_panoptic(png, annotation["segments_info"]), err_msg=image_id
        )
        np.testing.assert_array_equal(sample.semantic, sample.panoptic // 1000)
        assert sample.panoptic.dtype == np.int32


@st.composite
def instance_ids(draw: st.DrawFn) -> np.ndarray:
    things = st.integers(24, 33).flatmap(lambda label: st.integers(label * 1000, label * 1000 + 999))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
    return draw(hnp.arrays(np.uint16, shape, elements=st.one_of(st.integers(0, 33), things)))


@given(instance_ids())
def test_panoptic_map_follows_the_rule_for_any_ids(ids: np.ndarray) -> None:
    panoptic, semantic = panoptic_from_instance_ids(ids, CITYSCAPES, "ids")
    expected = np.full(ids.shape, 255000)
    counts: dict[int, int] = collections.Counter()
    for value in np.unique(ids).tolist():
        label = id2label[value // 1000 if value >= 1000 else value]
        if label.ignoreInEval or (label.hasInstances and value < 1000):
            continue
        counts[label.trainId] += value >= 1000
        expected[ids == value] = label.trainId * 1000 + counts[label.trainId]
    np.testing.assert_array_equal(panoptic, expected)
    np.testing.assert_array_equal(semantic, expected // 1000)


def test_more_instances_than_labels_can_tell_apart_are_one_line() -> None:
    ids = np.arange(26000, 27000, dtype=np.uint16).reshape(20, 50)
    with pytest.raises(DataError, match=r"^x\.png: has 1000 instances of car, the most is 999$"):
        panoptic_from_instance_ids(ids, CITYSCAPES, "x.png")
    assert panoptic_from_instance_ids(ids[:19], CITYSCAPES, "x.png")[0].max() == 13950


def test_images_are_sorted_and_decoded_as_they_are(minicity: Path, tmp_path: Path) -> None:
    dataset = open_cityscapes(minicity, expected_images=30, cache=tmp_path)
    assert len(dataset) == 30
    assert list(dataset.image_ids) == sorted(dataset.image_ids)
    assert dataset.official_obstacle is None
    with ThreadPoolExecutor(4) as threads:
        samples = list(threads.map(dataset.load, range(4)))
    for index, sample in enumerate(samples):
        assert sample.image_id == dataset.image_ids[index]
        path = minicity / f"leftImg8bit/val/frankfurt/{sample.image_id}_leftImg8bit.png"
        np.testing.assert_array_equal(sample.image, np.array(Image.open(path).convert("RGB")))


def test_the_folder_above_and_the_folders_within_are_understood(minicity: Path, tmp_path: Path) -> None:
    for path in (minicity.parent, minicity / "leftImg8bit", minicity / "gtFine"):
        dataset = open_cityscapes(path, cache=tmp_path)
        assert isinstance(dataset, CityscapesDataset)
        assert dataset.root == minicity


def test_two_data_sets_in_one_folder_are_refused(copy_images: Callable[..., Path], tmp_path: Path) -> None:
    copy_images(1, "all/one")
    copy_images(1, "all/two")
    with pytest.raises(DataError, match=r"more than one data set is in there \(one, two\)") as error:
        open_cityscapes(tmp_path / "all")
    one_line(error)


def test_a_folder_without_images_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no folder leftImg8bit; expected leftImg8bit/<split>") as error:
        open_cityscapes(tmp_path)
    one_line(error)
    with pytest.raises(DataError, match="does not exist"):
        open_cityscapes(tmp_path / "nowhere")


def test_a_wrong_split_lists_those_that_are_there(minicity: Path) -> None:
    with pytest.raises(DataError, match="has no leftImg8bit/train; splits found: val") as error:
        open_cityscapes(minicity, split="train")
    one_line(error)


def test_the_test_split_cannot_be_scored(minicity: Path) -> None:
    with pytest.raises(DataError, match="ground truth of the test split is not public"):
        open_cityscapes(minicity, split="test")


def test_a_wrong_number_of_images_is_said(minicity: Path) -> None:
    with pytest.raises(DataError, match="leftImg8bit/val has 30 images, expected 500"):
        open_cityscapes(minicity, expected_images=500)


def test_missing_ground_truth_is_counted_and_named(copy_images: Callable[..., Path]) -> None:
    root = copy_images(3)
    ground_truth(root, 1, "instanceIds").unlink()
    ground_truth(root, 2, "instanceIds").unlink()
    with pytest.raises(DataError) as error:
        open_cityscapes(root)
    message = one_line(error)
    assert "2 of 3 gtFine/val/*_instanceIds.png missing" in message
    assert "first: gtFine/val/frankfurt/frankfurt_000001_000019_gtFine_instanceIds.png" in message
    assert "gtFine_trainvaltest.zip" in message
    assert "labelIds.png missing" not in message


@pytest.mark.parametrize(
    ("kind", "script"), [("labelIds", "json2labelImg"), ("instanceIds", "json2instanceImg")]
)
def test_polygons_lead_to_the_script_that_makes_the_rest(
    copy_images: Callable[..., Path], kind: str, script: str
) -> None:
    root = copy_images(1)
    missing = ground_truth(root, 0, kind)
    missing.unlink()
    missing.with_name(missing.name.replace(f"{kind}.png", "polygons.json")).write_text("{}")
    with pytest.raises(DataError) as error:
        open_cityscapes(root)
    module = f"cityscapesscripts.preparation.{script}"
    assert f"python -m {module} " in one_line(error)
    assert hasattr(__import__(module, fromlist=["main"]), "main")


def test_train_id_files_are_not_taken_for_label_ids(copy_images: Callable[..., Path]) -> None:
    root = copy_images(1)
    path = ground_truth(root, 0, "labelIds")
    path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    with pytest.raises(DataError, match=r"only \*_labelTrainIds\.png is there"):
        open_cityscapes(root)


def test_train_ids_under_the_name_of_label_ids_are_noticed(copy_images: Callable[..., Path]) -> None:
    root = copy_images(1)
    path = ground_truth(root, 0, "labelIds")
    label_ids = np.array(Image.open(path))
    Image.fromarray(LABEL_ID_TO_TRAIN_ID[label_ids]).save(path)
    with pytest.raises(DataError, match=r"labelIds\.png holds train ids \(found 255\)"):
        open_cityscapes(root)


@pytest.mark.parametrize(
    ("wrong_id", "what"), [(255, "holds train ids"), (13001, "holds train ids"), (40, "holds id 40")]
)
def test_ids_that_are_none_are_noticed(tiny: CityscapesDataset, wrong_id: int, what: str) -> None:
    path = ground_truth(tiny.root, 0, "instanceIds")
    ids = np.array(Image.open(path)).astype(np.uint16)
    ids[5, 5] = wrong_id
    Image.fromarray(ids).save(path)
    with pytest.raises(DataError, match=what) as error:
        tiny.load(0)
    assert str(path) in one_line(error)


def test_instance_ids_of_eight_bits_keep_their_values(tiny: CityscapesDataset) -> None:
    path = ground_truth(tiny.root, 0, "instanceIds")
    Image.fromarray(np.full((256, 512), 7, np.uint8)).save(path)
    assert (tiny.load(0).panoptic == 0).all()


@pytest.mark.parametrize("kind", ["image", "instanceIds"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_broken_png_is_named(tiny: CityscapesDataset, kind: str, damage: str) -> None:
    path = ground_truth(tiny.root, 1, kind)
    if kind == "image":
        path = tiny.root / tiny.image_name(tiny.image_ids[1])
    data = path.read_bytes()
    middle = len(data) // 2
    damaged = {
        "cut": data[:middle],
        "flip": data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :],
        "empty": b"",
        "text": b"not an image" * 100,
    }[damage]
    path.write_bytes(damaged)
    tiny.load(0)
    with pytest.raises(DataError) as error:
        tiny.load(1)
    assert one_line(error).startswith(str(path))


def test_ground_truth_of_another_size_is_refused(tiny: CityscapesDataset) -> None:
    path = ground_truth(tiny.root, 0, "instanceIds")
    Image.fromarray(np.full((128, 512), 7, np.uint16)).save(path)
    with pytest.raises(DataError, match=r"expected 256 x 512 pixels, as in .*png, found 128 x 512"):
        tiny.load(0)


def test_colour_ground_truth_is_refused(tiny: CityscapesDataset) -> None:
    path = ground_truth(tiny.root, 0, "instanceIds")
    Image.fromarray(np.zeros((256, 512, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match="expected ids in one channel of 8 or 16 bits"):
        tiny.load(0)


def test_images_missing_for_ground_truth_are_said(copy_images: Callable[..., Path]) -> None:
    root = copy_images(2)
    next(root.glob("leftImg8bit/val/*/*_000001_*")).unlink()
    with pytest.raises(DataError, match=r"1 of 2 leftImg8bit/val/\*_leftImg8bit\.png missing"):
        open_cityscapes(root)


def test_names_that_the_official_scripts_confuse_are_an_obstacle(copy_images: Callable[..., Path]) -> None:
    root = copy_images(2)
    for path in list(root.rglob("*_000001_000019*")):
        path.rename(path.with_name(path.name.replace("frankfurt_000001_000019", "frankfurt_000000_0000191")))
    dataset = open_cityscapes(root)
    assert dataset.official_obstacle is None
    assert set(dataset.not_measured) == {"miou", "iiou", "ap", "ap50"}
    assert re.search("frankfurt_000000_000019, frankfurt_000000_0000191", dataset.not_measured["ap"])
    for path in list(root.rglob("*_0000191*")):
        path.rename(path.with_name(path.name.replace("frankfurt_000000_0000191", "frank_furt_1_1")))
    assert "frank_furt_1_1" in open_cityscapes(root).not_measured["miou"]


def test_the_data_folder_is_only_read(
    tiny: CityscapesDataset, snapshot: Callable[[Path], dict[str, tuple[int, int]]]
) -> None:
    before = snapshot(tiny.root)
    tiny.check()
    tiny.fingerprint()
    tiny.load(0)
    assert snapshot(tiny.root) == before


def test_ground_truth_without_picture_is_left_out_by_name(copy_images: Callable[..., Path]) -> None:
    root = copy_images(3)
    next(root.glob("leftImg8bit/val/*/*_000001_*")).unlink()
    dataset = open_cityscapes(root, expected_images=3, keep_going=True)
    assert len(dataset) == 2
    (reason,) = dataset.skipped.values()
    assert "frankfurt_000001_000019_leftImg8bit.png is missing" in reason


def test_a_missing_city_is_not_a_smaller_data_set(copy_images: Callable[..., Path]) -> None:
    root = copy_images(3)
    for path in list(root.glob("*/val/frankfurt/*_000002_*")):
        path.unlink()
    dataset = open_cityscapes(root, expected_images=3, keep_going=True)
    assert (len(dataset), images_in_dataset(dataset)) == (2, 3)


def test_more_images_than_declared_are_an_error_in_any_case(copy_images: Callable[..., Path]) -> None:
    for keep_going in (False, True):
        with pytest.raises(DataError, match="has 3 images, expected 2") as error:
            open_cityscapes(copy_images(3), expected_images=2, keep_going=keep_going)
        one_line(error)
