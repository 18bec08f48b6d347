"""Adds up the softmax probabilities of instances, from the network's logits or from averaged probabilities.

At the size of a raw image, label maps are resized to the nearest pixel and probabilities bilinearly, as in
the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from zoo.files.machine_code import compiled
from zoo.model.postprocess.grouping import Things
from zoo.model.postprocess.instances import InstanceSums
from zoo.model.postprocess.sampling import Grid
from zoo.model.postprocess.upsampling import Upsampled, blend_down

Size = tuple[int, int]

RowScorer = Callable[[InstanceSums, int, int], None]
"""Adds the rows from a first one up to another to the sums of a worker."""

Scorer = Callable[[Things, Size, Size], RowScorer]
"""Makes a `RowScorer` of things cut to a valid size, and resized to a raw size if the two differ."""

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


def softmax_scorer(logits: Upsampled, things: Things, valid_size: Size, raw_size: Size) -> RowScorer:
    """Scores by probabilities that are made from logits at the thing pixels alone."""
    if raw_size == valid_size:
        return lambda sums, *rows: softmax_sums_rows(logits, valid_size[1], things, sums, *rows)
    grid = Grid.of(valid_size, raw_size)
    needed = np.zeros(valid_size, np.bool_)
    needed_pixels(things, grid, needed)
    return lambda sums, *rows: resized_softmax_sums_rows(logits, needed, grid, things, sums, *rows)


def probability_scorer(
    probabilities: np.ndarray, things: Things, valid_size: Size, raw_size: Size
) -> RowScorer:
    """Scores by probabilities [H, W, C] float32 of the network's input size."""
    grid = Grid.of(valid_size, raw_size)
    return lambda sums, *rows: probability_sums_rows(probabilities, grid, things, sums, *rows)


@compiled
def softmax_sums_rows(
    logits: Upsampled, valid_width: int, things: Things, sums: InstanceSums, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Adds the thing pixels left of `valid_width` to the sums of their instances."""
    exponentials = np.empty((logits.planes.shape[1], valid_width), np.float32)
    total = np.empty(valid_width, np.float32)
    columns = np.empty(valid_width, np.int64)
    for y in range(start, stop):
        n = 0
        for x in range(valid_width):
            if things.thing_index[things.semantic[y, x]] >= 0:
                columns[n] = x
                n += 1
        if n == 0:
            continue
        _exponentials(logits, y, columns[:n], exponentials, total)
        for i in range(n):
            index = _add_pixel(things, sums, y, columns[i])
            label = sums.label_class[index]
            if label >= 0:
                sums.probability[index] += np.float64(exponentials[label, i] / total[i])


@compiled
def _add_pixel(things: Things, sums: InstanceSums, y: int, x: int) -> int:  # pragma: no cover - compiled
    index = things.instance[y, x]
    sums.area[index] += 1
    sums.first_pixel[index] = min(sums.first_pixel[index], y * things.semantic.shape[1] + x)
    return index


@compiled
def _exponentials(
    logits: Upsampled, y: int, columns: np.ndarray, exponentials: np.ndarray, total: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Takes the parts of the softmax at columns [n] of row `y`, at the size of the network's input.

    `exponentials` [C, n or more] takes exp(logit - largest logit), `total` [n or more] the sums over classes.
    """
    n = columns.size
    largest = np.full(n, -np.inf, np.float32)
    _upsample_at(logits, y, columns, exponentials, largest)
    total[:n] = np.float32(0.0)
    for c in range(logits.planes.shape[1]):
        logit = exponentials[c]
        for i in range(n):
            logit[i] = exponential(logit[i] - largest[i])
            total[i] += logit[i]


@compiled
def exponential(exponent: np.float32) -> np.float32:  # pragma: no cover - compiled
    """Returns exp(x), x <= 0: 2**k times the series of the rest, which is at most ln(2) / 2."""
    exponent = exponent if exponent > _LOWEST_EXPONENT else _LOWEST_EXPONENT
    k = np.int32(exponent * _LOG2_E - _HALF)
    rest = (exponent - np.float32(k) * _LN2_HIGH) - np.float32(k) * _LN2_LOW
    series = _TAYLOR_6 + rest * _TAYLOR_7
    series = _TAYLOR_5 + rest * series
    series = _TAYLOR_4 + rest * series
    series = _TAYLOR_3 + rest * series
    series = _TAYLOR_2 + rest * series
    series = _ONE + rest * series
    power = np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)
    return (_ONE + rest * series) * power


