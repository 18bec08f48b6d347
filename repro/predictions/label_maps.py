"""Predictions as one number per pixel: classes (semantic), or class * divisor + instance (panoptic)."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.metrics.overlap import index_labels
from zoo.repro.predictions.finding import Finding, broken, wrong_size
from zoo.repro.predictions.naming import TITLES, ClassIds, ranges
from zoo.repro.predictions.panoptic_maps import ReadPanoptic
from zoo.repro.predictions.pixels import (
    GREY_8,
    GREY_16,
    JPEG,
    NPY,
    RGB_8,
    Pixels,
    read_pixels,
    size_of,
)

if TYPE_CHECKING:
    from zoo.repro.predictions.storage import Storage

# What programs write for void where the data set has another number.
_VOIDS = (-1, 0, 255, 65535, 2**31 - 1)
_DIVISORS = (1000, 256, 100, 10_000, 1 << 15, 1 << 16, 1 << 20)
_SHOWN_IDS = 20
# Of the largest maps, enough pixels to tell the colours of classes from a photograph.
_SAMPLED_PX = 4096


class _Numbers(NamedTuple):
    """The numbers of a map: the distinct ones in order of appearance, and each pixel's place among them."""

    distinct: np.ndarray  # [N] int32
    places: np.ndarray  # [H, W] int32


