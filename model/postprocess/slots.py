"""Assigns the pixels of an image to the mask slots of a network.

Mask logits [h, w, slots] are up-sampled and normalised pixel by pixel: nothing of the size of the image times
the slots is ever held. The vector units run along the slots, which lie side by side in memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zoo.files.machine_code import compiled
from zoo.model.postprocess.sampling import Grid
from zoo.model.postprocess.scoring import exponential
from zoo.model.postprocess.threads import for_rows, workers_for

LANES = 32
"""So many partial maxima and sums are kept over the slots, in a fixed order on any machine."""

# The logit of a slot that does not count; the reference's constant.
_NO_LOGIT = np.float32(-99999.0)
_ONE = np.float32(1.0)
_INFINITY = np.float32(np.inf)


class SlotMaps(NamedTuple):
    """The slots of an image's pixels."""

    best: np.ndarray  # [H, W] int16, the slot of the largest logit, the first one of a tie
    owner: np.ndarray  # [H, W] int16, the slot whose mask a pixel is in; ~(the best one that counts) for none
    probability: np.ndarray  # [H, W] float32, the largest among the slots that count


class SlotSums(NamedTuple):
    """Sums over the pixels of each slot's mask; [slots] each, or [workers, slots] where threads add."""

    area: np.ndarray  # int64, pixels, those that it shares with another mask too
    probability: np.ndarray  # float64


class Assigned(NamedTuple):
    """What `assign_pixels` finds; masks may overlap.

    Where two masks share a pixel, its owner is the slot of the larger logit.
    """

    maps: SlotMaps
    sums: SlotSums
    shared: np.ndarray  # [S, 2] int64: flat position and slot, for each mask of each pixel that is in several


def assign_pixels(
    mask_logits: np.ndarray, size: tuple[int, int], threshold: float, counts: np.ndarray | None = None
) -> Assigned:
    """Up-samples mask logits, corners aligned, and finds the pixels that are surely a slot's.

    Args:
      mask_logits: [h, w, slots] float32.
      size: (H, W) of the result.
      threshold: a slot's softmax probability is larger than this at the pixels of its mask.
      counts: [slots] bool, which slots count, for masks that share no pixel: a pixel is in the mask of the
        best of them, if that is the best of all. None for masks of all slots, which may overlap.
    """
    slots = mask_logits.shape[2]
    maps = SlotMaps(np.empty(size, np.int16), np.empty(size, np.int16), np.empty(size, np.float32))
    shape = workers_for(size[0]), slots
    sums = SlotSums(np.zeros(shape, np.int64), np.zeros(shape))
    grid = Grid.of(mask_logits.shape[:2], size)
    counted = np.ones(slots, np.bool_) if counts is None else counts
    rule = np.float32(threshold), counted, counts is None

    def assign(worker: int, start: int, stop: int) -> np.ndarray:
        of_worker = SlotSums(*(each[worker] for each in sums))
        return assign_rows(mask_logits, grid, rule, maps, of_worker, start, stop)

    shared = np.concatenate(for_rows(size[0], assign))
    return Assigned(maps, SlotSums(*(each.sum(axis=0) for each in sums)), shared)


