"""Reads COCO's instance annotations whole, before `pycocotools` stumbles over them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from zoo.errors import DataError
from zoo.repro.coco.annotations import HOMES, Annotation
from zoo.repro.datasets.image_files import read_bytes


class _Image(BaseModel):
    id: int
    file_name: str
    height: int
    width: int


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


class InstanceAnnotations(BaseModel):
    """The content of `instances_<split>.json`, as far as it is read."""

    images: list[_Image]
    annotations: list[_Instance]
    categories: list[_Category]

    def compare(self, annotations: dict[str, Annotation], skipped: dict[str, str]) -> None:
        """Moves images on which panoptic and instance annotations disagree from `annotations` to `skipped`.

        Args:
          annotations: panoptic annotations by image name.
          skipped: why images are left out, by name.
        """
        listed = {Path(image.file_name).stem: image for image in self.images}
        for name in list(annotations):
            image = listed.get(name)
            if image is None or image.id != annotations[name].official_id:
                skipped[name] = f"the instance annotations do not list image {name}"
            elif (image.height, image.width) != annotations[name].size:
                skipped[name] = f"the instance annotations give image {name} another size"
            else:
                continue
            del annotations[name]


def read_instances(path: Path) -> InstanceAnnotations:
    """Returns the instance annotations, checked whole.

    Raises:
      DataError: the file is missing, or is not of the COCO format; the line says where.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; it is in {HOMES['instances']} of the COCO download")
    try:
        content = InstanceAnnotations.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise DataError(
            f"{path}: is not of the COCO instance format: {message}; unpack {HOMES['instances']} again"
        ) from None
    images = {image.id for image in content.images}
    categories = {category.id for category in content.categories}
    for instance in content.annotations:
        if instance.image_id not in images or instance.category_id not in categories:
            raise DataError(
                f"{path}: annotation {instance.id} is of image {instance.image_id} and category "
                f"{instance.category_id}, which are not both listed; unpack {HOMES['instances']} again"
            )
    return content
