"""Post-processing on the CPU: from a network's maps to a panoptic map and scored instances.

The result equals DeepLab2's pixel for pixel, instance numbers included. `postprocess` is fused with the
up-sampling and never holds the up-sampled logits; `postprocess_full_resolution` takes averaged maps of
several scales. `zoo.model.postprocess.graph` has the same in graph operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.model.postprocess import kernels
from zoo.model.postprocess.instances import Instances, instances_from_sums
from zoo.model.postprocess.probabilities import (
    ClassProbabilities,
    FullProbabilities,
    RowScorer,
    SoftmaxOfLogits,
)
from zoo.model.postprocess.steps import (
    MAX_CLASSES,
    NEVER,
    Counts,
    Grouping,
    PostprocessOptions,
    Sampling,
    find_centers,
    float32_view,
    group_pixels,
    hash_map_order,
    merge,
)
from zoo.model.preprocess import NearestSampling

__all__ = [
    "ImagePrediction",
    "Instances",
    "PanopticResult",
    "PostprocessOptions",
    "find_centers",
    "group_pixels",
    "hash_map_order",
    "merge",
    "postprocess",
    "postprocess_batch",
    "postprocess_full_resolution",
]

# Maps of more channels are resized by one 2-D operation in the reference, others by two 1-D ones.
MAX_CHANNELS_HEIGHT_FIRST = 32


@dataclass(frozen=True, eq=False)
class ImagePrediction:
    """What is predicted for an image, at the size of that image.

    Attributes:
      panoptic: [H, W] int32, class * label_divisor + instance number (0 for stuff).
      semantic: [H, W] uint8, class of the largest probability.
      instances: the things in `panoptic` with their scores.
    """

    panoptic: np.ndarray = field(repr=False)
    semantic: np.ndarray = field(repr=False)
    instances: Instances


@dataclass(eq=False)
class PanopticResult:
    """The maps of one image.

    Attributes:
      panoptic: [H, W] int32, class * label_divisor + instance number (0 for stuff).
      semantic: [H, W] uint8, class of the largest probability.
      instance: [H, W] int32, 1 + index of the pixel's center at thing pixels, 0 elsewhere.
      centers: [N, 2] int32, (y, x).
      center_scores: [N] float32, heatmap values.
    """

    panoptic: np.ndarray = field(repr=False)
    semantic: np.ndarray = field(repr=False)
    instance: np.ndarray = field(repr=False)
    centers: np.ndarray
    center_scores: np.ndarray
    options: PostprocessOptions = field(repr=False)
    instance_labels: np.ndarray = field(repr=False)
    num_classes: int = field(repr=False)
    probabilities: ClassProbabilities = field(repr=False)

    @cached_property
    def instance_score_map(self) -> np.ndarray:
        """[H, W] float32: heatmap value of the pixel's center at thing pixels, 0 elsewhere."""
        return self._instance_scores[self.instance]

    def instances(self, valid_size: tuple[int, int] | None = None) -> Instances:
        """Scores the thing segments, as DeepLab2's `combined_instance_scores` does.

        Args:
          valid_size: (height, width) of the image without padding: only this top-left region counts.
        """
        height, width = self._valid(valid_size or self.semantic.shape)
        return self._scored(self.semantic, self.instance, height, self.probabilities.scorer(width))

    def restored(self, valid_size: tuple[int, int], raw_size: tuple[int, int]) -> ImagePrediction:
        """Undoes padding and resizing, and scores the thing segments at the raw image's size.

        Label maps are resized to the nearest pixel, probabilities bilinearly, corners aligned.

        Args:
          valid_size: (height, width) of the resized image, without padding.
          raw_size: (height, width) of the raw image.
        """
        height, width = valid_size = self._valid(valid_size)
        if valid_size == raw_size:
            panoptic, semantic = self.panoptic[:height, :width], self.semantic[:height, :width]
            return ImagePrediction(panoptic, semantic, self.instances(valid_size))
        nearest = NearestSampling.between(valid_size, raw_size)
        semantic = nearest(self.semantic)
        scorer = self.probabilities.resized_scorer(semantic, self.options.thing_index, valid_size)
        instances = self._scored(semantic, nearest(self.instance), raw_size[0], scorer)
        return ImagePrediction(nearest(self.panoptic), semantic, instances)

    def _valid(self, size: tuple[int, ...]) -> tuple[int, int]:
        height, width = self.semantic.shape
        return min(size[0], height), min(size[1], width)

    def _scored(
        self, semantic: np.ndarray, instance: np.ndarray, height: int, add_rows: RowScorer
    ) -> Instances:
        label_class = self.instance_labels // self.options.label_divisor
        is_thing = np.isin(label_class, self.options.thing_class_ids) & (
            label_class != self.options.void_label
        )
        instance_class = np.where(label_class < self.num_classes, label_class, -1)
        shape = (kernels.workers_for(height), len(self.instance_labels))
        area = np.zeros(shape, np.int64)
        first_pixel = np.full(shape, NEVER)
        probability_sum = np.zeros(shape)

        def score(worker: int, start: int, stop: int) -> None:
            add_rows(
                semantic,
                self.options.thing_index,
                instance,
                instance_class,
                area[worker],
                first_pixel[worker],
                probability_sum[worker],
                start,
                stop,
            )

        kernels.for_rows(height, score)
        return instances_from_sums(
            area.sum(axis=0),
            first_pixel.min(axis=0),
            probability_sum.sum(axis=0),
            self.instance_labels,
            self._instance_scores,
            is_thing,
        )

    @property
    def _instance_scores(self) -> np.ndarray:
        return np.concatenate([np.zeros(1, np.float32), self.center_scores])


