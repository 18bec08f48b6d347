"""Overlaps of two label maps, counted in one pass over the pixels.

Both panoptic quality and mask AP follow from these counts: the segments of one label map are disjoint, so
areas and pairwise intersections give every intersection over union without a mask being cut out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.files.machine_code import compiled


@dataclass(frozen=True, eq=False)
class LabelOverlaps:
    """Areas and intersections of the segments of two label maps over the same pixels; areas in pixels.

    Segments are in the order in which their first pixel appears, row by row from the top left; so are the
    intersections. Only pairs that share a pixel are listed, so no area is 0.
    """

    gt_labels: np.ndarray  # [G] int32
    gt_areas: np.ndarray  # [G] int64
    pred_labels: np.ndarray  # [P] int32
    pred_areas: np.ndarray  # [P] int64
    gt_index: np.ndarray  # [N] int32, position in `gt_labels` of each intersection
    pred_index: np.ndarray  # [N] int32, position in `pred_labels`
    area: np.ndarray  # [N] int64, of each intersection


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""A table of pairs of labels: its keys and values, and of each pair both labels and the number of pixels."""


@compiled
def _find_or_add(keys: np.ndarray, values: np.ndarray, key: np.int64, new_value: int) -> int:
    """Returns the value at `key` of an open-addressing table; adds `new_value` where there is none."""
    mask = keys.size - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mixed >> np.uint64(40)) & mask
    while values[slot] >= 0:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + 1) & mask
    keys[slot] = key
    values[slot] = new_value
    return new_value


