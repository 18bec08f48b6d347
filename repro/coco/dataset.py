"""Panoptic segmentation in COCO's form: images, ground truth, and segments."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.errors import DataError
from zoo.metrics.segments import OfficialTruth, look_up
from zoo.repro.coco.annotations import Annotation, ImageId, read_annotations
from zoo.repro.coco.classes import COCO
from zoo.repro.coco.split_files import SplitFiles, coco_files
from zoo.repro.datasets.dataset import NO_PICTURE, FolderDataset, Sample
from zoo.repro.datasets.image_files import (
    RGB,
    decode_for_display,
    decode_image,
    image_size,
    read_bytes,
    read_png_header,
    require_size,
)
from zoo.repro.datasets.opening import find_folder
from zoo.repro.datasets.segment_colours import labels_of_colours

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.registry.dataset_info import DatasetInfo


class CocoDataset(FolderDataset):
    """One split of COCO panoptic, from `<split>` and `annotations`; images are called like `000000000139`.

    Attributes:
      has_instances: whether there are instance annotations.
      names_files: names the files of a split.
    """

    info = COCO
    layout = "<split>/ with images, annotations/panoptic_<split>.json and its folder of PNG files"
    official_run = "zoo.repro.coco.official:CocoRun"
    names_files: ClassVar[staticmethod[[str], SplitFiles]] = staticmethod(coco_files)

    @classmethod
    def find_splits(cls, path: Path) -> list[str]:
        """Returns the splits that have panoptic annotations."""
        files = cls.names_files("*")
        pattern = PurePosixPath(files.panoptic)

        def is_root(folder: Path) -> bool:
            return any((folder / pattern.parent).glob(pattern.name))

        try:
            root = find_folder(path, is_root, files.folders, cls.layout)
        except DataError:
            return []
        found = (root / pattern.parent).glob(pattern.name)
        return sorted(file.stem.removeprefix(pattern.stem.removesuffix("*")) for file in found)

    @classmethod
    def find_root(cls, path: Path, split: str) -> Path:
        """Returns the folder of the split and its annotations: `path`, its one subfolder, or its parent."""
        files = cls.names_files(split)
        expected = (
            f"{files.images}/*.jpg, {files.panoptic} with its folder of PNG files, and {files.instances} "
            f"({files.download})"
        )

        def is_root(folder: Path) -> bool:
            return any((folder / name).is_dir() for name in files.folders)

        return find_folder(path, is_root, files.folders, expected)

    def list_images(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Returns the images that all annotations name, and what the others lack."""
        self.contents = f"{self.split} has"
        found = read_annotations(self.root, self.split, self.split_files, type(self).info)
        self._annotations, self.info, self.has_instances = (
            found.by_image,
            found.classes,
            found.have_instances,
        )
        return tuple(sorted(self._annotations)), found.skipped

    @cached_property
    def split_files(self) -> SplitFiles:
        """The names of the files."""
        return self.names_files(self.split)

    @property
    def panoptic_json(self) -> Path:
        """The panoptic annotations."""
        return self.root / self.split_files.panoptic

    @property
    def panoptic_folder(self) -> Path:
        """The folder of panoptic PNG files."""
        return self.panoptic_json.with_suffix("")

    @property
    def not_measured(self) -> dict[str, str]:
        """Why there is no official mask AP where instance annotations are missing."""
        if self.has_instances:
            return {}
        reason = f"{self.split_files.instances} is not there, whose masks pycocotools compares"
        return dict.fromkeys(("ap", "ap50"), reason)

    def official_image_id(self, image_id: str) -> ImageId:
        """Returns what the annotations call an image."""
        return self._annotations[image_id].official_id

    def load(self, index: int, *, picture: bool = True) -> Sample:
        """Returns image `index` with its ground truth; see `Dataset.load`.

        Raises:
          DataError: a file is missing or broken, its size is not the annotated one, a segment's area is not
            the annotated one, or a category is unknown.
        """
        return self._load(index, decode_image if picture else None)

    def load_for_display(self, index: int) -> Sample:
        """Returns image `index` without TensorFlow; see `Dataset.load_for_display`."""
        return self._load(index, decode_for_display)

    def _load(self, index: int, decode: Callable[[bytes, str], np.ndarray] | None) -> Sample:
        if decode:
            self.prefetch(index)
        image_id, image = self.image_ids[index], NO_PICTURE
        annotation = self._annotations[image_id]
        if decode is not None:
            image_path = self.root / self.split_files.images / annotation.image_file
            image = decode(read_bytes(image_path), str(image_path))
            require_size(image.shape[:2], annotation.size, str(image_path), self.panoptic_json.name)
        png_path = self.panoptic_folder / annotation.png_file
        colours = decode_image(read_bytes(png_path), str(png_path))
        require_size(colours.shape[:2], annotation.size, str(png_path), self.panoptic_json.name)
        covered = self.split_files.things_cover_stuff
        labels, truth = read_segments(colours, annotation, self.info, str(png_path), stuff_is_covered=covered)
        return SegmentedSample(image_id, image, truth, labels, self.info.label_divisor)

    def image_size(self, index: int) -> tuple[int, int]:
        """Returns height and width of image `index`, as annotated."""
        return self._annotations[self.image_ids[index]].size

    def check_headers(self, index: int) -> None:
        """Looks at the headers of the image and of its panoptic PNG, and at the annotated categories."""
        annotation = self._annotations[self.image_ids[index]]
        image_path = self.root / self.split_files.images / annotation.image_file
        png_path = self.panoptic_folder / annotation.png_file
        header = read_png_header(png_path)
        if (header.bits, header.colour_type) != (8, RGB):
            raise DataError(
                f"{png_path}: expected segment ids in RGB of 8 bits, found {header.bits} bits and PNG colour "
                f"type {header.colour_type}"
            )
        require_size(header[:2], annotation.size, str(png_path), self.panoptic_json.name)
        size = image_size(image_path, str(image_path))
        require_size(size, annotation.size, str(image_path), self.panoptic_json.name)
        for segment in annotation.segments:
            segment.train_id(self.info, str(png_path))

    def files(self) -> list[str]:
        """Returns the names of annotations, images and PNG files, relative to `root`."""
        by_image = [self.files_of(index) for index in range(len(self))]
        return [*self.annotation_files, *(image for image, _ in by_image), *(png for _, png in by_image)]

    @property
    def annotation_files(self) -> list[str]:
        """The names of the annotations, relative to `root`."""
        return [self.split_files.panoptic, *([self.split_files.instances] * self.has_instances)]

    def files_of(self, index: int) -> tuple[str, str]:
        """Returns the names of picture and panoptic PNG."""
        annotation = self._annotations[self.image_ids[index]]
        files = self.split_files
        folder = files.panoptic.removesuffix(".json")
        return f"{files.images}/{annotation.image_file}", f"{folder}/{annotation.png_file}"