@compiled
def _upsample_at(
    logits: Upsampled, y: int, columns: np.ndarray, values: np.ndarray, largest: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Writes the logits [C, n] at some columns of row `y`; raises `largest` [n] to the largest of each."""
    rows, weight = logits.grid.rows, logits.grid.rows.weight[y]
    low, high = logits.planes[rows.low[y]], logits.planes[rows.high[y]]
    left, across = logits.grid.columns.low[columns], logits.grid.columns.weight[columns]
    blended = np.empty(low.shape[1], np.float32)
    for c in range(low.shape[0]):
        above, below, value = low[c], high[c], values[c]
        if logits.height_first:
            blend_down(above, below, weight, blended)
            for i in range(left.size):
                j = left[i]
                value[i] = blended[j] + (blended[j + 1] - blended[j]) * across[i]
        else:
            for i in range(left.size):
                j = left[i]
                upper = above[j] + (above[j + 1] - above[j]) * across[i]
                lower = below[j] + (below[j + 1] - below[j]) * across[i]
                value[i] = upper + (lower - upper) * weight
        for i in range(left.size):
            largest[i] = value[i] if value[i] > largest[i] else largest[i]


@compiled
def needed_pixels(things: Things, grid: Grid, needed: np.ndarray) -> None:  # pragma: no cover - compiled
    """Marks in `needed` [h, w] bool the source pixels around each thing pixel."""
    left, right = grid.columns.low, grid.columns.high
    for y in range(things.semantic.shape[0]):
        low, high = needed[grid.rows.low[y]], needed[grid.rows.high[y]]
        for x in range(things.semantic.shape[1]):
            if things.thing_index[things.semantic[y, x]] >= 0:
                low[left[x]] = low[right[x]] = high[left[x]] = high[right[x]] = True


class HeldRows(NamedTuple):
    """The softmax of the two source rows around a raw row; neighbouring raw rows mostly share them.

    A source row is held in the part `y & 1`.
    """

    y: np.ndarray  # [2] int64, the rows that are held, -1 for none
    slot: np.ndarray  # [2, w] int32, position of each needed pixel in the arrays below
    exponentials: np.ndarray  # [2, C, w] float32, as `_exponentials` makes them
    total: np.ndarray  # [2, w] float32, likewise


@compiled
def resized_softmax_sums_rows(
    logits: Upsampled,
    needed: np.ndarray,
    grid: Grid,
    things: Things,
    sums: InstanceSums,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Adds the thing pixels of a raw image to the sums of their instances.

    Logits are up-sampled to the network's input size at the pixels that are `needed`; their softmax is
    resized to the raw image on `grid`.
    """
    channels, width = logits.planes.shape[1], needed.shape[1]
    held = HeldRows(
        np.full(2, -1, np.int64),
        np.zeros((2, width), np.int32),
        np.empty((2, channels, width), np.float32),
        np.empty((2, width), np.float32),
    )
    for y in range(start, stop):
        low, high = grid.rows.low[y], grid.rows.high[y]
        is_held = False
        for x in range(things.semantic.shape[1]):
            if things.thing_index[things.semantic[y, x]] < 0:
                continue
            if not is_held:
                is_held = True
                _hold(held, logits, needed, low)
                _hold(held, logits, needed, high)
            index = _add_pixel(things, sums, y, x)
            label = sums.label_class[index]
            if label < 0:
                continue
            left, right, across = grid.columns.low[x], grid.columns.high[x], grid.columns.weight[x]
            above, below = _probability(held, low, left, label), _probability(held, high, left, label)
            above += (_probability(held, low, right, label) - above) * across
            below += (_probability(held, high, right, label) - below) * across
            sums.probability[index] += np.float64(above + (below - above) * grid.rows.weight[y])


@compiled
def _hold(
    held: HeldRows, logits: Upsampled, needed: np.ndarray, y: int
) -> None:  # pragma: no cover - compiled
    """Holds the softmax of a source row at the pixels that are needed."""
    part = y & 1
    if held.y[part] == y:
        return
    held.y[part] = y
    columns = np.flatnonzero(needed[y])
    for n in range(columns.size):
        held.slot[part, columns[n]] = n
    _exponentials(logits, y, columns, held.exponentials[part], held.total[part])


@compiled
def _probability(held: HeldRows, y: int, x: int, label: int) -> np.float32:  # pragma: no cover - compiled
    part = y & 1
    slot = held.slot[part, x]
    return held.exponentials[part, label, slot] / held.total[part, slot]


@compiled
def probability_sums_rows(
    probabilities: np.ndarray, grid: Grid, things: Things, sums: InstanceSums, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Adds the thing pixels of a raw image to the sums of their instances."""
    columns = grid.columns
    for y in range(start, stop):
        low, high = probabilities[grid.rows.low[y]], probabilities[grid.rows.high[y]]
        for x in range(columns.low.size):
            if things.thing_index[things.semantic[y, x]] < 0:
                continue
            index = _add_pixel(things, sums, y, x)
            label = sums.label_class[index]
            if label < 0:
                continue
            left, right, across = columns.low[x], columns.high[x], columns.weight[x]
            above = low[left, label] + (low[right, label] - low[left, label]) * across
            below = high[left, label] + (high[right, label] - high[left, label]) * across
            sums.probability[index] += np.float64(above + (below - above) * grid.rows.weight[y])
