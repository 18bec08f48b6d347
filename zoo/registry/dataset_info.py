"""The plain description of a data set's classes, which networks, metrics and reports share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DatasetInfo:
    """The classes of a data set and how its panoptic maps encode them.

    Attributes:
      name: name of the data set's format.
      num_classes: number of classes that are scored; they are numbered 0 to num_classes - 1 (train ids).
      class_names: their names, by train id.
      thing_class_ids: train ids of the classes that have instances.
      label_divisor: a panoptic label is `class * label_divisor + instance`.
      ignore_label: the class of void pixels.
      original_ids: what the original annotations call each class, by train id.
      instance_results: how the official scripts read predicted things: `masks`, a PNG file for each and a
        list, or `rle`, run-length encoded in JSON.
      upstream_name: what published configurations call the data set, where there are some.
      colours: the data set's own colour of each class, by train id, as six hexadecimal digits; empty where
        it has none.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    thing_class_ids: tuple[int, ...]
    label_divisor: int
    ignore_label: int
    original_ids: tuple[int, ...]
    instance_results: Literal["masks", "rle"] = "masks"
    upstream_name: str = ""
    colours: tuple[str, ...] = ()

    @property
    def void_label(self) -> int:
        """The panoptic label of void pixels."""
        return self.ignore_label * self.label_divisor
