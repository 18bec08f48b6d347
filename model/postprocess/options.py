"""The options of post-processing, from the data set and the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from zoo.errors import UsageError
from zoo.registry.dataset_info import DatasetInfo

MAX_CLASSES = 256


@dataclass(frozen=True)
class PostprocessOptions:
    """What post-processing needs to know of the data set and the evaluation."""

    thing_class_ids: tuple[int, ...]  # train ids of the classes with instances
    label_divisor: int  # panoptic label = class * label_divisor + instance number
    void_label: int  # class of pixels without a class
    center_score_threshold: float = 0.1  # a center's heatmap value is larger than this
    nms_kernel: int = 7  # side of the window of non-maximum suppression, in pixels of the full resolution
    keep_k_centers: int = 400  # at most this many centers; all where not positive
    stuff_area_limit: int = 2048  # stuff classes of at most this many pixels become void; 0 keeps all

    def __post_init__(self) -> None:
        things = tuple(sorted({int(label) for label in self.thing_class_ids}))
        object.__setattr__(self, "thing_class_ids", things)
        if self.label_divisor < 1 or self.nms_kernel < 1:
            raise UsageError(
                "PostprocessOptions: label_divisor and nms_kernel must be at least 1,"
                f" found {self.label_divisor} and {self.nms_kernel}"
            )

    @classmethod
    def from_entry(cls, evaluation: Any, dataset: DatasetInfo) -> PostprocessOptions:
        """Returns the options of a registry entry's `evaluation` on a data set."""
        names = ("center_score_threshold", "nms_kernel", "keep_k_centers", "stuff_area_limit")
        return cls(
            thing_class_ids=tuple(dataset.thing_class_ids),
            label_divisor=dataset.label_divisor,
            void_label=dataset.ignore_label,
            **{name: getattr(evaluation, name) for name in names},
        )

    @cached_property
    def thing_index(self) -> np.ndarray:
        """[256] int64: position of a class among the thing classes, -1 for stuff."""
        index = np.full(MAX_CLASSES, -1, np.int64)
        things = [label for label in self.thing_class_ids if 0 <= label < MAX_CLASSES]
        index[things] = np.arange(len(things))
        return index


@dataclass(frozen=True)
class MaskOptions:
    """What merging the masks of slots needs to know of the data set and the evaluation.

    Thresholds are compared in float32, as in the reference. The names are those of the published
    configurations.
    """

    thing_class_ids: tuple[int, ...]  # train ids of the classes with instances, in the data set's order
    label_divisor: int  # panoptic label = class * label_divisor + mask id, 0 for stuff
    void_label: int  # class of pixels without a class
    thing_area_limit: int = 0  # things of fewer pixels become void
    stuff_area_limit: int = 0  # stuff classes of fewer pixels become void
    transformer_post_processing: Literal["maskwise", "pixelwise"] = "maskwise"
    pixel_confidence_threshold: float = 0.4  # a pixel of a mask has a larger probability
    # The lowest class confidence of a slot that counts, pixel-wise, and mask-wise for things and stuff.
    transformer_class_confidence_threshold: float | None = None
    transformer_class_confidence_threshold_thing: float | None = None
    transformer_class_confidence_threshold_stuff: float | None = None
    overlapping_threshold: float = 0.0  # a mask is kept where a larger share of it is still free
    reorder_class_weight: float = 1.0  # exponent of the class confidence in the order of pasting
    reorder_mask_weight: float = 1.0  # exponent of the mask score

    @classmethod
    def from_entry(cls, evaluation: Any, dataset: DatasetInfo) -> MaskOptions:
        """Returns the options of a registry entry's `evaluation` on a data set."""
        of_masks = evaluation.maskwise_postprocessing
        return cls(
            thing_class_ids=tuple(dataset.thing_class_ids),
            label_divisor=dataset.label_divisor,
            void_label=dataset.ignore_label,
            **{name: getattr(evaluation, name) for name in _OF_EVALUATION},
            **({} if of_masks is None else of_masks.model_dump()),
        )

    def class_ids(self, num_classes: int) -> np.ndarray:
        """Returns the train id of each of a network's classes, void left out: things first, then stuff."""
        every = range(num_classes if self.void_label >= num_classes else num_classes + 1)
        stuff = [label for label in every if label != self.void_label and label not in self.thing_class_ids]
        return np.array([*self.thing_class_ids, *stuff])


_OF_EVALUATION = (
    *("thing_area_limit", "stuff_area_limit", "transformer_post_processing", "pixel_confidence_threshold"),
    "transformer_class_confidence_threshold",
)
