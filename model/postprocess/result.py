"""What a network gives for one image, and the result of post-processing it: label maps, scored instances."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from zoo.model.postprocess.grouping import Things
from zoo.model.postprocess.instances import Instances, InstanceSums, instances_from_sums
from zoo.model.postprocess.options import PostprocessOptions
from zoo.model.postprocess.sampling import Grid
from zoo.model.postprocess.scoring import Scorer, Size
from zoo.model.postprocess.threads import for_rows, workers_for

Maps: TypeAlias = dict[str, np.ndarray]
"""What a network gives for one image, by name; see `Network.maps`."""


@dataclass(frozen=True, eq=False)
class ThingMap:
    """Scored things in a map of their own."""

    label_map: np.ndarray = field(repr=False)  # [H, W] int32, class * label_divisor + number; void elsewhere
    labels: np.ndarray  # [K] int32, those of the things
    score: np.ndarray  # [K] float64


@dataclass(frozen=True, eq=False)
class ImagePrediction:
    """The prediction for an image, at the size of that image."""

    panoptic: np.ndarray = field(repr=False)  # [H, W] int32, class * label_divisor + number (0 for stuff)
    semantic: np.ndarray = field(repr=False)  # [H, W] uint8, class of the largest probability
    instances: Instances  # the things in `panoptic` with their scores

    def official_things(self) -> ThingMap | None:
        """Returns what the Cityscapes instance-level script is given; None for the things in `panoptic`."""
        return None


@dataclass(eq=False)
class PanopticResult:
    """The maps of one image; `panoptic` and `semantic` as in `ImagePrediction`."""

    panoptic: np.ndarray = field(repr=False)
    semantic: np.ndarray = field(repr=False)
    instance: np.ndarray = field(repr=False)  # [H, W] int32, 1 + index of a thing pixel's center, 0 elsewhere
    centers: np.ndarray  # [N, 2] int32, (y, x)
    center_scores: np.ndarray  # [N] float32, heatmap values
    options: PostprocessOptions = field(repr=False)
    instance_labels: np.ndarray = field(repr=False)  # [N + 1] int32, panoptic label of each `instance`
    num_classes: int = field(repr=False)  # classes that have a probability
    scorer: Scorer = field(repr=False)

    @cached_property
    def instance_score_map(self) -> np.ndarray:
        """[H, W] float32: heatmap value of the pixel's center at thing pixels, 0 elsewhere."""
        return self._instance_scores[self.instance]

    def instances(self, valid_size: Size | None = None) -> Instances:
        """Scores the thing segments, as DeepLab2's `combined_instance_scores` does.

        Only the top-left region of `valid_size` (height, width) counts: the image without padding.
        """
        size = self._valid(valid_size or self.semantic.shape)
        return self._scored(self.semantic, self.instance, size, size)

    def restored(self, valid_size: Size, raw_size: Size) -> ImagePrediction:
        """Undoes padding and resizing, and scores the thing segments at the raw image's size.

        Label maps are resized to the nearest pixel, probabilities bilinearly, corners aligned: from
        `valid_size`, the (height, width) of the resized image without padding, to `raw_size`.
        """
        height, width = valid_size = self._valid(valid_size)
        if valid_size == raw_size:
            panoptic, semantic = self.panoptic[:height, :width], self.semantic[:height, :width]
            return ImagePrediction(panoptic, semantic, self.instances(valid_size))
        maps = (self.panoptic, self.semantic, self.instance)
        panoptic, semantic, instance = map(Grid.of(valid_size, raw_size).nearest, maps)
        return ImagePrediction(panoptic, semantic, self._scored(semantic, instance, valid_size, raw_size))

    def _valid(self, size: tuple[int, ...]) -> Size:
        height, width = self.semantic.shape
        return min(size[0], height), min(size[1], width)

    def _scored(
        self, semantic: np.ndarray, instance: np.ndarray, valid_size: Size, raw_size: Size
    ) -> Instances:
        options = self.options
        label_class = self.instance_labels // options.label_divisor
        is_thing = np.isin(label_class, options.thing_class_ids) & (label_class != options.void_label)
        height = raw_size[0]
        sums = InstanceSums.zeros(
            np.where(label_class < self.num_classes, label_class, -1), workers_for(height)
        )
        add_rows = self.scorer(Things(semantic, options.thing_index, instance), valid_size, raw_size)
        for_rows(height, lambda worker, *rows: add_rows(sums.of_worker(worker), *rows))
        return instances_from_sums(sums.total(), self.instance_labels, self._instance_scores, is_thing)

    @property
    def _instance_scores(self) -> np.ndarray:
        return np.concatenate([np.zeros(1, np.float32), self.center_scores])