@compiled
def assign_rows(
    logits: np.ndarray,
    grid: Grid,
    rule: tuple[np.float32, np.ndarray, bool],
    maps: SlotMaps,
    sums: SlotSums,
    start: int,
    stop: int,
) -> np.ndarray:  # pragma: no cover - compiled
    """Does the rows `[start, stop)`; returns their part of `Assigned.shared`."""
    threshold, counts, overlap = rule
    rows, columns = grid
    slots, width = logits.shape[2], columns.low.size
    blocks = (slots + LANES - 1) // LANES
    base = np.full((blocks, LANES), -_INFINITY, np.float32)
    step = np.zeros((blocks, LANES), np.float32)
    values = np.empty((blocks, LANES), np.float32)
    upper, way_down, value = base.reshape(-1), step.reshape(-1), values.reshape(-1)
    lanes = np.empty(LANES, np.float32)
    shared = np.empty((64, 2), np.int64)
    used = 0
    top = start
    while top < stop:
        bottom = top + 1
        while bottom < stop and rows.low[bottom] == rows.low[top]:
            bottom += 1
        for x in range(width):
            _blend_across(logits, grid, top, x, upper, way_down)
            for y in range(top, bottom):
                largest = _blend_down(base, step, rows.weight[y], values, lanes)
                best = slot = _next(value, largest, 0)
                best_largest = largest
                if not overlap:
                    for i in range(slots):
                        value[i] = value[i] if counts[i] else _NO_LOGIT
                    largest = value.max()
                    slot = _next(value, largest, 0)
                probability = _ONE / _sum_of_exponentials(values, largest, lanes)
                maps.best[y, x] = best
                maps.probability[y, x] = probability
                if not probability > threshold or largest != best_largest:
                    maps.owner[y, x] = ~slot
                    continue
                maps.owner[y, x] = slot
                sums.area[slot] += 1
                sums.probability[slot] += np.float64(probability)
                # What is left for the others; a little more, because of rounding.
                if not overlap or _ONE - probability < threshold * np.float32(0.9999):
                    continue
                first = used
                bound = largest + np.float32(np.log(threshold / probability)) - np.float32(0.001)
                i = _next(value, bound, 0)
                while i < slots:
                    own = exponential(value[i] - largest) * probability
                    if i != slot and own > threshold:
                        sums.area[i] += 1
                        sums.probability[i] += np.float64(own)
                        if used + 2 > shared.shape[0]:
                            larger = np.empty((2 * shared.shape[0], 2), np.int64)
                            for kept in range(used):
                                larger[kept, 0], larger[kept, 1] = shared[kept, 0], shared[kept, 1]
                            shared = larger
                        shared[used, 0], shared[used, 1] = y * width + x, i
                        used += 1
                    i = _next(value, bound, i + 1)
                if used > first:
                    shared[used, 0], shared[used, 1] = y * width + x, slot
                    used += 1
        top = bottom
    return shared[:used]


@compiled
def _blend_across(
    logits: np.ndarray, grid: Grid, y: int, x: int, upper: np.ndarray, way_down: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Writes the logits at column `x` of the source row above `y` to `upper`, and the way to the next row."""
    low, high, left, right = grid.rows.low[y], grid.rows.high[y], grid.columns.low[x], grid.columns.high[x]
    weight = grid.columns.weight[x]
    for i in range(logits.shape[2]):
        above = logits[low, left, i] + (logits[low, right, i] - logits[low, left, i]) * weight
        below = logits[high, left, i] + (logits[high, right, i] - logits[high, left, i]) * weight
        upper[i] = above
        way_down[i] = below - above


@compiled
def _blend_down(
    base: np.ndarray, step: np.ndarray, weight: np.float32, values: np.ndarray, lanes: np.ndarray
) -> np.float32:  # pragma: no cover - compiled
    """Writes the logits between two rows to `values`, and returns the largest."""
    for lane in range(LANES):
        lanes[lane] = -_INFINITY
    for block in range(base.shape[0]):
        for lane in range(LANES):
            logit = base[block, lane] + step[block, lane] * weight
            values[block, lane] = logit
            lanes[lane] = logit if logit > lanes[lane] else lanes[lane]
    width = LANES // 2
    while width > 0:
        for lane in range(width):
            lanes[lane] = lanes[lane] if lanes[lane] > lanes[lane + width] else lanes[lane + width]
        width //= 2
    return lanes[0]


@compiled
def _next(value: np.ndarray, bound: np.float32, start: int) -> Any:  # pragma: no cover - compiled
    """Returns the first position from `start` on of a value that is not below a bound, else their number."""
    found = np.int32(value.size)
    for i in range(start, value.size):
        found = min(found, np.int32(i) if value[i] >= bound else np.int32(value.size))
    return found


@compiled
def _sum_of_exponentials(
    values: np.ndarray, largest: np.float32, lanes: np.ndarray
) -> np.float32:  # pragma: no cover - compiled
    for lane in range(LANES):
        lanes[lane] = np.float32(0.0)
    for block in range(values.shape[0]):
        for lane in range(LANES):
            lanes[lane] += exponential(values[block, lane] - largest)
    width = LANES // 2
    while width > 0:
        for lane in range(width):
            lanes[lane] += lanes[lane + width]
        width //= 2
    return lanes[0]