def postprocess(
    semantic_logits: Any,
    center_heatmap: Any,
    offset_map: Any,
    size: tuple[int, int],
    options: PostprocessOptions,
) -> PanopticResult:
    """Up-samples a network's maps of one image and merges them into a panoptic map.

    Args:
      semantic_logits: [h, w, C] float32, C at most 256. Arrays or TensorFlow tensors; nothing is copied.
      center_heatmap: [h, w, 1] or [h, w] float32.
      offset_map: [h, w, 2] float32, (y, x), in pixels of this resolution.
      size: (H, W) of the result, the size of the network's input.
      options: of the data set and the evaluation.

    Raises:
      UsageError: shapes that do not belong together.
    """
    logits, heatmap, offsets = _checked(semantic_logits, center_heatmap, offset_map)
    source_height, source_width, channels = logits.shape
    height, width = size
    rows, columns = Sampling.of(source_height, height), Sampling.of(source_width, width)
    sources = (max(source_height - 1, 1), max(source_width - 1, 1))
    scale = (np.array(size, np.float32) - np.float32(1)) / np.array(sources, np.float32)
    logit_planes = np.empty((source_height, channels, source_width + 1), np.float32)
    offset_planes = np.empty((source_height, 2, source_width + 1), np.float32)
    ones = np.ones(channels, np.float32)

    def transpose(_worker: int, start: int, stop: int) -> None:
        kernels.planes_rows(logits, ones, logit_planes, start, stop)
        kernels.planes_rows(offsets, scale, offset_planes, start, stop)

    kernels.for_rows(source_height, transpose)
    full_heatmap = np.empty((height, width), np.float32)
    semantic = np.empty((height, width), np.uint8)
    phases = columns.phases(source_width)
    height_first = channels <= MAX_CHANNELS_HEIGHT_FIRST

    def upsample(_worker: int, start: int, stop: int) -> None:
        kernels.upsample_rows(
            *(
                heatmap,
                rows.low,
                rows.high,
                rows.weight,
                columns.low,
                columns.weight,
                full_heatmap,
                start,
                stop,
            )
        )
        kernels.classify_rows(
            *(logit_planes, rows.low, rows.high, rows.weight, *phases, height_first, semantic, start, stop)
        )

    kernels.for_rows(height, upsample)

    centers, center_scores = find_centers(full_heatmap, options)
    grouping = Grouping(offset_planes, rows, columns, centers)
    probabilities = SoftmaxOfLogits(logit_planes, rows, columns, height_first)
    return _merged(semantic, grouping, centers, center_scores, options, channels, probabilities)


