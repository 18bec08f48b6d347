"""Scores of the predicted instances: how sure the network is of their class and of their center."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.model.postprocess.kernels import compiled

_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts, the first with few bits, so that its multiples are exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440054690581e-4)
_LOWEST_EXPONENT = np.float32(-87.0)
_TAYLOR_2, _TAYLOR_3, _TAYLOR_4, _TAYLOR_5, _TAYLOR_6, _TAYLOR_7 = (
    np.float32(1.0 / n) for n in (2, 6, 24, 120, 720, 5040)
)


@dataclass(frozen=True, eq=False)
class Instances:
    """The thing segments of a panoptic map, in the order in which they first appear, row by row.

    Attributes:
      labels: [M] int32, `class * label_divisor + number`.
      areas: [M] int64, pixels.
      semantic_probability: [M] float32, mean softmax probability of the segment's class over its pixels.
      instance_score: [M] float32, mean center heatmap value over its pixels.
      score: [M] float32, the product: DeepLab2's `combined_instance_scores`.
    """

    labels: np.ndarray
    areas: np.ndarray
    semantic_probability: np.ndarray
    instance_score: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@compiled
def row_of_exponentials(
    low: np.ndarray,
    high: np.ndarray,
    weight: np.float32,
    left: np.ndarray,
    across: np.ndarray,
    height_first: bool,
    blended: np.ndarray,
    exponentials: np.ndarray,
    total: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """Up-samples the logits of one row at some columns, and takes the softmax's parts.

    Args:
      low: [C, w + 1] planes of the source row above; `high` of the one below, `weight` that row's share.
      high: likewise.
      weight: likewise.
      left: [n] source column of each target column; `across` the share of the column right of it.
      across: likewise.
      height_first: whether rows are blended before columns.
      blended: [w + 1], room.
      exponentials: [C, n or more], takes exp(logit - largest logit).
      total: [n or more], takes their sums over classes.
    """
    n = left.size
    channels = low.shape[0]
    largest = np.full(n, -np.inf, np.float32)
    bits = np.empty(n, np.int32)
    powers = bits.view(np.float32)
    for c in range(channels):
        above, below, logit = low[c], high[c], exponentials[c]
        if height_first:
            for j in range(blended.shape[0]):
                blended[j] = above[j] + (below[j] - above[j]) * weight
            for i in range(n):
                j = left[i]
                logit[i] = blended[j] + (blended[j + 1] - blended[j]) * across[i]
        else:
            for i in range(n):
                j = left[i]
                upper = above[j] + (above[j + 1] - above[j]) * across[i]
                lower = below[j] + (below[j + 1] - below[j]) * across[i]
                logit[i] = upper + (lower - upper) * weight
        for i in range(n):
            largest[i] = logit[i] if logit[i] > largest[i] else largest[i]
    total[:n] = np.float32(0.0)
    for c in range(channels):
        logit = exponentials[c]
        # exp(x), x <= 0: 2**k times the series of the rest, which is at most ln(2) / 2.
        for i in range(n):
            exponent = logit[i] - largest[i]
            exponent = exponent if exponent > _LOWEST_EXPONENT else _LOWEST_EXPONENT
            k = np.int32(exponent * _LOG2_E - _HALF)
            rest = (exponent - np.float32(k) * _LN2_HIGH) - np.float32(k) * _LN2_LOW
            series = _TAYLOR_6 + rest * _TAYLOR_7
            series = _TAYLOR_5 + rest * series
            series = _TAYLOR_4 + rest * series
            series = _TAYLOR_3 + rest * series
            series = _TAYLOR_2 + rest * series
            series = _ONE + rest * series
            logit[i] = _ONE + rest * series
            bits[i] = np.int32((k + np.int32(127)) << np.int32(23))
        for i in range(n):
            logit[i] *= powers[i]
            total[i] += logit[i]


@compiled
def softmax_sums_rows(
    planes: np.ndarray,
    row_low: np.ndarray,
    row_high: np.ndarray,
    row_weight: np.ndarray,
    column_low: np.ndarray,
    column_weight: np.ndarray,
    height_first: bool,
    semantic: np.ndarray,
    thing_index: np.ndarray,
    instance: np.ndarray,
    instance_class: np.ndarray,
    valid_width: int,
    area: np.ndarray,
    first_pixel: np.ndarray,
    probability_sum: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Adds area and softmax probability of `instance_class` over the thing pixels of each instance.

    Logits are up-sampled from planes [h, C, w + 1] at thing pixels only. `first_pixel` takes the smallest
    flat position. Everything right of `valid_width` is left out.
    """
    width = semantic.shape[1]
    blended = np.empty(planes.shape[2], np.float32)
    exponentials = np.empty((planes.shape[1], valid_width), np.float32)
    total = np.empty(valid_width, np.float32)
    columns = np.empty(valid_width, np.int32)
    left = np.empty(valid_width, np.int32)
    across = np.empty(valid_width, np.float32)
    for y in range(start, stop):
        n = 0
        for x in range(valid_width):
            if thing_index[semantic[y, x]] >= 0:
                columns[n] = x
                left[n] = column_low[x]
                across[n] = column_weight[x]
                n += 1
        if n == 0:
            continue
        low, high = planes[row_low[y]], planes[row_high[y]]
        row_of_exponentials(
            low, high, row_weight[y], left[:n], across[:n], height_first, blended, exponentials, total
        )
        for i in range(n):
            x = columns[i]
            index = instance[y, x]
            area[index] += 1
            first_pixel[index] = min(first_pixel[index], y * width + x)
            label = instance_class[index]
            if label >= 0:
                probability_sum[index] += np.float64(exponentials[label, i] / total[i])


