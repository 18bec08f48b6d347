"""Cityscapes in its original folders: images, ground truth, and label ids to and from train ids."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DataError
from zoo.files.machine_code import compiled
from zoo.metrics.segments import OfficialTruth
from zoo.registry.dataset_info import DatasetInfo
from zoo.repro.cityscapes import check as cityscapes_check
from zoo.repro.datasets.dataset import (
    Sample,
    cache_at,
    decode_id_png,
    decode_image,
    digest_of_files,
    file_digests,
    read_bytes,
)
from zoo.repro.datasets.headers import read_png_header, require_ids, require_size

if TYPE_CHECKING:
    from zoo.repro.datasets.dataset import CacheOrFolder, Dataset

# (name, label id, instances are told apart) by train id, as in the official `helpers/labels.py`.
_CLASSES = (
    ("road", 7, False),
    ("sidewalk", 8, False),
    ("building", 11, False),
    ("wall", 12, False),
    ("fence", 13, False),
    ("pole", 17, False),
    ("traffic light", 19, False),
    ("traffic sign", 20, False),
    ("vegetation", 21, False),
    ("terrain", 22, False),
    ("sky", 23, False),
    ("person", 24, True),
    ("rider", 25, True),
    ("car", 26, True),
    ("truck", 27, True),
    ("bus", 28, True),
    ("train", 31, True),
    ("motorcycle", 32, True),
    ("bicycle", 33, True),
)
NUM_LABEL_IDS = 34
# Label ids whose instances are told apart; caravan (29) and trailer (30) are void in every score.
_LABEL_IDS_WITH_INSTANCES = frozenset(range(24, 34))
# An instance id is a label id, or label id * 1000 + instance: fixed by the file format.
_INSTANCE_DIVISOR = 1000

CITYSCAPES = DatasetInfo(
    name="cityscapes",
    num_classes=len(_CLASSES),
    class_names=tuple(name for name, _, _ in _CLASSES),
    thing_class_ids=tuple(i for i, (_, _, is_thing) in enumerate(_CLASSES) if is_thing),
    label_divisor=1000,
    ignore_label=255,
    original_ids=tuple(label_id for _, label_id, _ in _CLASSES),
    upstream_name="cityscapes_panoptic",
)

TRAIN_ID_TO_LABEL_ID = np.zeros(256, np.uint8)
"""[256] uint8: label id of each train id; 0 (unlabeled) for everything that is no train id."""
TRAIN_ID_TO_LABEL_ID[: CITYSCAPES.num_classes] = CITYSCAPES.original_ids

LABEL_ID_TO_TRAIN_ID = np.full(256, CITYSCAPES.ignore_label, np.uint8)
"""[256] uint8: train id of each label id; 255 for label ids that are not scored."""
LABEL_ID_TO_TRAIN_ID[list(CITYSCAPES.original_ids)] = np.arange(CITYSCAPES.num_classes, dtype=np.uint8)

for _table in (TRAIN_ID_TO_LABEL_ID, LABEL_ID_TO_TRAIN_ID):
    _table.flags.writeable = False


class CityscapesDataset:
    """One split of Cityscapes, read from `leftImg8bit/<split>` and `gtFine/<split>`.

    The folder is only read. `load` decodes the image and makes the panoptic map from `*_instanceIds.png`.

    Attributes:
      root: folder that holds `leftImg8bit` and `gtFine`.
      split: `val` or `train`.
      expected_images: how many images the split has when it is complete, or None for any number.
      pictures: names of the images whose picture is there, sorted.
      skipped: why images are left out, by name: the picture, or a file of ground truth is missing.
    """

    info = CITYSCAPES

    def __init__(
        self,
        root: Path,
        split: str = "val",
        *,
        expected_images: int | None = None,
        cache: CacheOrFolder = None,
    ) -> None:
        """Lists the images.

        Args:
          root: the folder that holds `leftImg8bit` and `gtFine`.
          split: name of the split.
          expected_images: how many images the split has when it is complete, or None for any number.
          cache: where digests of files are remembered; None for the default cache.

        Raises:
          DataError: there is no such split, or it has no images with ground truth.
        """
        self.root = root
        self.split = split
        self.expected_images = expected_images
        self._cache = cache
        self._cities = cityscapes_check.find_images(root, split)
        self.pictures = tuple(sorted(self._cities))
        self._cities |= cityscapes_check.without_picture(self)
        self.skipped = cityscapes_check.left_out(self, sorted(self._cities))
        self._image_ids = tuple(image_id for image_id in self.pictures if image_id not in self.skipped)
        self._digests: dict[str, tuple[int, str]] | None = None
        self._lock = threading.Lock()

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Names of the images, as in `frankfurt_000000_000294`, sorted."""
        return self._image_ids

    @property
    def official_obstacle(self) -> str | None:
        """Why the official scripts cannot score this data set, or None where they can."""
        return cityscapes_check.official_obstacle(self._image_ids)

    def __len__(self) -> int:
        return len(self._image_ids)

    def image_name(self, image_id: str) -> str:
        """Returns the image's file, relative to `root`."""
        return f"leftImg8bit/{self.split}/{self._cities[image_id]}/{image_id}_leftImg8bit.png"

    def ground_truth_name(self, image_id: str, kind: str) -> str:
        """Returns the ground truth file of `kind` (`labelIds`, `instanceIds`), relative to `root`."""
        return f"gtFine/{self.split}/{self._cities[image_id]}/{image_id}_gtFine_{kind}.png"

    def load(self, index: int) -> Sample:
        """Returns image `index` with its ground truth.

        Raises:
          DataError: a file is missing or broken, ids are none of Cityscapes', or the two sizes differ.
        """
        image_id = self._image_ids[index]
        image_path = self.root / self.image_name(image_id)
        ids_path = self.root / self.ground_truth_name(image_id, "instanceIds")
        image = decode_image(read_bytes(image_path), str(image_path))
        instance_ids = decode_id_png(read_bytes(ids_path), str(ids_path))
        if image.shape[:2] != instance_ids.shape:
            raise DataError(
                f"{ids_path}: expected the image's size {image.shape[0]} x {image.shape[1]}, "
                f"found {instance_ids.shape[0]} x {instance_ids.shape[1]}"
            )
        panoptic, semantic = panoptic_from_instance_ids(instance_ids, str(ids_path))
        return Sample(
            image_id,
            image,
            panoptic,
            semantic,
            crowd_labels=np.zeros(0, np.int32),
            official=official_truth_from_instance_ids(instance_ids),
        )

    def check_headers(self, index: int) -> None:
        """Looks at the headers of image, `labelIds` and `instanceIds`.

        Raises:
          DataError: a file is missing, cut short, or of a wrong type or size.
        """
        image_id = self._image_ids[index]
        image_path = self.root / self.image_name(image_id)
        size = read_png_header(image_path)[:2]
        for kind, bits in (("labelIds", (8,)), ("instanceIds", (8, 16))):
            path = self.root / self.ground_truth_name(image_id, kind)
            header = read_png_header(path)
            require_ids(header, str(path), bits)
            require_size(header[:2], size, str(path), image_path.name)

    def check_contents(self, index: int) -> None:
        """Decodes image, `instanceIds` and `labelIds`.

        Raises:
          DataError: a file is missing or broken, or holds ids that are none of its kind.
        """
        self.load(index)
        cityscapes_check.check_label_ids(
            self.root, self.ground_truth_name(self._image_ids[index], "labelIds")
        )

    def digests(self) -> dict[str, tuple[int, str]]:
        """Returns size and SHA-256 of each image, `labelIds` and `instanceIds` file, by name in `root`."""
        with self._lock:
            if self._digests is None:
                names = [self.image_name(image_id) for image_id in self._image_ids]
                for kind in ("labelIds", "instanceIds"):
                    names += [self.ground_truth_name(image_id, kind) for image_id in self._image_ids]
                folder = cache_at(self._cache).folder("fingerprints")
                self._digests = file_digests(self.root, names, folder)
            return self._digests

    def fingerprint(self) -> str:
        """Returns a SHA-256 over the split's images, `labelIds` and `instanceIds`: names, sizes, contents.

        The first call reads every file once; later ones, also of other processes, read those that changed.
        """
        return digest_of_files(self.digests(), about=f"cityscapes {self.split}")

    def check(self) -> list[str]:
        """Returns what is missing or wrong, one line each: names and numbers of files, and one file's ids."""
        return cityscapes_check.problems(self)