class SegmentedSample(Sample):
    """A sample whose label maps follow from its official segments, and are made when they are asked for."""

    official: OfficialTruth
    segment_labels: np.ndarray
    label_divisor: int

    def __init__(
        self, image_id: str, image: np.ndarray, official: OfficialTruth, labels: np.ndarray, divisor: int
    ) -> None:
        own = {"image_id": image_id, "image": image, "official": official, "segment_labels": labels}
        self.__dict__.update(own, crowd_labels=np.zeros(0, np.int32), label_divisor=divisor)

    @cached_property
    def panoptic(self) -> np.ndarray:
        """The panoptic labels, crowd void; [H, W] int32."""
        return look_up(self.segment_labels, self.official.segment_map)

    @cached_property
    def semantic(self) -> np.ndarray:
        """The train ids, [H, W] uint8."""
        classes = (self.segment_labels // self.label_divisor).astype(np.uint8)
        return look_up(classes, self.official.segment_map)


def read_segments(
    colours: np.ndarray,
    annotation: Annotation,
    info: DatasetInfo,
    name: str,
    *,
    stuff_is_covered: bool = False,
) -> tuple[np.ndarray, OfficialTruth]:
    """Returns the panoptic labels that the reference scores with, and the segments of the official scripts.

    As DeepLab2's `build_coco_data.py`: instances are numbered from 1 in each class, in the order of the
    annotation; crowds are void.

    Args:
      colours: [H, W, 3] uint8, a panoptic PNG: segment id = red + 256 * green + 65536 * blue.
      annotation, info: the image's, and the classes of the data set.
      name: of the PNG for error messages.
      stuff_is_covered: whether stuff may have fewer pixels than its annotated area, as things cover some.

    Returns:
      the label of each segment and of void, [S + 1] int32: train id * label divisor + instance; and the
      segments, crowds included.

    Raises:
      DataError: a segment's area is not the annotated one, a category is unknown, or a class has too many
        instances.
    """
    segments = annotation.segments
    ids = np.array([segment.id for segment in segments], np.int32)
    order = np.argsort(ids, kind="stable")
    positions = np.arange(ids.size, dtype=np.int32)
    position, areas, strays = labels_of_colours(colours, ids[order], positions, np.int32(-1))
    if strays.size:
        raise DataError(f"{name}: holds segment {strays[0]}, which the annotation does not list")
    labels = np.full(len(segments) + 1, info.void_label, np.int32)
    class_ids = np.zeros(len(segments), np.int32)
    kept = {}
    for segment, at in zip(segments, np.argsort(order).tolist(), strict=True):
        train_id = segment.train_id(info, name)
        class_ids[at] = train_id
        is_covered = stuff_is_covered and train_id not in info.thing_class_ids and areas[at] < segment.area
        if areas[at] != segment.area and not is_covered:
            raise DataError(
                f"{name}: segment {segment.id} ({info.class_names[train_id]}) has {areas[at]} pixels, "
                f"expected {segment.area} as annotated"
            )
        if not (segment.iscrowd and train_id in info.thing_class_ids):
            kept[at] = train_id
    labels[list(kept)] = info.number_segments(kept.values(), name)
    truth = OfficialTruth(
        segment_map=position,
        segment_ids=ids[order],
        class_ids=class_ids,
        is_crowd=np.array([segments[i].iscrowd for i in order], np.bool_),
    )
    return labels, truth
