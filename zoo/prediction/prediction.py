"""What a network sees in one image: maps of labels, and the instances in them as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from zoo.registry.frames import typed_frame
from zoo.repro.datasets.label_shapes import LabelShapes, measure_labels

if TYPE_CHECKING:
    from pandas import DataFrame

    from zoo.model.postprocess.instances import Instances
    from zoo.registry.dataset_info import DatasetInfo

_BOX = ("x0_px", "y0_px", "x1_px", "y1_px")
INSTANCE_DTYPES = {
    **dict.fromkeys(("label", "class_id"), "int64"),
    "class_name": "string",
    "area_px": "int64",
    "score": "float64",
    **dict.fromkeys(_BOX, "int64"),
}
"""The columns of `Prediction.instances`, and the type of each."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a network sees in one image, at the size of that image.

    Attributes:
      panoptic: [H, W] int32, class * label_divisor + instance number (0 for stuff), or `void_label`.
      semantic: [H, W] uint8, the most probable class of each pixel, never void.
      scored: the labels, areas and scores of the things in `panoptic`, as arrays.
      classes: names, colours and encoding of the classes, by train id.
      image: [H, W, 3], RGB 0..255, what the prediction was made of; None where it is not known.
      name: of the image: its file's without the suffix; None where the image came as an array.
    """

    panoptic: np.ndarray
    semantic: np.ndarray
    scored: Instances
    classes: DatasetInfo
    image: np.ndarray | None = None
    name: str | None = None

    @cached_property
    def instances(self) -> DataFrame:
        """The instances in `panoptic`, a row for each, in the order in which they first appear, row by row.

        Columns: `label` (int64: its value in the map), `class_id` (int64: train id), `class_name` (string),
        `area_px` (int64), `score` (float64: the mean probability of its class times the heatmap value of its
        center, 0 to about 1, as a heatmap is not bounded), and the box that holds it, `x0_px`, `y0_px`,
        `x1_px`, `y1_px` (int64: half open, from the top left).
        """
        return typed_frame(self.instance_rows(), INSTANCE_DTYPES)

    def instance_rows(self) -> list[dict[str, int | float | str]]:
        """Returns the rows of `instances`, without pandas."""
        box_of = dict(zip(self.shapes.labels.tolist(), self.shapes.boxes.tolist(), strict=True))
        found = zip(*(values.tolist() for values in self._columns), strict=True)
        return [
            {
                "label": label,
                "class_id": label // self.label_divisor,
                "class_name": self.class_name(label),
                "area_px": area,
                "score": score,
                **dict(zip(_BOX, box_of[label], strict=True)),
            }
            for label, area, score in found
        ]

    def class_name(self, label: int) -> str:
        """Returns the name of a panoptic label's class, "void" for pixels without one."""
        return "void" if label == self.void_label else self.class_names[label // self.label_divisor]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by train id."""
        return self.classes.class_names

    @property
    def label_divisor(self) -> int:
        """The divisor of the labels in `panoptic`."""
        return self.classes.label_divisor

    @property
    def void_label(self) -> int:
        """The label of pixels without a class, such as stuff of too small an area."""
        return self.classes.void_label

    @cached_property
    def shapes(self) -> LabelShapes:
        """Areas and bounding boxes of all segments in `panoptic`, things, stuff and void."""
        return measure_labels(self.panoptic)

    @property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.scored.labels, self.scored.areas, self.scored.score

    def __repr__(self) -> str:
        height, width = self.panoptic.shape
        count = Counter(self.class_name(label) for label in self.scored.labels.tolist())
        seen = ", ".join(f"{number} {name}" for name, number in count.most_common()) or "no instance"
        name = f"{self.name}, " if self.name else ""
        return f"<Prediction {name}{height} x {width}: {seen}>"