def open_cityscapes(
    path: Path,
    split: str = "val",
    *,
    expected_images: int | None = None,
    cache: CacheOrFolder = None,
    keep_going: bool = False,
) -> Dataset:
    """Opens Cityscapes, or any data set in its layout.

    Args:
      path: the folder that holds `leftImg8bit` and `gtFine`, or the folder above it where there is only one;
        or TFRecords as DeepLab2 writes them, a folder or one file.
      split: name of the split.
      expected_images: how many images a complete split has, or None for any number.
      cache: where what is made from the data is kept; None for the default cache.
      keep_going: leave out images that cannot be used, instead of an error.

    Raises:
      DataError: nothing of the kind is there, or it is not complete; the line says what is missing.
    """
    from zoo.repro.datasets.tfrecord import open_records_or_folders

    def open_folders(path: Path) -> CityscapesDataset:
        root = cityscapes_check.find_root(path)
        return CityscapesDataset(root, split, expected_images=expected_images, cache=cache)

    return open_records_or_folders(
        Path(path),
        split,
        CITYSCAPES,
        open_folders,
        expected_images=expected_images,
        keep_going=keep_going,
    )


def panoptic_from_instance_ids(instance_ids: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the panoptic map that the reference trains and scores with, and its semantic map.

    Equal to the official `createPanopticImgs` with train ids followed by DeepLab2's
    `build_cityscapes_data.py` with crowd as void: instances are numbered from 1 in each class by rising
    instance id; crowds and classes that are not scored are void.

    Args:
      instance_ids: [H, W] uint8 or uint16, as stored in `*_instanceIds.png`.
      name: name of the file for error messages.

    Returns:
      panoptic: [H, W] int32, train id * 1000 + instance.
      semantic: [H, W] uint8, train ids; 255 is void.

    Raises:
      DataError: the ids are none of Cityscapes'.
    """
    present = np.flatnonzero(_present_ids(instance_ids))
    panoptic_label = np.full(int(present[-1]) + 1, CITYSCAPES.void_label, np.int32)
    counts = dict.fromkeys(CITYSCAPES.thing_class_ids, 0)
    for instance_id in present.tolist():
        is_instance = instance_id >= _INSTANCE_DIVISOR
        label_id = instance_id // _INSTANCE_DIVISOR if is_instance else instance_id
        if label_id >= NUM_LABEL_IDS or (is_instance and label_id not in _LABEL_IDS_WITH_INSTANCES):
            raise DataError(f"{name}: {_explain_id(instance_id)}")
        train_id = int(LABEL_ID_TO_TRAIN_ID[label_id])
        if train_id == CITYSCAPES.ignore_label:
            continue
        instance = 0
        if train_id in counts:
            if not is_instance:
                continue
            counts[train_id] += 1
            instance = counts[train_id]
            if instance >= CITYSCAPES.label_divisor:
                raise DataError(f"{name}: has {instance} instances or more of one class, the most is 999")
        panoptic_label[instance_id] = train_id * CITYSCAPES.label_divisor + instance
    semantic_label = (panoptic_label // CITYSCAPES.label_divisor).astype(np.uint8)
    panoptic = np.empty(instance_ids.shape, np.int32)
    semantic = np.empty(instance_ids.shape, np.uint8)
    _look_up(instance_ids, panoptic_label, semantic_label, panoptic, semantic)
    return panoptic, semantic


def official_truth_from_instance_ids(instance_ids: np.ndarray) -> OfficialTruth:
    """Returns the segments that the official `createPanopticImgs` makes, crowd regions included.

    Args:
      instance_ids: [H, W] uint8 or uint16, as stored in `*_instanceIds.png`, checked before.
    """
    present = np.flatnonzero(_present_ids(instance_ids))
    has_instance = present >= _INSTANCE_DIVISOR
    class_ids = LABEL_ID_TO_TRAIN_ID[np.where(has_instance, present // _INSTANCE_DIVISOR, present)]
    is_scored = class_ids != CITYSCAPES.ignore_label
    segment_ids, class_ids = present[is_scored], class_ids[is_scored]
    position = np.full(int(present[-1]) + 1, -1, np.int32)
    position[segment_ids] = np.arange(segment_ids.size)
    return OfficialTruth(
        segment_map=position[instance_ids],
        segment_ids=segment_ids.astype(np.int32),
        class_ids=class_ids.astype(np.int32),
        is_crowd=~has_instance[is_scored] & np.isin(class_ids, CITYSCAPES.thing_class_ids),
    )


def _explain_id(instance_id: int) -> str:
    label_id = instance_id // _INSTANCE_DIVISOR
    if instance_id == CITYSCAPES.ignore_label or label_id in CITYSCAPES.thing_class_ids:
        return (
            f"holds train ids (found {instance_id}); expected the original label ids as in "
            "*_gtFine_instanceIds.png of the download, not *_instanceTrainIds.png"
        )
    return f"holds id {instance_id}, neither a label id (0 to 33) nor a thing's label id * 1000 + instance"


@compiled
def _present_ids(ids):  # type: ignore[no-untyped-def]
    present = np.zeros(65536, np.bool_)
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            present[ids[y, x]] = True
    return present


@compiled
def _look_up(ids, panoptic_label, semantic_label, panoptic, semantic):  # type: ignore[no-untyped-def]
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            panoptic[y, x] = panoptic_label[ids[y, x]]
            semantic[y, x] = semantic_label[ids[y, x]]
