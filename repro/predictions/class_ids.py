"""By which numbers predictions call classes: original ids, train ids, or ids counted from 0 without gaps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

Ids = Literal["original", "train"]

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
