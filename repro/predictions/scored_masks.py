"""Predicted instances as masks with scores: Cityscapes' text files, or COCO's results with run lengths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.files.words import counted
from zoo.metrics.mask_overlaps import Mask, mask_overlaps
from zoo.metrics.overlap import LabelOverlaps
from zoo.repro.predictions.finding import Finding, broken, numbering_of, wrong_scores, wrong_size
from zoo.repro.predictions.naming import ClassIds
from zoo.repro.predictions.pixels import read_pixels, size_of

if TYPE_CHECKING:
    from zoo.repro.predictions.storage import Storage


class ScoredMask(NamedTuple):
    """One predicted instance."""

    class_id: int  # train id
    score: float
    mask: Mask  # [H, W] bool, or COCO's run lengths


class Row(NamedTuple):
    """One instance as it is listed."""

    category: int
    score: float
    mask: Any  # the name of a mask's file, or a segmentation in COCO's results format


class ReadMasks(NamedTuple):
    """One image's instances, and their overlaps with a panoptic map; None where these cannot be counted."""

    masks: list[ScoredMask]
    overlaps: LabelOverlaps | None


class ScoredMasks(ABC):
    """The instances of all images: rows by image of the data set."""

    def __init__(self, storage: Storage, ids: ClassIds) -> None:
        self.findings: list[Finding] = []
        self._storage = storage
        self.classes = ids
        self._rows: dict[str, Sequence[Row]] = {}
        self._files: dict[str, str] = {}

    @property
    def image_ids(self) -> Collection[str]:
        """The images that have a list of instances, which may be empty."""
        return self._rows.keys()

    def file_of(self, image_id: str) -> str:
        """Returns the name of the file that lists an image's instances."""
        return self._files[image_id]

    @abstractmethod
    def _mask(self, row: Row, size: tuple[int, int], image_id: str) -> tuple[Mask | None, list[Finding]]:
        """Returns a row's mask, None where it cannot be read, and what is wrong with it."""

    def read(
        self, image_id: str, size: tuple[int, int], labels: np.ndarray | None = None
    ) -> tuple[ReadMasks, list[Finding]]:
        """Returns an image's instances, and what is wrong with them.

        Args:
          image_id, size: the image.
          labels: [H, W] int32, a panoptic map whose segments may be the instances.
        """
        title = self._storage.title(self._files[image_id])
        masks, names, findings = [], [], []
        unfit: Counter[int] = Counter()
        for row in self._rows[image_id]:
            train_id = self.classes.train_id_of.get(row.category, -1)
            if train_id not in self.classes.info.thing_class_ids:
                unfit[row.category] += 1
                continue
            mask, wrong = self._mask(row, size, image_id)
            findings += wrong
            if mask is not None:
                masks.append(ScoredMask(train_id, row.score, mask))
                names.append(row.mask if isinstance(row.mask, str) else "")
        for category, count in unfit.items():
            is_class = category in self.classes.train_id_of
            what = f"{category}, " + ("a class without instances" if is_class else "no class")
            what += f" ({counted(count, 'time')}, image {image_id})"
            remedy = "leave it out, or write the ids of the annotations"
            expected = "classes with instances"
            findings.append(Finding("category-unknown", title, expected, what, remedy, image_id=image_id))
        try:
            found = mask_overlaps(
                np.zeros(size, np.int32) if labels is None else labels, [m.mask for m in masks]
            )
        except DataError as error:
            what = f"{error} (image {image_id})"
            findings.append(
                Finding(
                    "mask-form", title, "masks that fit the image", what, "encode it again", image_id=image_id
                )
            )
            return ReadMasks(masks, None), findings
        for position in np.flatnonzero(found.pred_areas == 0).tolist():
            file = self._storage.title(names[position]) if names[position] else title
            what = "none" if names[position] else f"none in instance {position + 1} of image {image_id}"
            remedy = "leave out such instances"
            findings.append(
                Finding("mask-empty", file, "a mask with pixels", what, remedy, image_id=image_id)
            )
        return ReadMasks(masks, found), findings

    def _look_at_rows(self, title: str) -> None:
        """Finds the numbering of the classes, and looks at all scores."""
        rows = [row for rows in self._rows.values() for row in rows]
        self.classes, findings = numbering_of({row.category for row in rows}, self.classes, title)
        scores = np.array([row.score for row in rows], np.float64)
        self.findings += [*findings, *wrong_scores(scores, title)]


