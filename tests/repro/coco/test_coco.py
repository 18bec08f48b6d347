"""COCO in its original folders: what is read, and what is said of a copy that is not complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from zoo.errors import DataError
from zoo.fetch.fetcher import Fetcher
from zoo.files.cache import Cache
from zoo.registry import load_registry
from zoo.repro.coco.annotations import Segment
from zoo.repro.coco.classes import COCO
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets import image_files
from zoo.repro.datasets.checking import check_dataset, usable_images, wrong_headers
from zoo.repro.datasets.opening import open_files

Edit = Callable[[Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def copy(minicoco: Path, tmp_path: Path) -> Path:
    """A copy of the first three images that a test may damage."""
    root = tmp_path / "coco"
    content = json.loads((minicoco / "annotations/panoptic_val2017.json").read_text())
    for key in ("images", "annotations"):
        content[key] = content[key][:3]
    (root / "annotations/panoptic_val2017").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
    shutil.copy(minicoco / "annotations/instances_val2017.json", root / "annotations")
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        shutil.copy(minicoco / "val2017" / image["file_name"], root / "val2017")
        folder = "annotations/panoptic_val2017"
        shutil.copy(minicoco / folder / annotation["file_name"], root / folder)
    return root


@pytest.fixture
def edit(copy: Path) -> Edit:
    """Returns a function that changes the copy's panoptic annotations."""

    def change(function: Callable[[dict[str, Any]], None]) -> None:
        path = copy / "annotations/panoptic_val2017.json"
        content = json.loads(path.read_text())
        function(content)
        path.write_text(json.dumps(content))

    return change


def opened(path: Path, tmp_path: Path, **options: Any) -> CocoDataset:
    dataset = open_files(CocoDataset, path, "val2017", cache=tmp_path / "cache", **options)
    assert isinstance(dataset, CocoDataset)
    return dataset


def test_classes_are_those_of_the_annotations(minicoco: Path) -> None:
    categories = json.loads((minicoco / "annotations/panoptic_val2017.json").read_text())["categories"]
    assert len(categories) == 133
    assert list(COCO.original_ids[1:]) == [category["id"] for category in categories]
    assert list(COCO.class_names[1:]) == [category["name"] for category in categories]
    things = [i for i, category in enumerate(categories, start=1) if category["isthing"]]
    assert list(COCO.thing_class_ids) == things
    assert (COCO.num_classes, COCO.label_divisor, COCO.void_label) == (134, 256, 0)


def test_category_ids_and_train_ids_there_and_back() -> None:
    assert list(COCO.train_ids.values()) == list(range(1, COCO.num_classes))
    assert [COCO.original_ids[train_id] for train_id in COCO.train_ids.values()] == list(COCO.train_ids)


