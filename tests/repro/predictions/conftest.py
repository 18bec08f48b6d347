"""Correct predictions for the bundled data sets, which tests then break."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets.opening import open_files

write_shifted_predictions = runpy.run_path(str(Path(__file__).parents[1] / "shifted_predictions.py"))[
    "write_shifted_predictions"
]


@pytest.fixture(scope="session")
def city(minicity: Path, tmp_path_factory: pytest.TempPathFactory) -> CityscapesDataset:
    """Three images of the bundled data set in the Cityscapes layout."""
    folder = tmp_path_factory.mktemp("city")
    for number in range(3):
        for path in minicity.glob(f"*/val/frankfurt/frankfurt_{number:06d}_*"):
            target = folder / path.relative_to(minicity)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    dataset = open_files(CityscapesDataset, folder, "val", cache=folder / "cache")
    assert isinstance(dataset, CityscapesDataset)
    return dataset


@pytest.fixture(scope="session")
def coco(minicoco: Path, tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """The bundled data set in the COCO layout."""
    dataset = open_files(CocoDataset, minicoco, "val2017", cache=tmp_path_factory.mktemp("cache"))
    assert isinstance(dataset, CocoDataset)
    return dataset


@pytest.fixture(scope="session")
def _city_predictions(city: CityscapesDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("city_predictions")
    write_shifted_predictions(folder, city)
    return folder


@pytest.fixture(scope="session")
def _coco_predictions(coco: CocoDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco_predictions")
    shutil.copytree(coco.panoptic_folder, folder / "panoptic")
    annotations = json.loads(coco.panoptic_json.read_text())["annotations"]
    for annotation in annotations:
        for segment in annotation["segments_info"]:
            segment |= {"iscrowd": 0, "score": 0.25 + segment["id"] % 3 / 4}
    (folder / "panoptic.json").write_text(json.dumps({"annotations": annotations}))
    return folder


@pytest.fixture
def city_predictions(_city_predictions: Path, tmp_path: Path) -> Path:
    """Correct predictions in all of Cityscapes' forms, for the test alone."""
    return Path(shutil.copytree(_city_predictions, tmp_path / "predictions"))


@pytest.fixture
def coco_predictions(_coco_predictions: Path, tmp_path: Path) -> Path:
    """Correct predictions in the COCO panoptic format with scores, for the test alone."""
    return Path(shutil.copytree(_coco_predictions, tmp_path / "predictions"))


@pytest.fixture
def edit() -> Callable[..., None]:
    """Returns a function that changes the annotations of a JSON file in place."""

    def change(folder: Path, function: Callable[[list], object]) -> None:
        path = folder / "panoptic.json"
        content = json.loads(path.read_text())
        function(content["annotations"])
        path.write_text(json.dumps(content))

    return change