def postprocess_batch(
    semantic_logits: Any,
    center_heatmap: Any,
    offset_map: Any,
    size: tuple[int, int],
    options: PostprocessOptions,
) -> list[PanopticResult]:
    """Post-processes maps with a leading batch axis: the results of `postprocess`, one for each image."""
    maps = [float32_view(each) for each in (semantic_logits, center_heatmap, offset_map)]
    if any(each.ndim != 4 or len(each) != len(maps[0]) for each in maps):
        raise UsageError(
            "postprocess_batch: expected [B, h, w, channels] maps of one batch size,"
            f" found {', '.join(str(each.shape) for each in maps)}"
        )
    logits, heatmaps, offsets = maps
    return [
        postprocess(*image, size=size, options=options)
        for image in zip(logits, heatmaps, offsets, strict=True)
    ]


def postprocess_full_resolution(
    semantic_probabilities: Any, center_heatmap: Any, offset_map: Any, options: PostprocessOptions
) -> PanopticResult:
    """Merges maps that are at full resolution already, such as averages over scales.

    Args:
      semantic_probabilities: [H, W, C] float32 softmax probabilities, kept for `instances`.
      center_heatmap: [H, W, 1] or [H, W] float32.
      offset_map: [H, W, 2] float32, (y, x), in pixels.
      options: of the data set and the evaluation.

    Raises:
      UsageError: shapes that do not belong together.
    """
    probabilities, heatmap, offsets = _checked(semantic_probabilities, center_heatmap, offset_map)
    height, width, channels = probabilities.shape
    semantic = np.empty((height, width), np.uint8)
    kernels.for_rows(height, lambda _, *rows: kernels.argmax_rows(probabilities, semantic, *rows))

    centers, center_scores = find_centers(heatmap, options)
    grouping = Grouping.at_full_resolution(offsets, centers)
    source = FullProbabilities(probabilities)
    return _merged(semantic, grouping, centers, center_scores, options, channels, source)


def _merged(
    semantic: np.ndarray,
    grouping: Grouping,
    centers: np.ndarray,
    center_scores: np.ndarray,
    options: PostprocessOptions,
    num_classes: int,
    probabilities: ClassProbabilities,
) -> PanopticResult:
    instance = np.empty(semantic.shape, np.int32)
    counts = Counts(len(semantic), len(centers) + 1, options)

    def group_and_count(worker: int, start: int, stop: int) -> None:
        grouping.group(semantic, options.thing_index, instance, start, stop)
        counts.add(semantic, instance, worker, start, stop)

    kernels.for_rows(len(semantic), group_and_count)
    panoptic, instance_labels = counts.paint(semantic, instance)
    return PanopticResult(
        panoptic,
        semantic,
        instance,
        centers,
        center_scores,
        options,
        instance_labels,
        num_classes,
        probabilities,
    )


def _checked(scores: Any, center_heatmap: Any, offset_map: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    maps: Sequence[np.ndarray] = [float32_view(each) for each in (scores, center_heatmap, offset_map)]
    size = maps[0].shape[:2]
    if (
        maps[0].ndim != 3
        or not 1 <= maps[0].shape[2] <= MAX_CLASSES
        or maps[1].shape not in (size, (*size, 1))
        or maps[2].shape != (*size, 2)
        or 0 in size
    ):
        raise UsageError(
            f"postprocess: expected semantic [h, w, 1 to {MAX_CLASSES}], center [h, w, 1], offset [h, w, 2]"
            f" maps of one image, found {', '.join(str(each.shape) for each in maps)}"
        )
    return maps[0], maps[1].reshape(size), maps[2]
