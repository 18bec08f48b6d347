"""Reads COCO's panoptic and instance annotations whole, and finds the files that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from zoo.errors import DataError
from zoo.repro.coco.classes import CATEGORY_TO_TRAIN_ID, COCO
from zoo.repro.datasets.image_files import read_bytes

# The archive of the COCO download that holds each part.
HOMES = {
    "images": "val2017.zip",
    "panoptic": "panoptic_annotations_trainval2017.zip",
    "instance": "annotations_trainval2017.zip",
}


class _Image(BaseModel):
    id: int
    file_name: str
    height: int
    width: int


class Segment(BaseModel):
    """One segment of an image: its value in the panoptic PNG, its category, its number of pixels."""

    id: int
    category_id: int
    area: int
    iscrowd: bool

    def train_id(self, name: str) -> int:
        """Returns the category's train id; a DataError about an unknown one calls the file `name`."""
        is_known = 0 <= self.category_id < CATEGORY_TO_TRAIN_ID.size
        train_id = int(CATEGORY_TO_TRAIN_ID[self.category_id]) if is_known else 0
        if train_id == 0:
            raise DataError(
                f"{name}: segment {self.id} has category {self.category_id}, which is not one of "
                f"the {COCO.num_classes - 1} categories of COCO panoptic"
            )
        return train_id


class _SegmentedImage(BaseModel):
    image_id: int
    file_name: str
    segments_info: list[Segment]


class _PanopticFile(BaseModel):
    images: list[_Image]
    annotations: list[_SegmentedImage]


class _RunLengths(BaseModel):
    counts: list[int] | str
    size: tuple[int, int]


class _Instance(BaseModel):
    id: int
    image_id: int
    category_id: int
    area: float
    iscrowd: Literal[0, 1]
    segmentation: list[list[float]] | _RunLengths


class _Category(BaseModel):
    id: int


class _InstanceFile(BaseModel):
    images: list[_Image]
    annotations: list[_Instance]
    categories: list[_Category]


_File = TypeVar("_File", bound=BaseModel)


@dataclass(frozen=True)
class Annotation:
    """One image's panoptic annotation."""

    official_id: int  # number of the image
    image_file: str  # name of the JPEG file in the split's folder
    png_file: str  # name of the panoptic PNG file
    size: tuple[int, int]  # height and width, pixels
    segments: list[Segment]  # in the order of the file


def panoptic_name(split: str) -> str:
    """Returns the panoptic annotation file of a split, relative to the data set's folder."""
    return f"annotations/panoptic_{split}.json"


def instances_name(split: str) -> str:
    """Returns the instance annotation file of a split, relative to the data set's folder."""
    return f"annotations/instances_{split}.json"


def read_annotations(root: Path, split: str) -> tuple[dict[str, Annotation], dict[str, str]]:
    """Returns the annotations of the images that are there, by image name, and why others are left out.

    Raises:
      DataError: a file or folder is missing, or holds what is not the COCO format; the line says where.
    """
    if split.startswith("test"):
        raise DataError(f"{root}: the ground truth of {split} is not public; use val2017")
    images = root / split
    if not images.is_dir():
        raise DataError(f"{root}: has no folder {split}; it is in {split}.zip of the COCO download")
    path = root / panoptic_name(split)
    content = _read(path, "panoptic", _PanopticFile)
    folder = path.with_suffix("")
    if not folder.is_dir():
        archive = path.with_suffix(".zip")
        hint = f"unpack {archive}" if archive.exists() else f"it is in {HOMES['panoptic']}"
        raise DataError(f"{folder}: the folder of panoptic PNG files is missing; {hint}")
    present = {file.name for file in images.iterdir() if file.suffix in (".jpg", ".jpeg")}
    pngs = {file.name for file in folder.iterdir() if file.suffix == ".png"}
    found: dict[str, Annotation] = {}
    skipped: dict[str, str] = {}
    by_id = {image.id: image for image in content.images}
    for element in content.annotations:
        image = by_id.get(element.image_id)
        if image is None:
            raise DataError(f"{path}: annotation of image {element.image_id}, which `images` does not list")
        name = Path(image.file_name).stem
        if name in found:
            raise DataError(f"{path}: image {name} is annotated twice")
        if image.file_name not in present:
            skipped[name] = f"{split}/{image.file_name} is missing, but annotated"
        elif element.file_name not in pngs:
            skipped[name] = f"annotations/{path.stem}/{element.file_name} is missing, but annotated"
        else:
            size, segments = (image.height, image.width), element.segments_info
            found[name] = Annotation(image.id, image.file_name, element.file_name, size, segments)
    for file in sorted(present - {annotation.image_file for annotation in found.values()}):
        skipped.setdefault(Path(file).stem, f"{split}/{file} has no annotation in {path.name}")
    if not found:
        raise DataError(f"{path}: annotates none of the images in {images}")
    _compare(_read_instances(root / instances_name(split)), found, skipped)
    return found, skipped


def _compare(instances: _InstanceFile, annotations: dict[str, Annotation], skipped: dict[str, str]) -> None:
    """Moves images on which panoptic and instance annotations disagree from `annotations` to `skipped`."""
    listed = {Path(image.file_name).stem: image for image in instances.images}
    for name in list(annotations):
        image = listed.get(name)
        if image is None or image.id != annotations[name].official_id:
            skipped[name] = f"the instance annotations do not list image {name}"
        elif (image.height, image.width) != annotations[name].size:
            skipped[name] = f"the instance annotations give image {name} another size"
        else:
            continue
        del annotations[name]


def _read_instances(path: Path) -> _InstanceFile:
    content = _read(path, "instance", _InstanceFile)
    images = {image.id for image in content.images}
    categories = {category.id for category in content.categories}
    for instance in content.annotations:
        if instance.image_id not in images or instance.category_id not in categories:
            raise DataError(
                f"{path}: annotation {instance.id} is of image {instance.image_id} and category "
                f"{instance.category_id}, which are not both listed; unpack {HOMES['instance']} again"
            )
    return content


def _read(path: Path, kind: str, form: type[_File]) -> _File:
    if not path.is_file():
        raise DataError(f"{path} is missing; it is in {HOMES[kind]} of the COCO download")
    try:
        return form.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise DataError(
            f"{path}: is not of the COCO {kind} format: {message}; unpack {HOMES[kind]} again"
        ) from None
