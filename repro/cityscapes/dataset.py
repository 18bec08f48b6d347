"""Cityscapes, or any data set in its layout, in the original folders."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DataError
from zoo.repro.cityscapes.classes import CITYSCAPES, classes_of_table, label_ids_with_instances
from zoo.repro.cityscapes.instance_ids import (
    label_ids_in,
    official_truth_from_instance_ids,
    panoptic_from_instance_ids,
)
from zoo.repro.datasets.dataset import NO_PICTURE, FolderDataset, Sample
from zoo.repro.datasets.image_files import (
    decode_id_png,
    decode_image,
    read_bytes,
    read_png_header,
    require_ids,
    require_size,
)
from zoo.repro.datasets.opening import find_folder

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.registry.schema import ClassDeclaration, DatasetDeclaration

_IMAGE_SUFFIX = "_leftImg8bit.png"
# The official scripts take names apart at underscores, and paths apart at blanks.
_OFFICIAL_NAME = re.compile(r"[^_\s]+_[^_\s]+_[^_\s]+")

# The files of ground truth, and what makes a missing one from the polygons: programs of the official package,
# one file at a time.
_MADE_BY = {
    "labelIds": "python -m cityscapesscripts.preparation.json2labelImg POLYGONS.json OUTPUT.png",
    "instanceIds": "python -m cityscapesscripts.preparation.json2instanceImg POLYGONS.json OUTPUT.png",
}
_GROUND_TRUTH = re.compile(
    r"gtFine/[^/]+/(?P<city>[^/]+)/(?P<image_id>[^/]+)_gtFine_(labelIds|instanceIds)\.png"
)
_TRAIN_ID_FILES = {"labelIds": "labelTrainIds", "instanceIds": "instanceTrainIds"}


class CityscapesDataset(FolderDataset):
    """One split of Cityscapes, from `leftImg8bit/<split>` and `gtFine/<split>`.

    Images are called like `frankfurt_000000_000294`.
    """

    info = CITYSCAPES
    layout = (
        f"leftImg8bit/<split>/<city>/*{_IMAGE_SUFFIX} and gtFine/<split>/<city>/*_gtFine_"
        "{labelIds,instanceIds}.png"
    )
    official_run = "zoo.repro.cityscapes.official:CityscapesRun"

    @classmethod
    def declared_classes(cls, declared: DatasetDeclaration) -> DatasetInfo | None:
        """Returns the classes of the table in a declaration, or None where it has none."""
        return classes_of_table(declared) if declared.classes else None

    @classmethod
    def find_splits(cls, path: Path) -> list[str]:
        """Returns the names of the folders in `leftImg8bit`."""
        try:
            root = cls.find_root(path, "")
        except DataError:
            return []
        return sorted(found.name for found in (root / "leftImg8bit").iterdir() if found.is_dir())

    def unknown_classes(self) -> tuple[ClassDeclaration, ...]:
        """Returns a class for each label id, 0 and 255 excepted, where not all are those of Cityscapes.

        Label ids with instances are things; a thing of which there are crowds alone looks like stuff.
        """
        from zoo.registry.schema import ClassDeclaration

        found: set[int] = set()
        for image_id in self.image_ids:
            path = self.root / self.ground_truth_name(image_id, "instanceIds")
            found |= set(np.unique(decode_id_png(read_bytes(path), str(path))).tolist())
        things, others = label_ids_in(found)
        if things <= label_ids_with_instances(CITYSCAPES) and others <= CITYSCAPES.every_id:
            return ()
        return tuple(
            ClassDeclaration(name=f"class {label_id}", id=label_id, isthing=label_id in things)
            for label_id in sorted((things | others) - {0, 255})
        )

    @classmethod
    def find_root(cls, path: Path, split: str) -> Path:
        """Returns the folder that holds `leftImg8bit`: `path`, its one subfolder that does, or its parent."""
        archives = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of the Cityscapes download"
        expected = f"{cls.layout} ({archives})"
        return find_folder(
            path, lambda folder: (folder / "leftImg8bit").is_dir(), ("leftImg8bit", "gtFine"), expected
        )

    def list_images(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Returns the images that have a picture and all ground truth, and what the others lack."""
        pictures = _find_pictures(self.root, self.split)
        folder = self.root / "gtFine" / self.split
        self._present = {path.relative_to(self.root).as_posix() for path in folder.glob("*/*_gtFine_*")}
        matches = map(_GROUND_TRUTH.fullmatch, self._present)
        self._cities = {match["image_id"]: match["city"] for match in matches if match} | pictures
        self._pictures = sorted(pictures)
        self._without_picture = sorted(self._cities.keys() - pictures.keys())
        skipped: dict[str, str] = {}
        for image_id in sorted(self._cities):
            missing = [name for kind in _MADE_BY for name in self._missing(kind, [image_id])]
            if image_id not in pictures:
                skipped[image_id] = f"{self.image_name(image_id)} is missing, but has ground truth"
            elif missing:
                skipped[image_id] = f"{missing[0]} is missing"
        return tuple(image_id for image_id in self._pictures if image_id not in skipped), skipped

    @property
    def has_own_classes(self) -> bool:
        """Whether the classes are not those of Cityscapes, to which most official programs are fixed."""
        return self.info != CITYSCAPES

    @property
    def not_measured(self) -> dict[str, str]:
        """Why the pixel-level and instance-level scripts cannot measure; the panoptic one always can."""
        reason = self._obstacle
        return dict.fromkeys(("miou", "iiou", "ap", "ap50"), reason) if reason else {}

    @cached_property
    def _obstacle(self) -> str | None:
        if self.has_own_classes:
            return "the pixel-level and instance-level scripts are fixed to the classes of Cityscapes"
        for name in self.image_ids:
            if not _OFFICIAL_NAME.fullmatch(name):
                return f"image {name}: the official scripts need names of the form <city>_<sequence>_<frame>"
        # They look for predictions by `<name>*`, so no name may begin another; sorted, such names are
        # neighbours.
        for name, following in pairwise(self.image_ids):
            if following.startswith(name):
                return (
                    f"images {name}, {following}: the official scripts confuse names that begin with another"
                )
        return None

    def image_name(self, image_id: str) -> str:
        """Returns the image's file, relative to `root`."""
        return f"leftImg8bit/{self.split}/{self._cities[image_id]}/{image_id}{_IMAGE_SUFFIX}"

    def ground_truth_name(self, image_id: str, kind: str) -> str:
        """Returns the ground truth file of `kind` (`labelIds`, `instanceIds`), relative to `root`."""
        return f"gtFine/{self.split}/{self._cities[image_id]}/{image_id}_gtFine_{kind}.png"

    def files_of(self, index: int) -> tuple[str, ...]:
        """Returns the names of picture and `instanceIds`."""
        image_id = self.image_ids[index]
        return self.image_name(image_id), self.ground_truth_name(image_id, "instanceIds")

    def load(self, index: int, *, picture: bool = True) -> Sample:
        """Returns image `index` with its ground truth, made from `*_instanceIds.png`; see `Dataset.load`.

        Raises:
          DataError: a file is missing or broken, an id is not one of the data set's, or the two sizes differ.
        """
        if picture:
            self.prefetch(index)
        image_id = self.image_ids[index]
        image_path, ids_path = (self.root / name for name in self.files_of(index))
        image = decode_image(read_bytes(image_path), str(image_path)) if picture else NO_PICTURE
        instance_ids = decode_id_png(read_bytes(ids_path), str(ids_path))
        if picture:
            require_size(instance_ids.shape, image.shape[:2], str(ids_path), image_path.name)
        panoptic, semantic = panoptic_from_instance_ids(instance_ids, self.info, str(ids_path))
        official = official_truth_from_instance_ids(instance_ids, self.info)
        return Sample(image_id, image, panoptic, semantic, official=official)

    def image_size(self, index: int) -> tuple[int, int]:
        """Returns height and width of image `index`, by the header of its label ids."""
        path = self.root / self.ground_truth_name(self.image_ids[index], "labelIds")
        return read_png_header(path)[:2]

    def check_headers(self, index: int) -> None:
        """Looks at the headers of image, `labelIds` and `instanceIds`."""
        image_id = self.image_ids[index]
        image_path = self.root / self.image_name(image_id)
        size = read_png_header(image_path)[:2]
        for kind, bits in (("labelIds", (8,)), ("instanceIds", (8, 16))):
            path = self.root / self.ground_truth_name(image_id, kind)
            header = read_png_header(path)
            require_ids(header, str(path), bits)
            require_size(header[:2], size, str(path), image_path.name)

    def check_contents(self, index: int) -> None:
        """Decodes image, `instanceIds` and `labelIds`."""
        self.load(index)
        self._check_label_ids(self.image_ids[index])

    def files(self) -> list[str]:
        """Returns the names of images, `labelIds` and `instanceIds`, relative to `root`."""
        names = [self.image_name(image_id) for image_id in self.image_ids]
        return names + [
            self.ground_truth_name(image_id, kind) for kind in _MADE_BY for image_id in self.image_ids
        ]

    def check(self) -> list[str]:
        """Returns what is missing or wrong, one line each: names and numbers of files, and one file's ids."""
        total = len(self._pictures)
        found = self.wrong_number(f"leftImg8bit/{self.split} has", total)
        for kind in _MADE_BY:
            found += self._explain_missing(kind)
        if bare := self._without_picture:
            which = f"{len(bare)} of {len(self._cities)} leftImg8bit/{self.split}/*{_IMAGE_SUFFIX} missing"
            found.append(f"{which} for the ground truth that is there, first: {self.image_name(bare[0])}")
        if not found:
            # If one file holds train ids, all of them do.
            try:
                self._check_label_ids(self._pictures[0])
            except DataError as error:
                found.append(str(error))
        return found

    def _missing(self, kind: str, image_ids: list[str]) -> list[str]:
        """Returns the files of ground truth of one kind that some images lack."""
        names = [self.ground_truth_name(image_id, kind) for image_id in image_ids]
        return [name for name in names if name not in self._present]

    def _explain_missing(self, kind: str) -> list[str]:
        missing = self._missing(kind, self._pictures)
        if not missing:
            return []
        first, other = missing[0], _TRAIN_ID_FILES[kind]
        which = f"{len(missing)} of {len(self._pictures)} gtFine/{self.split}/*_{kind}.png"
        line = f"{which} missing, first: {first}"
        if first.replace(f"_{kind}.png", f"_{other}.png") in self._present:
            line += f" (only *_{other}.png is there, but the original label ids are needed)"
        if first.replace(f"_{kind}.png", "_polygons.json") in self._present:
            return [f"{line}; `{_MADE_BY[kind]}` makes it from *_polygons.json"]
        return [f"{line}; it is in gtFine_trainvaltest.zip of the Cityscapes download"]

    def _check_label_ids(self, image_id: str) -> None:
        name = self.ground_truth_name(image_id, "labelIds")
        path = self.root / name
        found = np.unique(decode_id_png(read_bytes(path), str(path))).tolist()
        unknown = sorted({*found} - self.info.every_id)
        if unknown:
            is_train_id = unknown[-1] == self.info.ignore_label
            what = "train ids" if is_train_id else "ids that are not label ids"
            expected = "the original label ids, 0 to 33"
            if self.has_own_classes:
                expected = "those of `classes:` and `void_ids:` in the registry file"
            raise DataError(f"{name} holds {what} (found {unknown[-1]}); expected {expected}")


def _find_pictures(root: Path, split: str) -> dict[str, str]:
    """Returns the city of each picture of a split, by the image's name."""
    folder = root / "leftImg8bit" / split
    # Berlin is in the test split of Cityscapes; other collections may have ground truth for theirs.
    if split == "test" and (not folder.is_dir() or (folder / "berlin").is_dir()):
        raise DataError(
            f"{root}: the ground truth of the test split is not public, so it cannot be scored here; use val"
        )
    if not folder.is_dir():
        splits = sorted(found.name for found in (root / "leftImg8bit").iterdir() if found.is_dir())
        raise DataError(f"{root}: has no leftImg8bit/{split}; splits found: {', '.join(splits) or 'none'}")
    cities: dict[str, str] = {}
    for path in folder.glob(f"*/*{_IMAGE_SUFFIX}"):
        image_id, city = path.name.removesuffix(_IMAGE_SUFFIX), path.parent.name
        if image_id in cities:
            raise DataError(f"{folder}: image {image_id} is there twice, in {cities[image_id]} and {city}")
        cities[image_id] = city
    if not cities:
        raise DataError(f"{folder}: no image found; expected <city>/*{_IMAGE_SUFFIX}")
    return cities
