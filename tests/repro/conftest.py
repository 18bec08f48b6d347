from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import shutil
import tarfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets.opening import open_files
from zoo.repro.datasets.predictions import write_predictions


def unpacked(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(name)
    with (
        resources.files("zoo.assets").joinpath(f"{name}.tar.gz").open("rb") as file,
        tarfile.open(fileobj=file) as archive,
    ):
        # The `filter` argument is not in every 3.10 and 3.11; the archive is our own.
        for member in archive.getmembers():
            if member.isfile():
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                source = archive.extractfile(member)
                assert source is not None
                target.write_bytes(source.read())
    return folder / name


@pytest.fixture(scope="session")
def minicity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled data set in the Cityscapes layout, unpacked; tests only read it."""
    return unpacked("minicity", tmp_path_factory)


@pytest.fixture(scope="session")
def minicoco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled data set in the COCO layout, unpacked; tests only read it."""
    return unpacked("minicoco", tmp_path_factory)


@pytest.fixture
def copy_images(minicity: Path, tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that copies the first images of the bundled data set into a folder of the test."""

    def copy(count: int, name: str = "data") -> Path:
        for number in range(count):
            for path in minicity.glob(f"*/val/frankfurt/frankfurt_{number:06d}_*"):
                target = tmp_path / name / path.relative_to(minicity)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        return tmp_path / name

    return copy


@pytest.fixture
def tiny(copy_images: Callable[..., Path], tmp_path: Path) -> CityscapesDataset:
    """Two images, opened with a cache of the test."""
    dataset = open_files(CityscapesDataset, copy_images(2), "val", cache=tmp_path / "cache")
    assert isinstance(dataset, CityscapesDataset)
    return dataset


@pytest.fixture
def predict() -> Callable[..., None]:
    """Returns a function that writes ground truth, moved by some pixels, as predictions."""

    def write(dataset: CityscapesDataset, folder: Path, move: tuple[int, int] = (0, 0)) -> None:
        from PIL import Image

        for index, image_id in enumerate(dataset.image_ids):
            panoptic = np.roll(dataset.load(index).panoptic, move, (0, 1))
            label_ids = np.array(Image.open(dataset.root / dataset.ground_truth_name(image_id, "labelIds")))
            train_ids = np.zeros(256, np.uint8)
            train_ids[list(CITYSCAPES.original_ids)] = range(CITYSCAPES.num_classes)
            labels = np.unique(panoptic)
            things = labels[(labels < CITYSCAPES.void_label) & (labels % CITYSCAPES.label_divisor > 0)]
            write_predictions(
                folder,
                image_id,
                panoptic=panoptic,
                semantic=np.roll(train_ids[label_ids], move, (0, 1)),
                instances=SimpleNamespace(labels=things, score=0.5 + things % 7 / 20),
                info=CITYSCAPES,
            )

    return write


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns size and time of change of every file below a folder, without byte code caches."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, int]]]:
    return files_of
