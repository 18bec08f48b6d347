"""Reads COCO's panoptic and instance annotations whole, and finds the files that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from zoo.errors import DataError
from zoo.remote.stores import NoListingError
from zoo.repro.coco.classes import Category, classes_of_categories
from zoo.repro.datasets.image_files import read_bytes

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

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

    def train_id(self, classes: DatasetInfo, name: str) -> int:
        """Returns the category's train id; a DataError about an unknown one calls the file `name`."""
        train_id = classes.train_ids.get(self.category_id)
        if train_id is None:
            whose = "COCO panoptic" if classes.upstream_name else "the annotations"
            raise DataError(
                f"{name}: segment {self.id} has category {self.category_id}, which is not one of "
                f"the {classes.num_classes - 1} categories of {whose}"
            )
        return train_id


class _SegmentedImage(BaseModel):
    image_id: int
    file_name: str
    segments_info: list[Segment]


class _PanopticFile(BaseModel):
    images: list[_Image]
    annotations: list[_SegmentedImage]
    categories: list[Category] | None = None


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


class _InstanceCategory(BaseModel):
    id: int
    name: str | None = None


class _InstanceFile(BaseModel):
    images: list[_Image]
    annotations: list[_Instance]
    categories: list[_InstanceCategory]


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


class Annotations(NamedTuple):
    """What the annotations of a split hold."""

    by_image: dict[str, Annotation]  # by image name
    skipped: dict[str, str]  # why images are left out, by name
    classes: DatasetInfo
    have_instances: bool  # whether there are instance annotations too


def read_annotations(root: Path, split: str) -> Annotations:
    """Reads the annotations of a split.

    Instance annotations are needed with COCO's own images and categories; other collections may lack them.

    Raises:
      DataError: a file or folder is missing, or holds what is not the COCO format; the line says where.
    """
    if split.startswith("test") and _is_of_coco(split):
        raise DataError(f"{root}: the ground truth of {split} is not public; use val2017")
    images = root / split
    if not images.is_dir():
        home = f"it is in {split}.zip of the COCO download" if _is_of_coco(split) else "images belong there"
        raise DataError(f"{root}: has no folder {split}; {home}")
    path = root / panoptic_name(split)
    content = _read(path, "panoptic", _PanopticFile, split)
    classes = classes_of_categories(content.categories, str(path))
    folder = path.with_suffix("")
    if not folder.is_dir():
        archive = path.with_suffix(".zip")
        hint = f"unpack {archive}" if archive.exists() else _home("panoptic", split)
        raise DataError(f"{folder}: the folder of panoptic PNG files is missing; {hint}")
    present = _names_in(images, (".jpg", ".jpeg", ".png"))
    pngs = _names_in(folder, (".png",))
    found, skipped = _usable(content, present, pngs, path, split)
    if not found:
        raise DataError(f"{path}: annotates none of the images in {images}")
    instances = root / instances_name(split)
    have_instances = instances.exists() or (bool(classes.upstream_name) and _is_of_coco(split))
    if have_instances:
        _compare(_read_instances(instances, classes, split), found, skipped)
    return Annotations(found, skipped, classes, have_instances)


def _names_in(folder: Path, suffixes: tuple[str, ...]) -> set[str] | None:
    """Returns the names of the images in a folder; None on a server that does not list them."""
    try:
        return {file.name for file in folder.iterdir() if file.suffix.lower() in suffixes}
    except NoListingError:
        return None


def _usable(
    content: _PanopticFile, present: set[str] | None, pngs: set[str] | None, path: Path, split: str
) -> tuple[dict[str, Annotation], dict[str, str]]:
    """Returns the annotations of images with both files, by image name, and why others are left out."""
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
        if present is not None and image.file_name not in present:
            skipped[name] = f"{split}/{image.file_name} is missing, but annotated"
        elif pngs is not None and element.file_name not in pngs:
            skipped[name] = f"annotations/{path.stem}/{element.file_name} is missing, but annotated"
        else:
            size, segments = (image.height, image.width), element.segments_info
            found[name] = Annotation(image.id, image.file_name, element.file_name, size, segments)
    for file in sorted((present or set()) - {annotation.image_file for annotation in found.values()}):
        skipped.setdefault(Path(file).stem, f"{split}/{file} has no annotation in {path.name}")
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


def _read_instances(path: Path, classes: DatasetInfo, split: str) -> _InstanceFile:
    content = _read(path, "instance", _InstanceFile, split)
    things = {classes.original_ids[i]: classes.class_names[i] for i in classes.thing_class_ids}
    for category in content.categories:
        if category.name not in (None, things.get(category.id)) or category.id not in things:
            raise DataError(
                f"{path}: category {category.id} ({category.name}) is not a thing category of the panoptic "
                "annotations; both files must mean the same by a number"
            )
    images = {image.id for image in content.images}
    categories = {category.id for category in content.categories}
    for instance in content.annotations:
        if instance.image_id not in images or instance.category_id not in categories:
            raise DataError(
                f"{path}: annotation {instance.id} is of image {instance.image_id} and category "
                f"{instance.category_id}, which are not both listed; {_again('instance', split)}"
            )
    return content


def _is_of_coco(split: str) -> bool:
    return split.endswith("2017")


def _home(kind: str, split: str) -> str:
    return f"it is in {HOMES[kind]} of the COCO download" if _is_of_coco(split) else "expected it there"


def _again(kind: str, split: str) -> str:
    return f"unpack {HOMES[kind]} again" if _is_of_coco(split) else "make the file again"


def _read(path: Path, kind: str, form: type[_File], split: str) -> _File:
    if not path.is_file():
        raise DataError(f"{path} is missing; {_home(kind, split)}")
    try:
        return form.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise DataError(
            f"{path}: is not of the COCO {kind} format: {message}; {_again(kind, split)}"
        ) from None