@compiled
def probability_sums_rows(
    probabilities: np.ndarray,
    semantic: np.ndarray,
    thing_index: np.ndarray,
    instance: np.ndarray,
    instance_class: np.ndarray,
    valid_width: int,
    area: np.ndarray,
    first_pixel: np.ndarray,
    probability_sum: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Adds the same as `softmax_sums_rows`, from probabilities [H, W, C] at full resolution."""
    width = semantic.shape[1]
    for y in range(start, stop):
        for x in range(valid_width):
            if thing_index[semantic[y, x]] >= 0:
                index = instance[y, x]
                area[index] += 1
                first_pixel[index] = min(first_pixel[index], y * width + x)
                label = instance_class[index]
                if label >= 0:
                    probability_sum[index] += np.float64(probabilities[y, x, label])


def instances_from_sums(
    area: np.ndarray,
    first_pixel: np.ndarray,
    probability_sum: np.ndarray,
    instance_labels: np.ndarray,
    instance_scores: np.ndarray,
    is_thing_label: np.ndarray,
) -> Instances:
    """Joins the sums of instances into segments; instances that share a label are one segment.

    Labels are shared only where a class has more instances than the label divisor can number.

    Args:
      area: [N + 1] pixels of each instance; `first_pixel` and `probability_sum` likewise.
      first_pixel: [N + 1].
      probability_sum: [N + 1].
      instance_labels: [N + 1] panoptic labels.
      instance_scores: [N + 1] center heatmap values.
      is_thing_label: [N + 1] bool, whether the label belongs to a thing class.
    """
    present = np.flatnonzero((area > 0) & is_thing_label)
    labels, segment = np.unique(instance_labels[present], return_inverse=True)
    first = np.full(len(labels), np.iinfo(np.int64).max)
    np.minimum.at(first, segment, first_pixel[present])
    areas = np.zeros(len(labels), np.int64)
    np.add.at(areas, segment, area[present])
    probability = np.zeros(len(labels))
    np.add.at(probability, segment, probability_sum[present])
    score = np.zeros(len(labels))
    np.add.at(score, segment, area[present] * instance_scores[present].astype(np.float64))
    order = np.argsort(first, kind="stable")
    semantic_probability = (probability / areas)[order].astype(np.float32)
    instance_score = (score / areas)[order].astype(np.float32)
    return Instances(
        labels=labels[order].astype(np.int32),
        areas=areas[order],
        semantic_probability=semantic_probability,
        instance_score=instance_score,
        score=semantic_probability * instance_score,
    )
