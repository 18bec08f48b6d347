"""The options of post-processing, from the data set and the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.errors import UsageError
from zoo.registry.dataset_info import DatasetInfo
from zoo.registry.schema import EvaluationOptions

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
    def from_entry(cls, evaluation: EvaluationOptions, dataset: DatasetInfo) -> PostprocessOptions:
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
