"""Panoptic predictions in the COCO format: PNG files of segment ids with the entries of a JSON file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.repro.datasets.segment_colours import MOST_STRAYS, labels_of_colours
from zoo.repro.predictions.finding import Finding, broken, numbering_of, wrong_scores, wrong_size
from zoo.repro.predictions.naming import ClassIds, ranges
from zoo.repro.predictions.panoptic_json import NO_AREA, Entry, PanopticEntries
from zoo.repro.predictions.pixels import JPEG, PALETTE, RGB_8, Pixels, read_pixels, size_of

if TYPE_CHECKING:
    from zoo.repro.predictions.naming import ImageNames
    from zoo.repro.predictions.storage import Storage


class ReadPanoptic(NamedTuple):
    """One image's panoptic prediction."""

    labels: np.ndarray  # [H, W] int32, labels of the data set's classes
    segment_labels: np.ndarray  # [S] int32, the label of each segment of the entry
    things: np.ndarray  # [T] int32, the labels of thing segments
    scores: np.ndarray | None  # [T] float32; None where some thing has none


class PanopticMaps:
    """The panoptic predictions that one JSON file lists."""

    def __init__(
        self,
        storage: Storage,
        json_name: str,
        read: PanopticEntries,
        names: ImageNames,
        ids: ClassIds,
    ) -> None:
        """Finds the PNG file of each entry."""
        self.findings = list(read.findings)
        self.title = read.title
        self.json_name = json_name
        self.unknown = read.unknown
        self.entries = read.entries
        self._storage = storage
        self._files = {
            image_id: file
            for image_id, entry in read.entries.items()
            if (file := _find(entry.file_name, json_name, storage)) is not None
        }
        self._look_at_files(names)
        categories = {int(c) for entry in read.entries.values() for c in np.unique(entry.segments.categories)}
        self.classes, findings = numbering_of(categories, ids, self.title)
        self.findings += findings
        self._look_at_scores()

    @property
    def image_ids(self) -> Collection[str]:
        """The images that have an entry and a file."""
        return self._files.keys()

    @property
    def files(self) -> Collection[str]:
        """The PNG files that belong to entries."""
        return set(self._files.values())

    @property
    def folders(self) -> set[str]:
        """The folders of these files."""
        return {str(PurePosixPath(file).parent) for file in self._files.values()}

    def file_of(self, image_id: str) -> str:
        """Returns the name of an image's PNG file."""
        return self._files[image_id]

    def panoptic(self, image_id: str, size: tuple[int, int]) -> tuple[ReadPanoptic | None, list[Finding]]:
        """Returns an image's prediction, None where it cannot be read, and what is wrong with it."""
        entry, name = self.entries[image_id], self._storage.title(self._files[image_id])
        findings = list(entry.findings)
        try:
            data = self._storage.read(self._files[image_id])
            other_size = wrong_size(size_of(data, name), size, name, image_id)
            if other_size is not None:
                return None, [*findings, other_size]
            pixels = read_pixels(data, name)
        except DataError as error:
            return None, [*findings, broken(error, name, image_id)]
        labels, unnumbered = self._labels(entry, name)
        findings += unnumbered
        order = np.argsort(entry.segments.ids, kind="stable")
        ids = entry.segments.ids[order].astype(np.int32)
        colours, wrong = _as_rgb(pixels, name, image_id)
        if colours is None:
            return None, [*findings, *wrong]
        counted = _count(colours, ids, labels[order], self.classes.info.void_label)
        if counted.strays.size:
            swapped = np.ascontiguousarray(colours[:, :, ::-1])
            again = _count(swapped, ids, labels[order], self.classes.info.void_label)
            if not again.strays.size:
                what = "blue in the place of red: the ids are listed once both are swapped"
                wrong.append(Finding("channel-order", name, "ids in RGB", what, image_id=image_id))
                counted = again
            elif not wrong:
                wrong.append(self._unlisted(counted.strays, name, image_id))
        findings += [finding if not counted.strays.size else _unfixable(finding) for finding in wrong]
        areas = np.empty(ids.size, np.int64)
        areas[order] = counted.areas
        if not wrong:
            findings += _look_at_areas(entry, areas, name)
        return self._result(entry, counted.labels, labels), findings

    def _labels(self, entry: Entry, name: str) -> tuple[np.ndarray, list[Finding]]:
        """Returns a label of the data set for each segment: numbered in each class, stuff from 0."""
        info, findings = self.classes.info, []
        train_ids = [
            self.classes.train_id_of.get(category, -1) for category in entry.segments.categories.tolist()
        ]
        unknown = sorted(
            {c for c, t in zip(entry.segments.categories.tolist(), train_ids, strict=True) if t < 0}
        )
        if unknown:
            found = f"category {ranges(unknown)} (image {entry.image_id})"
            findings.append(
                Finding(
                    "category-unknown",
                    self.title,
                    self.classes.expected(),
                    found,
                    "map the categories of the model to those of the data set",
                    image_id=entry.image_id,
                )
            )
        count = dict.fromkeys(train_ids, 0) | dict.fromkeys(info.thing_class_ids, 1)
        labels = np.full(len(train_ids), info.void_label, np.int32)
        for position, train_id in enumerate(train_ids):
            if train_id < 0:
                continue
            if count[train_id] >= info.label_divisor:
                most = f"fewer than {info.label_divisor} segments of one class"
                found = f"{train_ids.count(train_id)} of {info.class_names[train_id]}"
                remedy = "leave out the smallest"
                findings.append(Finding("too-many", name, most, found, remedy, image_id=entry.image_id))
                break
            labels[position] = train_id * info.label_divisor + count[train_id]
            count[train_id] += 1
        return labels, findings

    def _result(self, entry: Entry, label_map: np.ndarray, labels: np.ndarray) -> ReadPanoptic:
        info = self.classes.info
        is_thing = np.isin(labels // info.label_divisor, info.thing_class_ids) & (labels != info.void_label)
        scores = entry.segments.scores[is_thing].astype(np.float32)
        return ReadPanoptic(label_map, labels, labels[is_thing], None if np.isnan(scores).any() else scores)

    @property
    def has_scores(self) -> bool:
        """Whether the JSON gives scores."""
        return any(not np.isnan(entry.segments.scores).all() for entry in self.entries.values())

    def _look_at_files(self, names: ImageNames) -> None:
        """Finds entries that name the file of another image."""
        used: dict[str, str] = {}
        for image_id, file in self._files.items():
            stem = PurePosixPath(file).stem
            other = stem if names.of_file(file) == stem else used.setdefault(file, image_id)
            if other != image_id:
                expected, found = f"the file of image {image_id}", f"{file}, which is of image {other}"
                remedy = "write the `file_name` of each image"
                finding = Finding("file-name", self.title, expected, found, remedy, image_id=image_id)
                self.findings.append(finding)

    def _look_at_scores(self) -> None:
        parts = [entry.segments for entry in self.entries.values()]
        scores = np.concatenate([np.zeros(0), *(part.scores for part in parts)])
        self.findings += wrong_scores(scores[~np.isnan(scores)], self.title)
        things = {c for c, t in self.classes.train_id_of.items() if t in self.classes.info.thing_class_ids}
        bare = sum(
            category in things and score
            for part in parts
            for category, score in zip(part.categories.tolist(), np.isnan(part.scores).tolist(), strict=True)
        )
        if self.has_scores and bare:
            expected, found = "a score for every thing, or for none", f"{bare} things without a score"
            self.findings.append(
                Finding("score-missing", self.title, expected, found, "write the score of each thing")
            )

    def _unlisted(self, strays: np.ndarray, name: str, image_id: str) -> Finding:
        found = ("" if strays.size < MOST_STRAYS else "more than ") + f"{strays.size}"
        found += f" that the JSON does not list (first: {strays[0]})"
        remedy = "list them with their category, or make them 0 (void)"
        return Finding("segment-unlisted", name, "segment ids of the JSON", found, remedy, image_id=image_id)


class _Counted(NamedTuple):
    labels: np.ndarray
    areas: np.ndarray
    strays: np.ndarray


def _count(colours: np.ndarray, ids: np.ndarray, labels: np.ndarray, void: int) -> _Counted:
    return _Counted(*labels_of_colours(colours, ids, labels, np.int32(void)))


def _as_rgb(pixels: Pixels, name: str, image_id: str) -> tuple[np.ndarray | None, list[Finding]]:
    """Returns the ids as RGB, as far as they are in the file, and a finding where it has another form."""
    values, kind = pixels.values, pixels.kind
    if kind == RGB_8:
        return values, []
    if kind == JPEG:
        remedy = "write PNG: JPEG changes ids"
        return None, [Finding("lossy", name, f"a PNG of {RGB_8}", JPEG, remedy, image_id=image_id)]
    if kind == PALETTE and pixels.palette is not None:
        values = pixels.palette[np.minimum(values, len(pixels.palette) - 1)]
    elif values.ndim == 2:
        values = np.stack([values & 255, values >> 8, np.zeros_like(values)], axis=-1)
    rgb = np.ascontiguousarray(values[:, :, :3].astype(np.uint8))
    expected = f"a PNG of {RGB_8}, id = R + 256 G + 65536 B"
    return rgb, [Finding("colour-type", name, expected, kind, image_id=image_id)]


def _unfixable(finding: Finding) -> Finding:
    if not finding.fixable:
        return finding
    remedy = "write the ids again: they are not those of the JSON"
    return Finding(
        finding.kind, finding.file, finding.expected, finding.found, remedy, image_id=finding.image_id
    )


def _look_at_areas(entry: Entry, areas: np.ndarray, name: str) -> Iterator[Finding]:
    ids, given = entry.segments.ids, entry.segments.areas
    absent = ids[areas == 0]
    if absent.size:
        found = f"{absent.size} without a pixel (first: {absent[0]})"
        yield Finding("segment-absent", name, "all segments of the JSON", found, image_id=entry.image_id)
    different = np.flatnonzero((given != NO_AREA) & (given != areas) & (areas > 0))
    if different.size:
        first = different[0]
        expected = f"{areas[first]} pixels as `area` of segment {ids[first]}"
        found = f"{given[first]}" + (
            f", and {different.size - 1} more that differ" if different.size > 1 else ""
        )
        yield Finding("area", name, expected, found, blocks=False, image_id=entry.image_id)


def _find(file_name: str, json_name: str, storage: Storage) -> str | None:
    """Returns the file that an entry names: in the folder of the JSON's name, or beside it."""
    home = PurePosixPath(json_name)
    for folder in (home.with_suffix(""), home.parent):
        name = str(folder / file_name)
        if name in storage:
            return name
    return None