@compiled
def _twice_as_large(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a table of twice the slots with the same entries."""
    more_keys = np.zeros(2 * keys.size, np.int64)
    more_values = np.full(2 * values.size, -1, np.int64)
    for slot in range(keys.size):
        if values[slot] >= 0:
            _find_or_add(more_keys, more_values, keys[slot], values[slot])
    return more_keys, more_values


@compiled
def index_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct labels in order of first appearance, and each given label's position among them.

    All three are int32: `labels` [N], the distinct labels [L], the positions [N].
    """
    keys, values = np.zeros(256, np.int64), np.full(256, -1, np.int64)
    distinct = np.empty(labels.size, np.int32)
    index = np.empty(labels.size, np.int32)
    count = 0
    for i in range(labels.size):
        if i > 0 and labels[i] == labels[i - 1]:
            index[i] = index[i - 1]
            continue
        position = _find_or_add(keys, values, np.int64(labels[i]), count)
        if position == count:
            distinct[count] = labels[i]
            count += 1
            if 2 * count > keys.size:
                keys, values = _twice_as_large(keys, values)
        index[i] = position
    return distinct[:count].copy(), index


@compiled
def count_row(gt_row: np.ndarray, pred_row: np.ndarray, pairs: Pairs, count: int) -> int:
    """Adds one row of pixels to the first `count` pairs of labels and returns the new number of pairs."""
    keys, values, gt_labels, pred_labels, areas = pairs
    width = gt_row.size
    start = 0
    for end in range(1, width + 1):
        # Neighbours are mostly equal: the table is asked once per run, not once per pixel.
        if end < width and gt_row[end] == gt_row[end - 1] and pred_row[end] == pred_row[end - 1]:
            continue
        key = (np.int64(gt_row[start]) << 32) | (np.int64(pred_row[start]) & 0xFFFFFFFF)
        pair = _find_or_add(keys, values, key, count)
        if pair == count:
            gt_labels[pair], pred_labels[pair], areas[pair] = gt_row[start], pred_row[start], 0
            count += 1
        areas[pair] += end - start
        start = end
    return count


@compiled
def no_pairs() -> Pairs:
    """Returns an empty table."""
    keys, values = np.zeros(1024, np.int64), np.full(1024, -1, np.int64)
    return keys, values, np.empty(512, np.int32), np.empty(512, np.int32), np.empty(512, np.int64)


@compiled
def with_room(pairs: Pairs, size: int) -> Pairs:
    """Returns the table with room for `size` pairs."""
    keys, values, gt_labels, pred_labels, areas = pairs
    while size > areas.size:
        keys, values = _twice_as_large(keys, values)
        gt_labels = np.concatenate((gt_labels, np.empty_like(gt_labels)))
        pred_labels = np.concatenate((pred_labels, np.empty_like(pred_labels)))
        areas = np.concatenate((areas, np.empty_like(areas)))
    return keys, values, gt_labels, pred_labels, areas


@compiled
def _count_pairs(
    ground_truth: np.ndarray, prediction: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns both labels and the pixel count of each pair of labels, in order of first appearance."""
    height, width = ground_truth.shape
    pairs, count = no_pairs(), 0
    for row in range(height if width else 0):
        # Room for a row of pairs never seen before: within a row nothing is allocated.
        pairs = with_room(pairs, count + width)
        count = count_row(ground_truth[row], prediction[row], pairs, count)
    return pairs[2][:count].copy(), pairs[3][:count].copy(), pairs[4][:count].copy()


@compiled
def _merge_pairs(
    gt_labels: np.ndarray, pred_labels: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adds up the areas of equal pairs of labels, in order of first appearance."""
    pairs, count = with_room(no_pairs(), areas.size), 0
    for i in range(areas.size):
        key = (np.int64(gt_labels[i]) << 32) | (np.int64(pred_labels[i]) & 0xFFFFFFFF)
        pair = _find_or_add(pairs[0], pairs[1], key, count)
        if pair == count:
            pairs[2][pair], pairs[3][pair], pairs[4][pair] = gt_labels[i], pred_labels[i], 0
            count += 1
        pairs[4][pair] += areas[i]
    return pairs[2][:count].copy(), pairs[3][:count].copy(), pairs[4][:count].copy()


@compiled
def _total_areas(index: np.ndarray, areas: np.ndarray, num_labels: int) -> np.ndarray:
    totals = np.zeros(num_labels, np.int64)
    for pair in range(index.size):
        totals[index[pair]] += areas[pair]
    return totals


def check_maps(kind: str, dtype: Any, **maps: np.ndarray) -> None:
    """Raises ValueError where maps are not 2-D, not of the dtype or one of its kind, or differ in shape."""
    for name, found in maps.items():
        if found.ndim != 2 or not (np.issubdtype(found.dtype, dtype) and found.dtype.isnative):
            expected = f"a 2-D {dtype.__name__} {kind} map"
            raise ValueError(f"{name}: expected {expected}, found {found.ndim}-D {found.dtype}")
    if len({found.shape for found in maps.values()}) > 1:
        shapes = ", ".join(f"{name} is {found.shape}" for name, found in maps.items())
        raise ValueError(f"{kind} maps of different shapes: {shapes}; crop both to the image")


def label_overlaps(ground_truth: np.ndarray, prediction: np.ndarray) -> LabelOverlaps:
    """Counts the pixels of every label and of every pair of labels of two maps.

    Args:
        ground_truth: [H, W] int32, any labels; views that are not contiguous are read as they are.
        prediction: [H, W] int32, likewise.

    Raises:
        ValueError: a map is not 2-D int32, or the two shapes differ.

    >>> import numpy as np
    >>> overlaps = label_overlaps(np.array([[7, 7, 8]], np.int32), np.array([[7, 9, 9]], np.int32))
    >>> overlaps.gt_labels.tolist(), overlaps.gt_areas.tolist()
    ([7, 8], [2, 1])
    >>> list(zip(overlaps.gt_index.tolist(), overlaps.pred_index.tolist(), overlaps.area.tolist()))
    [(0, 0, 1), (0, 1, 1), (1, 1, 1)]
    """
    check_maps("label", np.int32, ground_truth=ground_truth, prediction=prediction)
    return overlaps_of(*_count_pairs(ground_truth, prediction))


def overlaps_of(pair_gt_labels: np.ndarray, pair_pred_labels: np.ndarray, area: np.ndarray) -> LabelOverlaps:
    """Returns the overlaps that pairs of labels stand for, each pair given once, [N] each."""
    gt_labels, gt_index = index_labels(pair_gt_labels)
    pred_labels, pred_index = index_labels(pair_pred_labels)
    return LabelOverlaps(
        gt_labels=gt_labels,
        gt_areas=_total_areas(gt_index, area, gt_labels.size),
        pred_labels=pred_labels,
        pred_areas=_total_areas(pred_index, area, pred_labels.size),
        gt_index=gt_index,
        pred_index=pred_index,
        area=area,
    )


def relabelled(found: LabelOverlaps, labels: np.ndarray) -> LabelOverlaps:
    """Returns the overlaps of the ground truth `labels[ground_truth]`, as `label_overlaps` would count them.

    `labels` [L] int32 may give several labels of the ground truth the same one; -1 finds the last.
    """
    gt_labels = labels[found.gt_labels]
    return overlaps_of(
        *_merge_pairs(gt_labels[found.gt_index], found.pred_labels[found.pred_index], found.area)
    )