def test_samples_equal_a_plain_reading(minicoco: Path, tmp_path: Path) -> None:
    dataset = opened(minicoco, tmp_path)
    assert len(dataset) == 30
    content = json.loads(dataset.panoptic_json.read_text())
    crowds = 0
    for index, annotation in enumerate(content["annotations"]):
        sample = dataset.load(index)
        assert dataset.official_image_id(sample.image_id) == annotation["image_id"]
        colours = np.array(Image.open(dataset.panoptic_folder / annotation["file_name"])).astype(np.int64)
        ids = colours @ [1, 256, 65536]
        expected = np.zeros(ids.shape, np.int32)
        counts: dict[int, int] = {}
        assert sample.official is not None
        found_ids = np.append(sample.official.segment_ids, 0)[sample.official.segment_map]
        np.testing.assert_array_equal(found_ids, ids)
        crowd_of = dict(zip(sample.official.segment_ids, sample.official.is_crowd, strict=True))
        for segment in annotation["segments_info"]:
            train_id = COCO.train_ids[segment["category_id"]]
            assert crowd_of[segment["id"]] == bool(segment["iscrowd"])
            if segment["iscrowd"]:
                crowds += 1
                continue
            instance = 0
            if train_id in COCO.thing_class_ids:
                counts[train_id] = instance = counts.get(train_id, 0) + 1
            expected[ids == segment["id"]] = train_id * 256 + instance
        np.testing.assert_array_equal(sample.panoptic, expected)
        np.testing.assert_array_equal(sample.semantic, expected // 256)
        assert sample.image.shape == (*ids.shape, 3)
    assert crowds == 11


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_images_become_rgb(copy: Path, tmp_path: Path, mode: str) -> None:
    dataset = opened(copy, tmp_path)
    path = copy / "val2017" / f"{dataset.image_ids[0]}.jpg"
    before = dataset.load(0).image.astype(np.int32)
    Image.fromarray(before.astype(np.uint8)).convert(mode).save(path, quality=95)
    after = opened(copy, tmp_path).load(0).image.astype(np.int32)
    assert after.shape == before.shape
    expected = before if mode == "CMYK" else before @ np.array([[299], [587], [114]]) / 1000
    assert np.abs(after - expected).mean() < 4


def test_pictures_are_shown_without_tensorflow(
    minicoco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = opened(minicoco, tmp_path)
    exact = dataset.load(0)
    monkeypatch.setattr(image_files, "import_tensorflow", lambda: pytest.fail("TensorFlow was asked for"))
    shown = dataset.load_for_display(0)
    assert shown.image.shape == exact.image.shape
    assert np.abs(shown.image.astype(int) - exact.image).mean() < 2
    np.testing.assert_array_equal(shown.panoptic, exact.panoptic)


def test_fingerprint_follows_contents(copy: Path, tmp_path: Path) -> None:
    first = opened(copy, tmp_path).fingerprint()
    assert opened(copy.parent, tmp_path).fingerprint() == first
    image = next((copy / "val2017").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    assert opened(copy, tmp_path).fingerprint() != first


def first_image(content: dict[str, Any]) -> dict[str, Any]:
    annotation: dict[str, Any] = content["annotations"][0]
    return annotation


def test_an_image_without_annotation_is_named(copy: Path, edit: Edit, tmp_path: Path) -> None:
    edit(lambda content: content["annotations"].pop(0))
    with pytest.raises(DataError, match=r"val2017/000000001000.jpg has no annotation in panoptic_val2017"):
        opened(copy, tmp_path)
    dataset = opened(copy, tmp_path, keep_going=True)
    assert dataset.image_ids == ("000000001001", "000000001002")
    assert list(dataset.skipped) == ["000000001000"]


def test_an_annotation_without_image_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "val2017/000000001001.jpg").unlink()
    with pytest.raises(DataError, match=r"val2017/000000001001.jpg is missing, but annotated"):
        opened(copy, tmp_path)
    assert list(opened(copy, tmp_path, keep_going=True).skipped) == ["000000001001"]


def test_a_missing_png_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "annotations/panoptic_val2017/000000001001.png").unlink()
    with pytest.raises(DataError, match=r"panoptic_val2017/000000001001.png is missing, but annotated"):
        opened(copy, tmp_path)


def damage_area(content: dict[str, Any]) -> None:
    first_image(content)["segments_info"][2]["area"] += 1


def damage_category(content: dict[str, Any]) -> None:
    first_image(content)["segments_info"][2]["category_id"] = 12


def damage_list(content: dict[str, Any]) -> None:
    first_image(content)["segments_info"].pop()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            damage_area,
            r"000000001000.png: segment \d+ \(building-other-merged\) has 12263 pixels, expected 12264 as",
        ),
        (damage_category, r"000000001000.png: segment \d+ has category 12, which is not one of the 133"),
        (damage_list, r"000000001000.png: holds segment \d+, which the annotation does not list"),
    ],
)
def test_annotations_that_disagree_are_named(
    copy: Path, edit: Edit, tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(damage)
    dataset = opened(copy, tmp_path)
    with pytest.raises(DataError, match=message) as error:
        dataset.load(0)
    assert "\n" not in str(error.value)
    usable, skipped = usable_images(dataset, dataset.image_ids)
    assert usable == ["000000001001", "000000001002"]
    assert skipped == {"000000001000": str(error.value)}


def test_a_truncated_jpeg_is_named(copy: Path, tmp_path: Path) -> None:
    path = copy / "val2017/000000001002.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    dataset = opened(copy, tmp_path)
    with pytest.raises(DataError, match=r"000000001002.jpg: cannot be decoded as an image"):
        dataset.load(2)
    usable, skipped = usable_images(dataset, dataset.image_ids)
    assert usable == ["000000001000", "000000001001"]
    assert list(skipped) == ["000000001002"]


def test_an_image_of_another_size_is_named(copy: Path, tmp_path: Path) -> None:
    path = copy / "val2017/000000001002.jpg"
    Image.open(path).resize((100, 80)).save(path)
    with pytest.raises(DataError, match=r"000000001002.jpg: expected \d+ x \d+ pixels.*found 80 x 100"):
        opened(copy, tmp_path).load(2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("val2017", r"coco: has no folder val2017; it is in val2017.zip"),
        ("annotations/panoptic_val2017.json", r"is missing; it is in panoptic_annotations_trainval2017.zip"),
        ("annotations/panoptic_val2017", r"folder of panoptic PNG files is missing; it is in panoptic_ann"),
        ("annotations/instances_val2017.json", r"instances_val2017.json is missing; it is in annotations_"),
    ],
)
def test_what_is_missing_is_said_with_where_it_comes_from(
    copy: Path, tmp_path: Path, name: str, message: str
) -> None:
    (copy / name).rename(tmp_path / "gone")
    with pytest.raises(DataError, match=message) as error:
        opened(copy, tmp_path)
    assert "\n" not in str(error.value)


