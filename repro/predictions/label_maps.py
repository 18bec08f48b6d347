"""Predictions as one number per pixel: classes (semantic), or class * divisor + instance (panoptic)."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import DataError
from zoo.metrics.overlap import index_labels
from zoo.repro.predictions.class_ids import TITLES, ClassIds, ranges
from zoo.repro.predictions.finding import FIX, Finding
from zoo.repro.predictions.panoptic_maps import ReadPanoptic, broken, wrong_size
from zoo.repro.predictions.pixels import (
    GREY_8,
    GREY_16,
    JPEG,
    NPY,
    PALETTE,
    RGB_8,
    Pixels,
    read_pixels,
    size_of,
)

if TYPE_CHECKING:
    from zoo.repro.predictions.storage import Storage

# What programs write for void where the data set has another number.
_VOIDS = (-1, 255, 65535, 2**31 - 1, 2**32 - 1, 0)
_DIVISORS = (1000, 256, 100, 10_000, 1 << 16, 1 << 20, 1 << 15)


class LabelMaps:
    """Maps of numbers, one file for each image; `divisor` is 1 where they are classes without instances."""

    def __init__(self, storage: Storage, files: Mapping[str, str], ids: ClassIds, divisor: int) -> None:
        self._storage = storage
        self._files = dict(files)
        self._classes = ids
        self._divisor = divisor
        self._lock = threading.Lock()
        self._all: set[int] | None = None

    @property
    def image_ids(self) -> Collection[str]:
        """The images that have a file."""
        return self._files.keys()

    def file_of(self, image_id: str) -> str:
        """Returns the name of an image's file."""
        return self._files[image_id]

    def semantic(self, image_id: str, size: tuple[int, int]) -> tuple[np.ndarray | None, list[Finding]]:
        """Returns an image's classes, [H, W] uint8 train ids and void, and what is wrong with them."""
        values, numbers, index, findings = self._read(image_id, size)
        if values is None:
            return None, findings
        train_ids, wrong = self._train_ids(numbers, image_id)
        return train_ids.astype(np.uint8)[index].reshape(values.shape), findings + wrong

    def panoptic(self, image_id: str, size: tuple[int, int]) -> tuple[ReadPanoptic | None, list[Finding]]:
        """Returns an image's labels, and what is wrong with them; things are numbered by rising value."""
        values, numbers, index, findings = self._read(image_id, size)
        if values is None:
            return None, findings
        info = self._classes.info
        train_ids, wrong = self._train_ids(numbers, image_id)
        labels = np.full(numbers.size, info.void_label, np.int32)
        count = dict.fromkeys(info.thing_class_ids, 1)
        for position in np.argsort(numbers, kind="stable").tolist():
            train_id = int(train_ids[position])
            if train_id != info.ignore_label:
                number = count.get(train_id, 0)
                count[train_id] = number + 1
                labels[position] = train_id * info.label_divisor + number
                if number == info.label_divisor:
                    wrong.append(self._too_many(train_id, image_id))
        is_thing = np.isin(labels // info.label_divisor, info.thing_class_ids) & (labels != info.void_label)
        read = ReadPanoptic(labels[index].reshape(values.shape), labels, labels[is_thing], None)
        return read, findings + wrong

    def _read(
        self, image_id: str, size: tuple[int, int]
    ) -> tuple[Any, np.ndarray, np.ndarray, list[Finding]]:
        """Returns the values, the distinct ones in order of appearance, and each pixel's place among them."""
        name = self._storage.title(self._files[image_id])
        nothing = np.zeros(0, np.int32)
        try:
            data = self._storage.read(self._files[image_id])
            wrong = wrong_size(size_of(data, name), size, name, image_id)
            if wrong is not None:
                return None, nothing, nothing, [wrong]
            pixels = read_pixels(data, name)
        except DataError as error:
            return None, nothing, nothing, [broken(error, name, image_id)]
        values, findings = self._numbers(pixels, name, image_id)
        if values is None:
            return None, nothing, nothing, findings
        numbers, index = index_labels(values.reshape(-1).astype(np.int32))
        return values, numbers, index, findings

    def _numbers(self, pixels: Pixels, name: str, image_id: str) -> tuple[np.ndarray | None, list[Finding]]:
        """Returns the numbers that a file holds, None where it holds something else."""
        values, kind = pixels.values, pixels.kind
        is_semantic = self._divisor == 1
        expected = f"class ids in {GREY_8}" if is_semantic else f"ids in {GREY_16} or {NPY}"
        if kind == JPEG:
            remedy = "write PNG: JPEG changes ids"
            return None, [Finding("lossy", name, expected, JPEG, remedy, image_id=image_id)]
        if kind == PALETTE or (
            kind.startswith("grey of") and kind not in (GREY_8, GREY_16) and values.ndim == 2
        ):
            return values, [Finding("colour-type", name, expected, kind, FIX, True, image_id=image_id)]
        if values.ndim == 2:
            if not is_semantic and kind == GREY_8:
                found = f"{kind}, which holds no instance numbers beyond 255"
                remedy = "write 16 bits, or --form label_ids if these are classes alone"
                return None, [Finding("bit-depth", name, expected, found, remedy, image_id=image_id)]
            return values, []
        if not is_semantic and kind == RGB_8:
            return values.astype(np.int32) @ np.array([1, 256, 65536], np.int32), []
        return self._from_colours(values, kind, expected, name, image_id)

    def _from_colours(
        self, values: np.ndarray, kind: str, expected: str, name: str, image_id: str
    ) -> tuple[np.ndarray | None, list[Finding]]:
        """Returns the one channel that three equal ones repeat; else a finding about colours."""
        if (values[..., 0] == values[..., 1]).all() and (
            values[..., 0] == values[..., min(2, values.shape[-1] - 1)]
        ).all():
            found = f"{kind}, with ids in each channel"
            return values[..., 0], [
                Finding("colour-type", name, expected, found, FIX, True, image_id=image_id)
            ]
        colours = {bytes.fromhex(colour) for colour in self._classes.info.colours if colour} | {bytes(3)}
        some = {
            bytes(colour)
            for colour in values.reshape(-1, values.shape[-1])[:: max(1, values.size // 3000), :3]
        }
        found = f"{kind}: " + ("the colours of classes" if some <= colours else "colours")
        remedy = "write the ids of classes, not the picture of them"
        return None, [Finding("colours", name, expected, found, remedy, image_id=image_id)]

    def _train_ids(self, numbers: np.ndarray, image_id: str) -> tuple[np.ndarray, list[Finding]]:
        """Returns the train id of each number, void for unknown ones, and what is wrong with the numbers."""
        classes, info = self._classes, self._classes.info
        found = set(np.unique(numbers // self._divisor).tolist())
        unknown = classes.unknown(found, with_void=True)
        # Ids that are never scored are legal, but who predicts them may mean other classes.
        is_odd = bool(unknown) or bool(found & set(classes.void[1:]))
        name = self._storage.title(self._files[image_id])
        findings = []
        if is_odd:
            finding, classes = self._explain(found, unknown, numbers, name, image_id)
            findings += [finding] if finding is not None else []
        table = dict.fromkeys(classes.void, info.ignore_label) | classes.train_id_of
        train_ids = [table.get(number, info.ignore_label) for number in (numbers // self._divisor).tolist()]
        return np.array(train_ids, np.int32), findings

    def _explain(
        self, found: set[int], unknown: list[int], numbers: np.ndarray, name: str, image_id: str
    ) -> tuple[Finding | None, ClassIds]:
        """Returns what is wrong with ids that are odd, in the light of all images, and how to read them."""
        classes = self._classes
        others = classes.other_numberings(found, with_void=True)
        if others:
            others = classes.other_numberings(self._all_classes(), with_void=True)
        shown = f"ids {ranges(found)}"
        if others:
            what = f"{' or '.join(TITLES[other] for other in others)} ({shown})"
            remedy = FIX if len(others) == 1 else f"write {TITLES[classes.ids]}"
            remedy += "" if classes.ids == "train" or "train" not in others else ", or give --ids train"
            return (
                Finding(
                    f"{others[0]}-ids",
                    name,
                    classes.expected(),
                    what,
                    remedy,
                    len(others) == 1,
                    image_id=image_id,
                ),
                classes.read_as(others[0]),
            )
        if not unknown:
            return None, classes
        if len(unknown) == 1 and self._is_void(numbers, unknown[0]):
            expected = f"void as {classes.void[0] * self._divisor}" if classes.void else "no void"
            value = int(numbers[numbers // self._divisor == unknown[0]][0])
            return Finding(
                "void", name, expected, f"{value}", FIX, bool(classes.void), image_id=image_id
            ), classes
        fits = [
            d
            for d in _DIVISORS
            if self._divisor not in (1, d)
            and not classes.unknown(set((numbers // d).tolist()), with_void=True)
        ]
        if fits:
            expected = f"class * {self._divisor} + instance"
            what = f"{int(numbers.max())}, which is none; with the divisor {fits[0]} all classes are known"
            return Finding(
                "divisor", name, expected, what, f"give --divisor {fits[0]}", image_id=image_id
            ), classes
        remedy = "map the classes of the model to those of the data set"
        what = f"{ranges(unknown[:20])}" + (" and more" if len(unknown) > 20 else "")
        return Finding("class-unknown", name, classes.expected(), what, remedy, image_id=image_id), classes

    def _is_void(self, numbers: np.ndarray, unknown: int) -> bool:
        values = np.unique(numbers[numbers // self._divisor == unknown]).tolist()
        return len(values) == 1 and values[0] in (
            *_VOIDS,
            *(self._divisor * v for v in (*_VOIDS, self._classes.info.num_classes)),
        )

    def _all_classes(self) -> set[int]:
        """Returns the classes of all images, as they are numbered; reads every file once."""
        with self._lock:
            if self._all is None:
                self._all = set()
                for name in self._files.values():
                    try:
                        pixels = read_pixels(self._storage.read(name), name)
                    except DataError:
                        continue
                    if pixels.values.ndim == 2:
                        self._all |= set(
                            (np.unique(pixels.values).astype(np.int64) // self._divisor).tolist()
                        )
            return self._all

    def _too_many(self, train_id: int, image_id: str) -> Finding:
        info = self._classes.info
        most = f"fewer than {info.label_divisor} segments of one class"
        name = self._storage.title(self._files[image_id])
        found = f"more of {info.class_names[train_id]}"
        return Finding("too-many", name, most, found, "leave out the smallest", image_id=image_id)
