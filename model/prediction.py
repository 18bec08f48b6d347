"""What a network sees in one image: maps of labels, and the instances in them by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from zoo.registry.dataset_info import DatasetInfo

if TYPE_CHECKING:
    from zoo.model.postprocess.result import ImagePrediction

Maps: TypeAlias = dict[str, np.ndarray]
"""What a network gives for one image, by name; see `Network.maps`."""


@dataclass(frozen=True)
class PredictedInstance:
    """One instance of a panoptic map.

    Its score is the mean probability of its class times the heatmap value of its center: 0 to about 1, as a
    heatmap is not bounded.
    """

    label: int  # its value in the map, `class_id * label_divisor + number`
    class_id: int  # train id of its class
    class_name: str
    area_px: int  # number of its pixels
    score: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network sees in one image, at the size of that image.

    Attributes:
      panoptic: [H, W] int32, class * label_divisor + instance number (0 for stuff), or `void_label`.
      semantic: [H, W] uint8, the most probable class of each pixel, never void.
      instances: the instances in `panoptic`, in the order in which they first appear, row by row.
      class_names: names of the classes, by train id.
      label_divisor: of the labels in `panoptic`.
      void_label: the label of pixels without a class, such as stuff of too small an area.
    """

    panoptic: np.ndarray = field(repr=False)
    semantic: np.ndarray = field(repr=False)
    instances: tuple[PredictedInstance, ...]
    class_names: tuple[str, ...]
    label_divisor: int
    void_label: int

    def class_name(self, label: int) -> str:
        """Returns the name of a panoptic label's class, "void" for pixels without one."""
        return "void" if label == self.void_label else self.class_names[label // self.label_divisor]


def make_prediction(result: ImagePrediction, classes: DatasetInfo) -> Prediction:
    """Returns the result of post-processing with the names of a data set's classes."""
    names, divisor = tuple(classes.class_names), classes.label_divisor
    found = result.instances
    instances = tuple(
        PredictedInstance(label, label // divisor, names[label // divisor], area, score)
        for label, area, score in zip(
            found.labels.tolist(), found.areas.tolist(), found.score.tolist(), strict=True
        )
    )
    return Prediction(
        np.ascontiguousarray(result.panoptic),
        np.ascontiguousarray(result.semantic),
        instances,
        names,
        divisor,
        classes.void_label,
    )