class LabelMaps:
    """Maps of numbers, one file for each image; `divisor` is 1 where they are classes without instances."""

    def __init__(self, storage: Storage, files: Mapping[str, str], ids: ClassIds, divisor: int) -> None:
        self._storage = storage
        self._files = dict(files)
        self._classes = ids
        self.divisor = divisor
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
        numbers, findings = self._read(image_id, size)
        if numbers is None:
            return None, findings
        train_ids, wrong = self._train_ids(numbers.distinct, image_id)
        return train_ids.astype(np.uint8)[numbers.places], findings + wrong

    def panoptic(self, image_id: str, size: tuple[int, int]) -> tuple[ReadPanoptic | None, list[Finding]]:
        """Returns an image's labels, and what is wrong with them; things are numbered by rising value."""
        numbers, findings = self._read(image_id, size)
        if numbers is None:
            return None, findings
        info = self._classes.info
        train_ids, wrong = self._train_ids(numbers.distinct, image_id)
        labels = np.full(train_ids.size, info.void_label, np.int32)
        count = dict.fromkeys(info.thing_class_ids, 1)
        for position in np.argsort(numbers.distinct, kind="stable").tolist():
            train_id = int(train_ids[position])
            number = count.get(train_id, 0)
            count[train_id] = number + 1
            if train_id != info.ignore_label and number < info.label_divisor:
                labels[position] = train_id * info.label_divisor + number
            elif train_id != info.ignore_label and number == info.label_divisor:
                found = f"more of {info.class_names[train_id]}"
                most = f"fewer than {info.label_divisor} segments of one class"
                wrong.append(self._wrong(image_id, "too-many", most, found, "leave out the smallest"))
        is_thing = np.isin(labels // info.label_divisor, info.thing_class_ids) & (labels != info.void_label)
        return ReadPanoptic(labels[numbers.places], labels, labels[is_thing], None), findings + wrong

    def corrected(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        """Returns an image's map in the expected numbering, [H, W] int32; None where it cannot be read."""
        numbers, _ = self._read(image_id, size)
        if numbers is None:
            return None
        table = self._table(self.numbering())
        number_of, ignore_label = self._classes.number_of, self._classes.info.ignore_label
        values = []
        for number in numbers.distinct.tolist():
            train_id = table.get(number // self.divisor, ignore_label)
            if train_id not in number_of:
                return None
            instance = number % self.divisor if train_id != ignore_label else 0
            values.append(number_of[train_id] * self.divisor + instance)
        return np.array(values, np.int32)[numbers.places]

    def numbering(self) -> ClassIds:
        """Returns the numbering of all images: another one where only that explains all numbers.

        Where it is not known already, every file is read once.
        """
        found = self._classes_of_all()
        others = self._classes.other_numberings(found, with_void=True)
        return self._classes.read_as(others[0]) if len(others) == 1 and self._odd(found) else self._classes

    def _wrong(
        self, image_id: str, kind: str, expected: str, found: str, remedy: str | None = None, also: str = ""
    ) -> Finding:
        name = self._storage.title(self._files[image_id])
        return Finding(kind, name, expected, found, remedy, also=also, image_id=image_id)

    def _read(self, image_id: str, size: tuple[int, int]) -> tuple[_Numbers | None, list[Finding]]:
        """Returns the numbers in an image's file, None where it holds something else."""
        name = self._storage.title(self._files[image_id])
        try:
            data = self._storage.read(self._files[image_id])
            wrong = wrong_size(size_of(data, name), size, name, image_id)
            if wrong is not None:
                return None, [wrong]
            pixels = read_pixels(data, name)
        except DataError as error:
            return None, [broken(error, name, image_id)]
        values, finding = self._values(pixels, image_id)
        if values is None:
            return None, [finding] if finding else []
        if values.dtype.itemsize > 4 and (values.max() >= 1 << 31 or values.min() < -(1 << 31)):
            expected, found = self._classes.expected(), f"{values.max()}"
            return None, [self._wrong(image_id, "class-unknown", expected, found, "write the ids as int32")]
        distinct, index = index_labels(values.reshape(-1).astype(np.int32))
        return _Numbers(distinct, index.reshape(values.shape)), [finding] if finding else []

    def _values(self, pixels: Pixels, image_id: str) -> tuple[np.ndarray | None, Finding | None]:
        """Returns the numbers that a file holds, None where it holds something else."""
        values, kind = pixels.values, pixels.kind
        is_semantic = self.divisor == 1
        expected = f"class ids in {GREY_8}" if is_semantic else f"ids in {GREY_16} or {NPY}"
        if kind == JPEG:
            return None, self._wrong(image_id, "lossy", expected, JPEG, "write PNG: JPEG changes ids")
        if values.ndim == 2:
            if not is_semantic and kind == GREY_8:
                found = f"{kind}, where larger ids are cut off"
                remedy = "write 16 bits, or --form label_ids if these are classes alone"
                return None, self._wrong(image_id, "bit-depth", expected, found, remedy)
            is_plain = kind in (GREY_8, GREY_16, NPY)
            return values, None if is_plain else self._wrong(image_id, "colour-type", expected, kind)
        if not is_semantic and kind == RGB_8:
            return values.astype(np.int32) @ np.array([1, 256, 65536], np.int32), None
        channels = values[..., : 3 if values.shape[-1] >= 3 else 1]
        if (channels == channels[..., :1]).all():
            found = f"{kind}, with the ids in each channel"
            return channels[..., 0], self._wrong(image_id, "colour-type", expected, found)
        some = channels.reshape(-1, channels.shape[-1])[:: max(1, channels.size // _SAMPLED_PX)]
        known = {bytes.fromhex(colour) for colour in self._classes.info.colours if colour} | {bytes(3)}
        what = "the colours of classes" if {bytes(colour) for colour in some} <= known else "colours"
        remedy = "write the ids of classes, not a picture of them; ids of segments need a panoptic JSON"
        return None, self._wrong(image_id, "colours", expected, f"{kind}: {what}", remedy)

    def _train_ids(self, numbers: np.ndarray, image_id: str) -> tuple[np.ndarray, list[Finding]]:
        """Returns the train id of each number, void for unknown ones, and what is wrong with the numbers."""
        found = set((numbers // self.divisor).tolist())
        classes, findings = self._classes, []
        if self._odd(found):
            finding = self._explain(found, numbers, image_id)
            if finding is not None:
                findings, classes = [finding], self.numbering()
        table = self._table(classes)
        ignore_label = classes.info.ignore_label
        return np.array(
            [table.get(n // self.divisor, ignore_label) for n in numbers.tolist()], np.int32
        ), findings

    def _odd(self, found: Collection[int]) -> bool:
        """Returns whether some classes are unknown, or never scored: who predicts these may mean others."""
        return not set(found) <= self._classes.train_id_of.keys() | set(self._classes.void[:1])

    @staticmethod
    def _table(classes: ClassIds) -> dict[int, int]:
        return dict.fromkeys(classes.void, classes.info.ignore_label) | classes.train_id_of

    def _explain(self, found: set[int], numbers: np.ndarray, image_id: str) -> Finding | None:
        """Returns what is wrong with the odd ids of an image, in the light of all images."""
        classes, divisor = self._classes, self.divisor
        others = classes.other_numberings(found, with_void=True)
        if others:
            others = classes.other_numberings(self._classes_of_all(), with_void=True)
        if others:
            what = f"{' or '.join(TITLES[other] for other in others)} ({ranges(found)})"
            remedy = None if len(others) == 1 else f"write {TITLES[classes.ids]}"
            options = {"train", "original"} & set(others)
            also = "".join(f", or give --ids {option}" for option in options)
            return self._wrong(image_id, f"{others[0]}-ids", classes.expected(), what, remedy, also)
        unknown = classes.unknown(found, with_void=True)
        if not unknown:
            return None
        values = np.unique(numbers[np.isin(numbers // divisor, unknown)]).tolist()
        if len(values) == 1 and values[0] in {
            *_VOIDS,
            *(divisor * void for void in (*_VOIDS, classes.info.num_classes)),
        }:
            if self._is_void_of_16_bits(values[0]):
                return None
            expected = f"void as {classes.void[0] * divisor}" if classes.void else "no void"
            return self._wrong(
                image_id, "void", expected, str(values[0]), None if classes.void else "write a class"
            )
        for other in _DIVISORS:
            if divisor not in (1, other) and not classes.unknown((numbers // other).tolist(), with_void=True):
                expected = f"class * {divisor} + instance"
                what = f"{max(values)}; with the divisor {other} all classes are known"
                return self._wrong(image_id, "divisor", expected, what, f"give --divisor {other}")
        what = ranges(unknown[:_SHOWN_IDS]) + (" and more" if len(unknown) > _SHOWN_IDS else "")
        remedy = "map the classes of the model to those of the data set"
        return self._wrong(image_id, "class-unknown", classes.expected(), what, remedy)

    def _is_void_of_16_bits(self, value: int) -> bool:
        """Returns whether void has to be 65535, because its label does not fit into 16 bits."""
        return value == 65535 and bool(self._classes.void) and self._classes.void[0] * self.divisor > 65535

    def _classes_of_all(self) -> set[int]:
        """Returns the classes of all images, as they are numbered; reads every file once."""
        with self._lock:
            if self._all is None:
                self._all = set()
                for name in self._files.values():
                    try:
                        values = read_pixels(self._storage.read(name), name).values
                    except DataError:
                        continue
                    if values.ndim == 2:
                        self._all |= set((np.unique(values).astype(np.int64) // self.divisor).tolist())
            return self._all
