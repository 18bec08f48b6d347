"""Says what of a Cityscapes folder is missing or wrong, and what makes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DataError
from zoo.repro.datasets.dataset import decode_id_png, find_folder, read_bytes

if TYPE_CHECKING:
    from zoo.repro.cityscapes.dataset import CityscapesDataset

_IMAGE_SUFFIX = "_leftImg8bit.png"
# The official scripts take names apart at underscores, and paths apart at blanks.
_OFFICIAL_NAME = re.compile(r"[^_\s]+_[^_\s]+_[^_\s]+")

# What makes a missing file from the polygons: programs of the official package, one file at a time.
_MADE_BY = {
    "labelIds": "python -m cityscapesscripts.preparation.json2labelImg POLYGONS.json OUTPUT.png",
    "instanceIds": "python -m cityscapesscripts.preparation.json2instanceImg POLYGONS.json OUTPUT.png",
}
_GROUND_TRUTH = re.compile(
    r"gtFine/[^/]+/(?P<city>[^/]+)/(?P<image_id>[^/]+)_gtFine_(labelIds|instanceIds)\.png"
)
_TRAIN_ID_FILES = {"labelIds": "labelTrainIds", "instanceIds": "instanceTrainIds"}
_MAX_LABEL_ID = 33


def find_root(path: Path) -> Path:
    """Returns the folder that holds `leftImg8bit`: `path`, its one subfolder that does, or its parent.

    Raises:
      DataError: there is none, or more than one.
    """
    expected = (
        f"leftImg8bit/<split>/<city>/*{_IMAGE_SUFFIX} and "
        "gtFine/<split>/<city>/*_gtFine_{labelIds,instanceIds}.png "
        "(leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of the Cityscapes download)"
    )
    return find_folder(
        path, lambda folder: (folder / "leftImg8bit").is_dir(), ("leftImg8bit", "gtFine"), expected
    )


def find_images(root: Path, split: str) -> dict[str, str]:
    """Returns the city of each image of a split, by the image's name.

    Raises:
      DataError: there is no such split, it has no images, or it is the test split.
    """
    if split == "test":
        raise DataError(
            f"{root}: the ground truth of the test split is not public, so it cannot be scored here; use val"
        )
    folder = root / "leftImg8bit" / split
    if not folder.is_dir():
        splits = sorted(found.name for found in (root / "leftImg8bit").iterdir() if found.is_dir())
        raise DataError(f"{root}: has no leftImg8bit/{split}; splits found: {', '.join(splits) or 'none'}")
    cities: dict[str, str] = {}
    for path in folder.glob(f"*/*{_IMAGE_SUFFIX}"):
        image_id = path.name[: -len(_IMAGE_SUFFIX)]
        if image_id in cities:
            raise DataError(
                f"{folder}: image {image_id} is there twice, in {cities[image_id]} and {path.parent.name}"
            )
        cities[image_id] = path.parent.name
    if not cities:
        raise DataError(f"{folder}: no image found; expected <city>/*{_IMAGE_SUFFIX}")
    return cities


def official_obstacle(image_ids: Sequence[str]) -> str | None:
    """Returns why the official scripts could not tell these images apart, or None."""
    for image_id in image_ids:
        if not _OFFICIAL_NAME.fullmatch(image_id):
            return f"image {image_id}: the official scripts need names of the form <city>_<sequence>_<frame>"
    # They look for predictions by `<name>*`, so no name may begin another; sorted, such names are neighbours.
    for image_id, following in pairwise(image_ids):
        if following.startswith(image_id):
            return (
                f"images {image_id}, {following}: the official scripts confuse names that begin with another"
            )
    return None


def without_picture(dataset: CityscapesDataset) -> dict[str, str]:
    """Returns the city of each image that has ground truth, but no picture; by name."""
    known = set(dataset.pictures)
    found: dict[str, str] = {}
    for name in _ground_truth_files(dataset):
        match = _GROUND_TRUTH.fullmatch(name)
        if match and match["image_id"] not in known:
            found[match["image_id"]] = match["city"]
    return found


def left_out(dataset: CityscapesDataset, image_ids: Sequence[str]) -> dict[str, str]:
    """Returns the images of which a file is missing, and which."""
    present = _ground_truth_files(dataset)
    missing: dict[str, str] = {}
    pictures = set(dataset.pictures)
    for image_id in image_ids:
        if image_id not in pictures:
            missing[image_id] = f"{dataset.image_name(image_id)} is missing, but has ground truth"
        for kind in _MADE_BY:
            name = dataset.ground_truth_name(image_id, kind)
            if name not in present:
                missing.setdefault(image_id, f"{name} is missing")
    return missing


def problems(dataset: CityscapesDataset) -> list[str]:
    """Returns what is missing or wrong in a data set, one line each."""
    found: list[str] = []
    total = len(dataset.pictures)
    if dataset.expected_images is not None and total != dataset.expected_images:
        found.append(
            f"leftImg8bit/{dataset.split} has {total} images, expected {dataset.expected_images}; "
            "complete the copy, or --keep-going leaves out what is missing"
        )
    present = _ground_truth_files(dataset)
    for kind in _MADE_BY:
        found += _missing(dataset, kind, present)
    orphans = sorted(without_picture(dataset))
    if orphans:
        found.append(
            f"{len(orphans)} of {len(orphans) + total} leftImg8bit/{dataset.split}/*{_IMAGE_SUFFIX} missing "
            f"for the ground truth that is there, first: {dataset.image_name(orphans[0])}"
        )
    if not found:
        # One file is enough: if one file holds train ids, all of them do.
        try:
            check_label_ids(dataset.root, dataset.ground_truth_name(dataset.pictures[0], "labelIds"))
        except DataError as error:
            found.append(str(error))
    return found


def _ground_truth_files(dataset: CityscapesDataset) -> set[str]:
    folder = dataset.root / "gtFine" / dataset.split
    return {path.relative_to(dataset.root).as_posix() for path in folder.glob("*/*_gtFine_*")}


def _missing(dataset: CityscapesDataset, kind: str, present: set[str]) -> list[str]:
    names = [dataset.ground_truth_name(image_id, kind) for image_id in dataset.pictures]
    missing = [name for name in names if name not in present]
    if not missing:
        return []
    line = f"{len(missing)} of {len(names)} gtFine/{dataset.split}/*_{kind}.png missing, first: {missing[0]}"
    polygons = missing[0].replace(f"_{kind}.png", "_polygons.json")
    train_ids = missing[0].replace(f"_{kind}.png", f"_{_TRAIN_ID_FILES[kind]}.png")
    if train_ids in present:
        line += f" (only *_{_TRAIN_ID_FILES[kind]}.png is there, but the original label ids are needed)"
    if polygons in present:
        return [f"{line}; `{_MADE_BY[kind]}` makes it from *_polygons.json"]
    return [f"{line}; it is in gtFine_trainvaltest.zip of the Cityscapes download"]


def check_label_ids(root: Path, name: str) -> None:
    """Decodes a `labelIds` file.

    Raises:
      DataError: it is broken, or holds train ids or others that are no label ids.
    """
    largest = int(np.max(decode_id_png(read_bytes(root / name), str(root / name))))
    if largest > _MAX_LABEL_ID:
        what = "train ids" if largest == 255 else "no label ids"
        raise DataError(
            f"{name} holds {what} (found {largest}); expected the original label ids, 0 to {_MAX_LABEL_ID}"
        )
