"""How predictions call images and classes, and what they mean by it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.datasets.dataset import Dataset

Ids = Literal["original", "train"]

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".json", ".npy")

TITLES = {"original": "original ids", "train": "train ids", "contiguous": "ids counted from 0 without gaps"}


_MOST_RANGES = 16


class ClassIds:
    """The numbers of a data set's classes in one numbering, and what else numbers could mean.

    Attributes:
      train_id_of: the train id of each number that is a class.
      void: numbers of pixels that mean void; what predictions should write comes first.
    """

    def __init__(self, info: DatasetInfo, ids: str) -> None:
        classes = [train_id for train_id in range(info.num_classes) if train_id != info.ignore_label]
        numberings = {
            "original": {info.original_ids[train_id]: train_id for train_id in classes},
            "train": {train_id: train_id for train_id in classes},
            "contiguous": dict(enumerate(classes)),
        }
        self.ids = ids
        self.info = info
        self.train_id_of = numberings.pop(ids)
        if numberings.get("contiguous") == numberings.get("train", self.train_id_of):
            del numberings["contiguous"]
        self.others = numberings
        void = info.void_ids if ids == "original" else (info.ignore_label,)
        self.void = tuple(number for number in void if number not in self.train_id_of)

    def read_as(self, ids: str) -> ClassIds:
        """Returns the same for another numbering."""
        return ClassIds(self.info, ids)

    def expected(self) -> str:
        """Returns the numbers of all classes in words."""
        return f"{TITLES[self.ids]} ({ranges(self.train_id_of)})"

    def unknown(self, found: Iterable[int], *, with_void: bool) -> list[int]:
        """Returns those of some numbers that are no class, rising; nor void, where there may be void."""
        known = self.train_id_of.keys() | (set(self.void) if with_void else set())
        return sorted(set(found) - known)

    def other_numberings(self, found: Collection[int], *, with_void: bool) -> list[str]:
        """Returns the numberings in which some numbers are classes, all of them, or void pixels."""
        void = {255, self.info.ignore_label} if with_void else set()
        return [name for name, known in self.others.items() if found and set(found) <= known.keys() | void]

    @property
    def number_of(self) -> dict[int, int]:
        """The number of each train id, void's included where it has one."""
        void = {self.info.ignore_label: self.void[0]} if self.void else {}
        return void | {train_id: number for number, train_id in self.train_id_of.items()}


def ranges(numbers: Iterable[int]) -> str:
    """Returns numbers in words, neighbours joined; of very many, the first and the last.

    >>> ranges([7, 8, 11, 12, 13, 20])
    '7, 8, 11 to 13, 20'
    """
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    words = []
    for part in parts:
        words += [f"{part[0]} to {part[-1]}"] if len(part) > 2 else list(map(str, part))
    if len(words) > _MOST_RANGES:
        words[_MOST_RANGES - 2 : -1] = ["..."]
    return ", ".join(words)


class ImageNames:
    """Image ids by the names and numbers that predictions call images."""

    def __init__(self, dataset: Dataset) -> None:
        self.image_ids = dataset.image_ids
        self._ids = set(dataset.image_ids)
        self.numbers: dict[int, str] = {}  # of data sets whose annotations number images
        official_id = getattr(dataset, "official_image_id", None)
        if official_id is not None:
            found = {official_id(image_id): image_id for image_id in dataset.image_ids}
            self.numbers = {number: image_id for number, image_id in found.items() if isinstance(number, int)}
        self._number_of = {image_id: number for number, image_id in self.numbers.items()}
        self._unpadded = {int(image_id): image_id for image_id in dataset.image_ids if image_id.isdecimal()}

    def of_file(self, name: str) -> str | None:
        """Returns the image of a file, by its name without extension and suffixes such as `_pred`."""
        return self.of_text(PurePosixPath(name).stem)

    def of_text(self, text: str) -> str | None:
        """Returns the image that some text names: an id, a number, or an id with something behind `_`."""
        text = PurePosixPath(text).name
        while text:
            if text in self._ids:
                return text
            if text.isdecimal() and len(text) < 19:
                number = int(text)
                return self._unpadded.get(number) or self.numbers.get(number)
            stem, dot, _ = text.rpartition(".")
            if not dot:
                stem, _, suffix = text.rpartition("_")
                # What differs by a number is another image.
                if suffix.isdecimal():
                    return None
            text = stem
        return None

    def exactly(self, image_id: object) -> str | None:
        """Returns the image that a JSON file calls so, rightly: by its number where images are numbered."""
        if self.numbers:
            is_number = isinstance(image_id, int) and not isinstance(image_id, bool)
            return self.numbers.get(image_id) if is_number else None  # type: ignore[call-overload]
        if not isinstance(image_id, str) or image_id in self._ids:
            return image_id if isinstance(image_id, str) else None
        # A picture's name without its extension will do too: `frankfurt/frankfurt_000000_000294_leftImg8bit`.
        return None if image_id.lower().endswith(_EXTENSIONS) else self.of_text(image_id)

    def official(self, image_id: str) -> int | str:
        """Returns what JSON files have to call an image: a number where the annotations number images."""
        return self._number_of.get(image_id, image_id)
