"""Reads COCO's panoptic annotations, and finds the files that belong to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.repro.coco.classes import COCO
from zoo.repro.datasets.image_files import read_bytes

# The archive of the COCO download that holds each part.
HOMES = {
    "images": "val2017.zip",
    "panoptic": "panoptic_annotations_trainval2017.zip",
    "instances": "annotations_trainval2017.zip",
}


@dataclass(frozen=True)
class Segment:
    """One segment of an annotation.

    Attributes:
      id: its value in the panoptic PNG.
      category_id: COCO's category.
      area_px: its number of pixels.
      is_crowd: whether it is a group of instances.
    """

    id: int
    category_id: int
    area_px: int
    is_crowd: bool

    def train_id(self, table: np.ndarray, name: str) -> int:
        """Returns the category's train id.

        Args:
          table: train id of each category id, 0 where there is none.
          name: name of the file for error messages.

        Raises:
          DataError: the category is not one of COCO panoptic's.
        """
        train_id = int(table[self.category_id]) if 0 <= self.category_id < table.size else 0
        if train_id == 0:
            raise DataError(
                f"{name}: segment {self.id} has category {self.category_id}, which is not one of "
                f"the {COCO.num_classes - 1} categories of COCO panoptic"
            )
        return train_id


@dataclass(frozen=True)
class Annotation:
    """One image's panoptic annotation.

    Attributes:
      official_id: number of the image.
      image_file: name of the JPEG file in the split's folder.
      png_file: name of the panoptic PNG file.
      size: (height, width).
      segments: in the order of the file.
    """

    official_id: int
    image_file: str
    png_file: str
    size: tuple[int, int]
    segments: tuple[Segment, ...]


def panoptic_name(split: str) -> str:
    """Returns the panoptic annotation file of a split, relative to the data set's folder."""
    return f"annotations/panoptic_{split}.json"


def instances_name(split: str) -> str:
    """Returns the instance annotation file of a split, relative to the data set's folder."""
    return f"annotations/instances_{split}.json"


def read_annotations(root: Path, split: str) -> tuple[dict[str, Annotation], dict[str, str]]:
    """Returns the annotations of the images that are there, by image name, and why others are left out.

    Raises:
      DataError: a file or folder is missing, or holds what is not the COCO panoptic format.
    """
    if split.startswith("test"):
        raise DataError(f"{root}: the ground truth of {split} is not public; use val2017")
    images = root / split
    if not images.is_dir():
        raise DataError(f"{root}: has no folder {split}; it is in {split}.zip of the COCO download")
    path = root / panoptic_name(split)
    content = _read(path, "panoptic")
    if not path.with_suffix("").is_dir():
        archive = path.with_suffix(".zip")
        hint = f"unpack {archive}" if archive.exists() else f"it is in {HOMES['panoptic']}"
        raise DataError(f"{path.with_suffix('')}: the folder of panoptic PNG files is missing; {hint}")
    present = {file.name for file in images.iterdir() if file.suffix in (".jpg", ".jpeg")}
    pngs = {file.name for file in path.with_suffix("").iterdir() if file.suffix == ".png"}
    found: dict[str, Annotation] = {}
    skipped: dict[str, str] = {}
    try:
        by_id = {int(image["id"]): image for image in content["images"]}
        for element in content["annotations"]:
            official_id = int(element["image_id"])
            if official_id not in by_id:
                raise DataError(f"{path}: annotation of image {official_id}, which `images` does not list")
            annotation = _annotation(by_id[official_id], element)
            name = Path(annotation.image_file).stem
            if name in found:
                raise DataError(f"{path}: image {name} is annotated twice")
            if annotation.image_file not in present:
                skipped[name] = f"{split}/{annotation.image_file} is missing, but annotated"
            elif annotation.png_file not in pngs:
                skipped[name] = f"annotations/{path.stem}/{annotation.png_file} is missing, but annotated"
            else:
                found[name] = annotation
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: is not of the COCO panoptic format: {type(error).__name__}: {error}"
        ) from None
    annotated = {annotation.image_file for annotation in found.values()}
    for file in sorted(present - annotated):
        skipped.setdefault(Path(file).stem, f"{split}/{file} has no annotation in {path.name}")
    if not found:
        raise DataError(f"{path}: annotates none of the images in {images}")
    return found, skipped


def _read(path: Path, kind: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: is missing; it is in {HOMES[kind]} of the COCO download")
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise DataError(f"{path}: is not a JSON file: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is not of the COCO panoptic format: expected an object")
    return content


def _annotation(image: Mapping[str, Any], element: Mapping[str, Any]) -> Annotation:
    segments = tuple(
        Segment(
            int(segment["id"]), int(segment["category_id"]), int(segment["area"]), bool(segment["iscrowd"])
        )
        for segment in element["segments_info"]
    )
    size = (int(image["height"]), int(image["width"]))
    return Annotation(int(image["id"]), str(image["file_name"]), str(element["file_name"]), size, segments)
