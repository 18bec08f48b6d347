"""Classes of one's own: the categories of annotations, and tables in a registry file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError, RegistryError
from zoo.registry.lookup import load_registry
from zoo.registry.yaml_file import parse
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets.opening import open_files


def edited(root: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    content = json.loads((root / "annotations/panoptic_val.json").read_text())
    change(content["categories"])
    copy = tmp_path / "copy"
    (copy / "annotations").mkdir(parents=True)
    (copy / "val").symlink_to(root / "val")
    (copy / "annotations/panoptic_val").symlink_to(root / "annotations/panoptic_val")
    (copy / "annotations/panoptic_val.json").write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.clear(), "lists 0 categories, expected 1 to 255"),
        (lambda rows: rows[1].update(id=7), "two categories have the id 7; give each its own"),
        (lambda rows: rows[1].update(name="auto"), "two categories have the name 'auto'"),
        (lambda rows: rows[1].pop("isthing"), "categories.1.isthing: Field required; make the file again"),
        (lambda rows: rows[1].update(isthing=2), "categories.1.isthing"),
        (lambda rows: rows[1].update(id="12a"), "categories.1.id: Input should be a valid integer"),
        (lambda rows: rows[1].update(id=-1), "categories.1.id: Input should be greater than or equal to 0"),
        (
            lambda rows: rows[1].update(id=70000),
            "categories.1.id: Input should be less than or equal to 65534",
        ),
        (lambda rows: rows[1].update(name=""), "categories.1.name: String should have at least 1 character"),
        (
            lambda rows: rows.extend({"id": 2000 + i, "name": f"n{i}", "isthing": 0} for i in range(251)),
            "256 cat",
        ),
        (
            lambda rows: rows.pop(1),
            "has category 1200, which is not one of the 4 categories of the annotations",
        ),
    ],
)
def test_categories_that_cannot_be_used_are_named(
    own_coco: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    root = edited(own_coco, tmp_path, change)
    with pytest.raises(DataError) as error:
        open_files(CocoDataset, root, "val", cache=tmp_path / "cache").check_headers(0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_order_of_categories_in_the_file_changes_nothing(own_coco: Path, tmp_path: Path) -> None:
    root = edited(own_coco, tmp_path, lambda rows: rows.reverse())
    assert open_files(CocoDataset, root, "val").info == open_files(CocoDataset, own_coco, "val").info


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "classes: [{name: a, id: 1, isthing: true}, {name: a, id: 2, isthing: false}]",
            "another name for each",
        ),
        (
            "classes: [{name: a, id: 1, isthing: true}, {name: b, id: 1, isthing: false}]",
            "another id for each",
        ),
        ("classes: [{name: a, id: 66, isthing: true}]", "label ids from 1 to 65 for things"),
        ("classes: [{name: a, id: 255, isthing: false}]", "expected 254 or less, found 255"),
        ("classes: [{name: a, id: 1}]", "classes.0.isthing: expected a value, found none"),
        ("classes: [{name: a, id: 1, isthing: false, colour: red}]", "classes.0.colour: expected a list"),
        ("void_ids: [256]", "expected 255 or less, found 256"),
        ("classes: []", "expected a list of 1 or more values"),
        (
            "classes: [{name: a, id: 1, isthing: true}]\n    void_ids: [1]",
            "expected label ids that are not of a class, found 1",
        ),
    ],
)
def test_tables_of_classes_that_cannot_be_used_are_named(lines: str, message: str) -> None:
    text = "datasets:\n  town:\n    title: t\n    format: cityscapes\n    split: val\n    images: 7\n    "
    text += f"{lines}\n"
    with pytest.raises(RegistryError) as error:
        load_registry([], [parse(text, "own.yaml")])
    assert message in str(error.value)
    assert str(error.value).startswith("own.yaml:")


def test_a_table_is_not_for_the_coco_format() -> None:
    row = "{name: a, id: 1, isthing: true}"
    text = f"datasets:\n  a: {{title: t, format: coco, split: val, images: 7, classes: [{row}]}}\n"
    with pytest.raises(RegistryError, match="expected none, as the annotations of the format coco list them"):
        load_registry([], [parse(text, "own.yaml")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 40}, "category 40 (auto) is not a thing category of the panoptic annotations"),
        ({"name": "lorry"}, "category 3 (lorry) is not a thing category of the panoptic annotations"),
    ],
)
def test_instance_annotations_that_mean_something_else_are_refused(
    own_coco: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    root = edited(own_coco, tmp_path, lambda rows: None)
    category = {"id": 3, "name": "auto", **change}
    content = {"images": [], "annotations": [], "categories": [category]}
    (root / "annotations/instances_val.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        open_files(CocoDataset, root, "val", cache=tmp_path / "cache")
    assert message in str(error.value)


def test_a_test_split_of_ones_own_may_have_ground_truth(
    own_coco: Path, copy_images: Callable[..., Path], tmp_path: Path
) -> None:
    root = tmp_path / "coco"
    shutil.copytree(own_coco / "val", root / "test")
    for path in (own_coco / "annotations").iterdir():
        copy = shutil.copytree if path.is_dir() else shutil.copy
        (root / "annotations").mkdir(exist_ok=True)
        copy(path, root / "annotations" / path.name.replace("_val", "_test"))
    assert len(open_files(CocoDataset, root, "test", cache=tmp_path / "cache")) == 7
    city = copy_images(2)
    for kind in ("leftImg8bit", "gtFine"):
        (city / kind / "val").rename(city / kind / "test")
    assert len(open_files(CityscapesDataset, city, "test", cache=tmp_path / "cache")) == 2
    (city / "leftImg8bit/test/frankfurt").rename(city / "leftImg8bit/test/berlin")
    with pytest.raises(DataError, match="the ground truth of the test split is not public"):
        open_files(CityscapesDataset, city, "test", cache=tmp_path / "cache")