def test_an_archive_that_was_not_unpacked_is_found(copy: Path, tmp_path: Path) -> None:
    folder = copy / "annotations/panoptic_val2017"
    folder.rename(tmp_path / "gone")
    folder.with_suffix(".zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"unpack .*panoptic_val2017.zip"):
        opened(copy, tmp_path)


@pytest.mark.parametrize("text", ["[1, 2]", "{", '{"images": 1, "annotations": []}', '{"images": []}'])
def test_what_is_no_panoptic_json_is_said_so(copy: Path, tmp_path: Path, text: str) -> None:
    (copy / "annotations/panoptic_val2017.json").write_text(text)
    with pytest.raises(DataError, match=r"panoptic_val2017.json: is no"):
        opened(copy, tmp_path)


def test_the_check_says_what_is_wrong(copy: Path, edit: Edit, tmp_path: Path) -> None:
    declared = load_registry().dataset("minicoco").model_copy(update={"images": 3})
    fetcher = Fetcher(Cache(tmp_path / "cache"))
    check = check_dataset(declared, copy, fetcher)
    assert check.ok
    assert "complete; 3 images decoded" in str(check)
    edit(damage_area)
    (copy / "val2017/000000001001.jpg").unlink()
    check = check_dataset(declared, copy, fetcher)
    assert not check.ok
    assert check.images == 2
    assert len(check.problems) == 2
    assert "000000001001.jpg is missing" in check.problems[0]
    assert "expected 12264" in check.problems[1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def drop_category(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content["categories"] = content["categories"][:1]
    path.write_text(json.dumps(content), encoding="utf-8")


def bad_area(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][7]["area"] = "large"
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"is not of the COCO instance format: Invalid JSON: EOF"),
        (drop_category, r"annotation \d+ is of image \d+ and category \d+, which are not both listed"),
        (bad_area, r"annotations.7.area: "),
    ],
)
def test_instance_annotations_are_read_whole(
    copy: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(copy / "annotations/instances_val2017.json")
    for keep_going in (False, True):
        with pytest.raises(DataError, match=message) as error:
            opened(copy, tmp_path, keep_going=keep_going)
        assert "\n" not in str(error.value)


def test_an_image_that_the_instance_annotations_lack_is_left_out(copy: Path, tmp_path: Path) -> None:
    path = copy / "annotations/instances_val2017.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["images"] = [image for image in content["images"] if image["id"] != 1001]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 1001]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="the instance annotations do not list image 000000001001"):
        opened(copy, tmp_path)
    assert list(opened(copy, tmp_path, keep_going=True).skipped) == ["000000001001"]


@pytest.mark.parametrize("damage", ["cut", "grey", "size", "jpeg"])
def test_headers_tell_what_is_wrong(copy: Path, tmp_path: Path, damage: str) -> None:
    png = copy / "annotations/panoptic_val2017/000000001001.png"
    if damage == "cut":
        cut(png)
    elif damage == "grey":
        Image.open(png).convert("L").save(png)
    elif damage == "size":
        Image.open(png).resize((100, 80)).save(png)
    else:
        (copy / "val2017/000000001001.jpg").write_bytes(b"")
    dataset = opened(copy, tmp_path)
    assert list(wrong_headers(dataset, dataset.image_ids)) == ["000000001001"]


@pytest.mark.parametrize("key", ["id", "area"])
def test_numbers_that_no_picture_can_hold_are_refused(key: str) -> None:
    segment = {"id": 1, "category_id": 1, "area": 1, "iscrowd": 0}
    assert Segment.model_validate(segment).id == 1
    with pytest.raises(ValidationError, match=f"{key}\n.*less than"):
        Segment.model_validate(segment | {key: 10**30})
