"""Predictions at the size of the raw image: label maps to the nearest pixel, probabilities bilinear."""

from __future__ import annotations

import numpy as np

from zoo.model.postprocess.instances import row_of_exponentials
from zoo.model.postprocess.kernels import compiled


@compiled
def needed_pixels(
    semantic: np.ndarray,
    thing_index: np.ndarray,
    row_low: np.ndarray,
    row_high: np.ndarray,
    column_low: np.ndarray,
    column_high: np.ndarray,
    needed: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """Marks in `needed` [h, w] bool the source pixels around each thing pixel of `semantic` [H, W]."""
    for y in range(semantic.shape[0]):
        low, high = needed[row_low[y]], needed[row_high[y]]
        for x in range(semantic.shape[1]):
            if thing_index[semantic[y, x]] >= 0:
                left, right = column_low[x], column_high[x]
                low[left] = low[right] = high[left] = high[right] = True


@compiled
def resized_softmax_sums_rows(
    planes: np.ndarray,
    row_low: np.ndarray,
    row_high: np.ndarray,
    row_weight: np.ndarray,
    column_low: np.ndarray,
    column_weight: np.ndarray,
    height_first: bool,
    needed: np.ndarray,
    raw_low: np.ndarray,
    raw_high: np.ndarray,
    raw_weight: np.ndarray,
    raw_left: np.ndarray,
    raw_right: np.ndarray,
    raw_across: np.ndarray,
    semantic: np.ndarray,
    thing_index: np.ndarray,
    instance: np.ndarray,
    instance_class: np.ndarray,
    area: np.ndarray,
    first_pixel: np.ndarray,
    probability_sum: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Adds area and resized softmax probability of `instance_class` over the raw thing pixels.

    Logits in planes [h, C, w + 1] are up-sampled to the network's input size (`row_...`, `column_...`), at
    the pixels that are `needed`; their softmax is resized to the raw image (`raw_...`), as in the reference.
    """
    channels = planes.shape[1]
    source_width = needed.shape[1]
    blended = np.empty(planes.shape[2], np.float32)
    # The two source rows around a raw row; neighbouring raw rows mostly share them.
    exponentials = np.empty((2, channels, source_width), np.float32)
    total = np.empty((2, source_width), np.float32)
    slot = np.zeros((2, source_width), np.int32)
    held = np.full(2, -1, np.int64)
    left = np.empty(source_width, np.int32)
    across = np.empty(source_width, np.float32)
    width = semantic.shape[1]
    for y in range(start, stop):
        has_things = False
        for x in range(width):
            if thing_index[semantic[y, x]] >= 0:
                has_things = True
                break
        if not has_things:
            continue
        for source_y in (raw_low[y], raw_high[y]):
            part = source_y & 1
            if held[part] == source_y:
                continue
            held[part] = source_y
            n = 0
            for x in range(source_width):
                if needed[source_y, x]:
                    slot[part, x] = n
                    left[n] = column_low[x]
                    across[n] = column_weight[x]
                    n += 1
            row_of_exponentials(
                planes[row_low[source_y]],
                planes[row_high[source_y]],
                row_weight[source_y],
                left[:n],
                across[:n],
                height_first,
                blended,
                exponentials[part],
                total[part],
            )
        low, high = raw_low[y] & 1, raw_high[y] & 1
        for x in range(width):
            if thing_index[semantic[y, x]] < 0:
                continue
            index = instance[y, x]
            area[index] += 1
            first_pixel[index] = min(first_pixel[index], y * width + x)
            c = instance_class[index]
            if c < 0:
                continue
            a, b = slot[low, raw_left[x]], slot[low, raw_right[x]]
            above_left = exponentials[low, c, a] / total[low, a]
            above_right = exponentials[low, c, b] / total[low, b]
            a, b = slot[high, raw_left[x]], slot[high, raw_right[x]]
            below_left = exponentials[high, c, a] / total[high, a]
            below_right = exponentials[high, c, b] / total[high, b]
            above = above_left + (above_right - above_left) * raw_across[x]
            below = below_left + (below_right - below_left) * raw_across[x]
            probability_sum[index] += np.float64(above + (below - above) * raw_weight[y])


@compiled
def resized_probability_sums_rows(
    probabilities: np.ndarray,
    raw_low: np.ndarray,
    raw_high: np.ndarray,
    raw_weight: np.ndarray,
    raw_left: np.ndarray,
    raw_right: np.ndarray,
    raw_across: np.ndarray,
    semantic: np.ndarray,
    thing_index: np.ndarray,
    instance: np.ndarray,
    instance_class: np.ndarray,
    area: np.ndarray,
    first_pixel: np.ndarray,
    probability_sum: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Adds the same as `resized_softmax_sums_rows`, from probabilities [h, w, C] of the network's input."""
    width = semantic.shape[1]
    for y in range(start, stop):
        low, high = raw_low[y], raw_high[y]
        for x in range(width):
            if thing_index[semantic[y, x]] < 0:
                continue
            index = instance[y, x]
            area[index] += 1
            first_pixel[index] = min(first_pixel[index], y * width + x)
            c = instance_class[index]
            if c < 0:
                continue
            left, right = raw_left[x], raw_right[x]
            above = probabilities[low, left, c]
            above += (probabilities[low, right, c] - above) * raw_across[x]
            below = probabilities[high, left, c]
            below += (probabilities[high, right, c] - below) * raw_across[x]
            probability_sum[index] += np.float64(above + (below - above) * raw_weight[y])
