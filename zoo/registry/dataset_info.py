"""The plain description of a data set's classes, which networks, metrics and reports share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from zoo.errors import DataError


@dataclass(frozen=True)
class DatasetInfo:
    """The classes of a data set and how its panoptic maps encode them.

    The classes that are scored have the train ids 0 to num_classes - 1. Names, original ids and colours are
    in this order.
    """

    name: str  # of the data set's format
    num_classes: int
    class_names: tuple[str, ...]
    thing_class_ids: tuple[int, ...]  # train ids of the classes that have instances
    label_divisor: int  # a panoptic label is `class * label_divisor + instance`
    ignore_label: int  # the class of void pixels
    original_ids: tuple[int, ...]  # what the original annotations call each class
    # How the official scripts read predicted things: a PNG file for each and a list, or run-lengths in JSON.
    instance_results: Literal["masks", "rle"] = "masks"
    upstream_name: str = ""  # what published configurations call the data set
    # The data set's own for each class, as six hexadecimal digits; empty where it has none.
    colours: tuple[str, ...] = ()
    void_ids: tuple[int, ...] = (0,)  # what the original annotations call void; predictions say the first

    @property
    def void_label(self) -> int:
        """The panoptic label of void pixels."""
        return self.ignore_label * self.label_divisor

    @cached_property
    def every_id(self) -> frozenset[int]:
        """The original ids, void's included."""
        return frozenset((*self.original_ids, *self.void_ids))

    @cached_property
    def train_ids(self) -> dict[int, int]:
        """The train id of each original id that is scored."""
        named = enumerate(self.original_ids)
        return {original_id: train_id for train_id, original_id in named if train_id != self.ignore_label}

    def number_segments(self, train_ids: Iterable[int], name: str) -> list[int]:
        """Returns the panoptic label of each segment; things are numbered from 1 in each class, in order.

        Raises:
          DataError: more things of a class than labels can tell apart in the file `name`.
        """
        counts = dict.fromkeys(self.thing_class_ids, 0)
        labels = []
        for train_id in train_ids:
            if train_id in counts:
                counts[train_id] += 1
            labels.append(train_id * self.label_divisor + counts.get(train_id, 0))
        for train_id, count in counts.items():
            if count >= self.label_divisor:
                raise DataError(
                    f"{name}: has {count} instances of {self.class_names[train_id]}, the most is "
                    f"{self.label_divisor - 1}"
                )
        return labels
