"""Reads COCO's panoptic and instance annotations whole, and finds the files that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError

from zoo.errors import DataError
from zoo.remote.stores import NoListingError
from zoo.repro.coco.classes import Category, classes_of_categories
from zoo.repro.coco.split_files import Kind, SplitFiles
from zoo.repro.datasets.image_files import read_bytes

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

ImageId = int | str
"""What annotations call an image: a number, or the name of its file without the extension."""


class _Image(BaseModel):
    id: ImageId
    file_name: str
    height: int
    width: int


class Segment(BaseModel):
    """One segment of an image: its value in the panoptic PNG, its category, its number of pixels."""

    # Three bytes of a colour, and no more pixels than an image has.
    id: Annotated[int, Field(ge=0, lt=1 << 24)]
    category_id: int
    area: Annotated[int, Field(lt=1 << 31)]
    iscrowd: bool

    def train_id(self, classes: DatasetInfo, name: str) -> int:
        """Returns the category's train id; a DataError about an unknown one calls the file `name`."""
        train_id = classes.train_ids.get(self.category_id)
        if train_id is None:
            whose = classes.upstream_name or "the annotations"
            raise DataError(
                f"{name}: segment {self.id} has category {self.category_id}, which is not one of "
                f"the {classes.num_classes - 1} categories of {whose}"
            )
        return train_id


class _SegmentedImage(BaseModel):
    image_id: ImageId
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
    image_id: ImageId
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

    official_id: ImageId
    image_file: str  # name of the JPEG file in the split's folder
    png_file: str  # name of the panoptic PNG file
    size: tuple[int, int]  # height and width, pixels
    segments: list[Segment]  # in the order of the file


class Annotations(NamedTuple):
    """What the annotations of a split hold."""

    by_image: dict[str, Annotation]  # by image name
    skipped: dict[str, str]  # why images are left out, by name
    classes: DatasetInfo
    have_instances: bool  # whether there are instance annotations too


def read_annotations(root: Path, split: str, files: SplitFiles, published: DatasetInfo) -> Annotations:
    """Reads the annotations of a split.

    Args:
      root: the data set's folder.
      split: name of the split.
      files: the split's files; instance annotations may be missing where it does not need them.
      published: the classes of the published data set of this form.

    Raises:
      DataError: a file or folder is missing, or holds what is not the COCO format; the line says where.
    """
    if files.is_secret:
        raise DataError(f"{root}: the ground truth of {split} is not public; use val2017")
    images = root / files.images
    if not images.is_dir():
        raise DataError(f"{root}: has no folder {files.images}; {files.missing('images')}")
    path = root / files.panoptic
    content = _read(path, "panoptic", _PanopticFile, files)
    classes = classes_of_categories(content.categories, str(path), published, names_vary=files.names_vary)
    folder = path.with_suffix("")
    if not folder.is_dir():
        archive = path.with_suffix(".zip")
        hint = f"unpack {archive}" if archive.exists() else files.missing("panoptic")
        raise DataError(f"{folder}: the folder of panoptic PNG files is missing; {hint}")
    present = _names_in(images, (".jpg", ".jpeg", ".png"))
    pngs = _names_in(folder, (".png",))
    found, skipped = _usable(content, present, pngs, path, files)
    if not found:
        raise DataError(f"{path}: annotates none of the images in {images}")
    instances = root / files.instances
    have_instances = instances.exists() or (bool(classes.upstream_name) and files.needs_instances)
    if have_instances:
        _compare(_read_instances(instances, classes, files), found, skipped)
    return Annotations(found, skipped, classes, have_instances)


def _names_in(folder: Path, suffixes: tuple[str, ...]) -> set[str] | None:
    """Returns the names of the images in a folder; None on a server that does not list them."""
    try:
        return {file.name for file in folder.iterdir() if file.suffix.lower() in suffixes}
    except NoListingError:
        return None


def _usable(
    content: _PanopticFile, present: set[str] | None, pngs: set[str] | None, path: Path, files: SplitFiles
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
        if image.id != name and isinstance(image.id, str):
            raise DataError(
                f"{path}: calls the image {image.file_name} {image.id!r}, expected a number or {name!r}"
            )
        if name in found:
            raise DataError(f"{path}: image {name} is annotated twice")
        if present is not None and image.file_name not in present:
            skipped[name] = f"{files.images}/{image.file_name} is missing, but annotated"
        elif pngs is not None and element.file_name not in pngs:
            folder = files.panoptic.removesuffix(".json")
            skipped[name] = f"{folder}/{element.file_name} is missing, but annotated"
        else:
            size, segments = (image.height, image.width), element.segments_info
            found[name] = Annotation(image.id, image.file_name, element.file_name, size, segments)
    for file in sorted((present or set()) - {annotation.image_file for annotation in found.values()}):
        skipped.setdefault(Path(file).stem, f"{files.images}/{file} has no annotation in {path.name}")
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


def _read_instances(path: Path, classes: DatasetInfo, files: SplitFiles) -> _InstanceFile:
    content = _read(path, "instance", _InstanceFile, files)
    things = {classes.original_ids[i]: classes.class_names[i] for i in classes.thing_class_ids}
    for category in content.categories:
        is_named_so = files.names_vary or category.name in (None, things.get(category.id))
        if category.id not in things or not is_named_so:
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
                f"{instance.category_id}, which are not both listed; {files.broken('instance')}"
            )
    return content


def _read(path: Path, kind: Kind, form: type[_File], files: SplitFiles) -> _File:
    if not path.is_file():
        raise DataError(f"{path} is missing; {files.missing(kind)}")
    try:
        return form.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise DataError(
            f"{path}: is not of the COCO {kind} format: {message}; {files.broken(kind)}"
        ) from None