class TextMasks(ScoredMasks):
    """Cityscapes' form: `<image>.txt` with a line `<mask> <label id> <score>` for each instance."""

    def __init__(self, storage: Storage, files: Mapping[str, str], ids: ClassIds) -> None:
        super().__init__(storage, ids)
        self._files = dict(files)
        for image_id, name in files.items():
            self._rows[image_id] = self._lines(name, image_id)
        self._look_at_rows(storage.title(str(PurePosixPath(next(iter(files.values()))).parent)))

    @property
    def mask_files(self) -> set[str]:
        """The files that the text files name."""
        return {row.mask for rows in self._rows.values() for row in rows}

    def _lines(self, name: str, image_id: str) -> list[Row]:
        title = self._storage.title(name)
        rows: list[Row] = []
        wrong: list[tuple[int, str]] = []
        try:
            text = self._storage.read(name).decode("utf-8", errors="replace")
        except DataError as error:
            self.findings.append(broken(error, title, image_id))
            return []
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            try:
                mask, category, score = words
                rows.append(Row(int(category), float(score), _joined(name, mask)))
            except ValueError:
                wrong.append((number, line))
        if wrong:
            number, line = wrong[0]
            found = f"{line[:60]!r} in line {number}" + (f" and {len(wrong) - 1} more" if wrong[1:] else "")
            expected, remedy = "lines of a mask's file, a label id and a score", "write the lines again"
            self.findings.append(Finding("line-form", title, expected, found, remedy, image_id=image_id))
        return rows

    def _mask(self, row: Row, size: tuple[int, int], image_id: str) -> tuple[Mask | None, list[Finding]]:
        title = self._storage.title(row.mask)
        if row.mask not in self._storage:
            listed = f"which {self._storage.title(self._files[image_id])} names"
            return None, [
                Finding("file-missing", title, f"a mask, {listed}", "no file", "write it", image_id=image_id)
            ]
        try:
            data = self._storage.read(row.mask)
            wrong = wrong_size(size_of(data, title), size, title, image_id)
            if wrong is not None:
                return None, [wrong]
            values = read_pixels(data, title).values
        except DataError as error:
            return None, [broken(error, title, image_id)]
        return values != 0 if values.ndim == 2 else (values[..., :3] != 0).any(axis=-1), []


class RunLengths(ScoredMasks):
    """COCO's results format: one JSON file, or one for each image as a run writes them."""

    def __init__(self, storage: Storage, ids: ClassIds) -> None:
        super().__init__(storage, ids)

    def add(self, name: str, content: list[Any], image_of: Any) -> None:
        """Takes in the entries of a file; `image_of` returns the image of each, None for unknown ones."""
        title = self._storage.title(name)
        rows: dict[str, list[Row]] = {}
        for entry in content:
            image_id = image_of(entry)
            if image_id is None:
                continue
            try:
                row = Row(int(entry["category_id"]), float(entry["score"]), entry["segmentation"])
            except (KeyError, TypeError, ValueError, OverflowError):
                expected = "`category_id`, `segmentation` and `score` for each instance"
                self.findings.append(
                    Finding("key-missing", title, expected, str(entry)[:80], "write the JSON again")
                )
                continue
            rows.setdefault(image_id, []).append(row)
        for image_id, found in rows.items():
            self._rows[image_id] = found
            self._files[image_id] = name

    def complete(self, image_ids: Collection[str], name: str) -> None:
        """Gives the images without an entry none, and looks at all rows."""
        for image_id in image_ids:
            self._rows.setdefault(image_id, [])
            self._files.setdefault(image_id, name)
        self._look_at_rows(self._storage.title(name))

    def _mask(self, row: Row, size: tuple[int, int], image_id: str) -> tuple[Mask | None, list[Finding]]:
        from pycocotools import mask as run_lengths

        title = self._storage.title(self._files[image_id])
        found = row.mask
        try:
            if isinstance(found, list):
                found = run_lengths.merge(run_lengths.frPyObjects(found, *size))
            elif isinstance(found["counts"], list):
                found = run_lengths.frPyObjects(found, *found["size"])
            wrong = wrong_size(tuple(found["size"]), size, title, image_id)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, MemoryError):
            expected = "masks as run lengths or polygons"
            what = f"{str(row.mask)[:60]} (image {image_id})"
            return None, [Finding("mask-form", title, expected, what, "encode it again", image_id=image_id)]
        return (found, []) if wrong is None else (None, [wrong])


def scores_of_segments(things: np.ndarray, read: ReadMasks, divisor: int) -> np.ndarray | None:
    """Returns the score of each thing segment where the masks are exactly these segments, else None.

    Args:
      things: [T] int32, labels of the thing segments of the panoptic map that `read` was read with.
      read: the masks, in any order.
      divisor: the label divisor.
    """
    found = read.overlaps
    if found is None or not len(things) == len(read.masks) == len(found.area):
        return None
    scores: dict[int, float] = {}
    for at, mask_at, area in zip(
        found.gt_index.tolist(), found.pred_index.tolist(), found.area.tolist(), strict=True
    ):
        label, mask = int(found.gt_labels[at]), read.masks[mask_at]
        is_segment = area == found.gt_areas[at] == found.pred_areas[mask_at]
        if not is_segment or label // divisor != mask.class_id:
            return None
        scores[label] = mask.score
    if scores.keys() != set(things.tolist()):
        return None
    return np.array([scores[label] for label in things.tolist()], np.float32)


def _joined(name: str, relative: str) -> str:
    """Returns a file's name beside another's; raises ValueError where it leads out of the predictions."""
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / relative).parts:
        if part == "..":
            parts.pop() if parts else parts.append("/")
        else:
            parts.append(part)
    if not parts or parts[0] == "/":
        raise ValueError(relative)
    return "/".join(parts)
