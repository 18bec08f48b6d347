"""Post-processing of centers and offsets on the CPU: from a network's maps to a panoptic map and instances.

The result equals DeepLab2's pixel for pixel, instance numbers included. `postprocess` is fused with the
up-sampling and never holds the up-sampled logits; `postprocess_full_resolution` takes averaged maps of
several scales. `zoo.model.postprocess.center_offset_graph` has the same in graph operations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.model.postprocess.grouping import Centers, Things, find_centers, group_rows
from zoo.model.postprocess.merging import Counts
from zoo.model.postprocess.options import MAX_CLASSES, PostprocessOptions
from zoo.model.postprocess.result import PanopticResult
from zoo.model.postprocess.sampling import Grid
from zoo.model.postprocess.scoring import Scorer, probability_scorer, softmax_scorer
from zoo.model.postprocess.threads import for_rows
from zoo.model.postprocess.upsampling import (
    Upsampled,
    argmax_rows,
    classify_rows,
    float32_view,
    upsample_rows,
)


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
    source = logits.shape[:2]
    grid = Grid.of(source, size)
    sides = np.maximum(np.array(source) - 1, 1).astype(np.float32)
    scaled_offsets = Upsampled.of(offsets, grid, (np.array(size, np.float32) - np.float32(1)) / sides)
    upsampled_logits = Upsampled.of(logits, grid)
    full_heatmap = np.empty(size, np.float32)
    semantic = np.empty(size, np.uint8)
    phases = grid.columns.phases(source[1])

    def upsample(_worker: int, start: int, stop: int) -> None:
        upsample_rows(heatmap, grid, full_heatmap, start, stop)
        classify_rows(upsampled_logits, phases, semantic, start, stop)

    for_rows(size[0], upsample)
    scorer = partial(softmax_scorer, upsampled_logits)
    return _merged(semantic, full_heatmap, scaled_offsets, options, logits.shape[2], scorer)


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
    return [
        postprocess(logits, heatmap, offsets, size, options)
        for logits, heatmap, offsets in zip(*maps, strict=True)
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
    height, width, num_classes = probabilities.shape
    semantic = np.empty((height, width), np.uint8)
    for_rows(height, lambda _, *rows: argmax_rows(probabilities, semantic, *rows))
    unscaled_offsets = Upsampled.of(offsets, Grid.of((height, width), (height, width)))
    scorer = partial(probability_scorer, probabilities)
    return _merged(semantic, heatmap, unscaled_offsets, options, num_classes, scorer)


def _merged(
    semantic: np.ndarray,
    heatmap: np.ndarray,
    offsets: Upsampled,
    options: PostprocessOptions,
    num_classes: int,
    scorer: Scorer,
) -> PanopticResult:
    """Merges classes [H, W] uint8, a heatmap of that size, and offsets that are up-sampled to it."""
    center_positions, center_scores = find_centers(heatmap, options)
    centers = Centers.of(center_positions, offsets.grid.size)
    things = Things(semantic, options.thing_index, np.empty(semantic.shape, np.int32))
    counts = Counts(things, len(center_positions) + 1, options)

    def group_and_count(worker: int, start: int, stop: int) -> None:
        group_rows(offsets, centers, things, start, stop)
        counts.add(worker, start, stop)

    for_rows(len(semantic), group_and_count)
    panoptic, instance_labels = counts.paint()
    return PanopticResult(
        panoptic=panoptic,
        semantic=semantic,
        instance=things.instance,
        centers=center_positions,
        center_scores=center_scores,
        options=options,
        instance_labels=instance_labels,
        num_classes=num_classes,
        scorer=scorer,
    )


def _checked(scores: Any, center_heatmap: Any, offset_map: Any) -> list[np.ndarray]:
    semantic, center, offset = maps = [float32_view(each) for each in (scores, center_heatmap, offset_map)]
    size = semantic.shape[:2]
    if (
        semantic.ndim != 3
        or not 1 <= semantic.shape[2] <= MAX_CLASSES
        or center.shape not in (size, (*size, 1))
        or offset.shape != (*size, 2)
        or 0 in size
    ):
        raise UsageError(
            f"postprocess: expected semantic [h, w, 1 to {MAX_CLASSES}], center [h, w, 1], offset [h, w, 2]"
            f" maps of one image, found {', '.join(str(each.shape) for each in maps)}"
        )
    return [semantic, center.reshape(size), offset]
