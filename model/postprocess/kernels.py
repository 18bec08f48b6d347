"""Pixel loops of post-processing, compiled by Numba.

Every kernel works on the rows `[start, stop)` of one image and releases the interpreter lock, so that a
caller spreads blocks of rows over threads. Float32 arithmetic is done operation by operation, in the order
of the reference, without contraction: results are equal to the bit, and so are the ties.

Up-sampling works on planes: `[h, C, w + 1]`, classes before columns, the last column repeated. The columns of
the target that fall between the same two source columns are numbered by phase; for one phase the
interpolation runs over consecutive source columns, which is what vector units want.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from zoo.files.machine_code import compiled

# float32(exp(-gap)) is 1 up to this gap: the softmax of two such logits is equal, and the smaller class wins.
SOFTMAX_TIE_GAP = np.float32(2.0**-25)
CELL_PX = 32
CELL_MARGIN = 4
ROWS_PER_BLOCK = 32

_INFINITY = np.float32(np.inf)
_NO_CELL = np.int64(-1)

_pools: dict[int, ThreadPoolExecutor] = {}


def _threads() -> int:
    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def workers_for(height: int) -> int:
    """Number of threads that share the rows of one image: `NUMBA_NUM_THREADS`, or fewer for few rows."""
    return max(1, min(_threads(), -(-height // ROWS_PER_BLOCK)))


def for_rows(height: int, task: Callable[[int, int, int], Any]) -> list[Any]:
    """Calls `task(worker, start, stop)` for each block of rows, on several threads.

    Threads take the next block when they are free, so that neither busy cores nor busy rows hold the others
    up. A worker runs one task at a time: what `task` keeps per worker needs no lock.

    Returns:
      What the tasks returned, from the top block down.
    """
    workers = workers_for(height)
    starts = iter(range(0, height, ROWS_PER_BLOCK))

    def work(worker: int) -> list[tuple[int, Any]]:
        return [(start, task(worker, start, min(start + ROWS_PER_BLOCK, height))) for start in starts]

    # Threads do not survive a fork: each process has its own pool.
    pool = _pools.get(os.getpid())
    if pool is None and workers > 1:
        pool = _pools.setdefault(os.getpid(), ThreadPoolExecutor(_threads(), "postprocess"))
    others = [pool.submit(work, worker) for worker in range(1, workers)] if pool is not None else []
    done = work(0)
    for other in others:
        done.extend(other.result())
    return [result for _, result in sorted(done, key=lambda block: block[0])]


@compiled
def planes_rows(
    source: np.ndarray, factors: np.ndarray, planes: np.ndarray, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Transposes `source` [h, w, C] times `factors` [C] into `planes` [h, C, w + 1]."""
    _, width, channels = source.shape
    for y in range(start, stop):
        for c in range(channels):
            factor = factors[c]
            target = planes[y, c]
            for x in range(width):
                target[x] = source[y, x, c] * factor
            target[width] = target[width - 1]


@compiled
def upsample_rows(
    source: np.ndarray,
    row_low: np.ndarray,
    row_high: np.ndarray,
    row_weight: np.ndarray,
    column_low: np.ndarray,
    column_weight: np.ndarray,
    target: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Bilinear up-sampling of `source` [h, w] to `target` [H, W], height first."""
    width = source.shape[1]
    blended = np.empty(width + 1, np.float32)
    for y in range(start, stop):
        low = source[row_low[y]]
        high = source[row_high[y]]
        weight = row_weight[y]
        for x in range(width):
            blended[x] = low[x] + (high[x] - low[x]) * weight
        blended[width] = blended[width - 1]
        row = target[y]
        for x in range(row.shape[0]):
            j = column_low[x]
            row[x] = blended[j] + (blended[j + 1] - blended[j]) * column_weight[x]


@compiled
def local_maxima_rows(
    heatmap: np.ndarray, threshold: np.float32, kernel: int, found: np.ndarray, start: int, stop: int
) -> int:  # pragma: no cover - compiled
    """Writes the flat positions of the local maxima above `threshold` into `found`; returns their number.

    A pixel is kept when nothing in its window is larger, so a plateau is kept whole.
    """
    height, width = heatmap.shape
    before = (kernel - 1) // 2
    after = kernel - 1 - before
    n = 0
    for y in range(start, stop):
        top = max(0, y - before)
        bottom = min(height, y + after + 1)
        row = heatmap[y]
        for x in range(width):
            value = row[x]
            if not (value > threshold):
                continue
            # Most pixels lie on a slope: their neighbours settle it.
            if (before > 0 and x > 0 and row[x - 1] > value) or (
                after > 0 and x + 1 < width and row[x + 1] > value
            ):
                continue
            left = max(0, x - before)
            right = min(width, x + after + 1)
            largest = True
            for v in range(top, bottom):
                for u in range(left, right):
                    if heatmap[v, u] > value:
                        largest = False
                        break
                if not largest:
                    break
            if largest:
                found[n] = y * width + x
                n += 1
    return n


@compiled
def candidate_cells(
    centers: np.ndarray, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    """For each cell of `CELL_PX` pixels, the centers that can be nearest to a point in it, in their order.

    A center is left out only where another is nearer to the whole cell by more than float32 rounding, so the
    search among the candidates gives the same index as the search among all, ties included.

    Args:
      centers: [N, 2] float32, (y, x).
      rows: cells down, the margin of `CELL_MARGIN` cells on both sides included.
      columns: cells across, likewise.

    Returns:
      `first` [rows * columns + 1] and `items`: cell i has the centers `items[first[i]:first[i + 1]]`.
    """
    n = centers.shape[0]
    first = np.empty(rows * columns + 1, np.int64)
    items = np.empty(max(4 * rows * columns, n), np.int32)
    nearest = np.empty(n, np.float64)
    used = 0
    half = CELL_PX / 2.0
    for i in range(rows):
        middle_y = (i - CELL_MARGIN) * CELL_PX + half
        for j in range(columns):
            middle_x = (j - CELL_MARGIN) * CELL_PX + half
            bound = np.inf
            for k in range(n):
                dy = abs(centers[k, 0] - middle_y)
                dx = abs(centers[k, 1] - middle_x)
                far = (dy + half) * (dy + half) + (dx + half) * (dx + half)
                bound = min(bound, far)
                near_y = max(dy - half, 0.0)
                near_x = max(dx - half, 0.0)
                nearest[k] = near_y * near_y + near_x * near_x
            bound *= 1.0001
            first[i * columns + j] = used
            if used + n > items.shape[0]:
                larger = np.empty(2 * items.shape[0] + n, np.int32)
                larger[:used] = items[:used]
                items = larger
            for k in range(n):
                if nearest[k] <= bound:
                    items[used] = k
                    used += 1
    first[rows * columns] = used
    return first, items[:used]


@compiled
def classify_rows(
    planes: np.ndarray,
    row_low: np.ndarray,
    row_high: np.ndarray,
    row_weight: np.ndarray,
    phase_weight: np.ndarray,
    column_first: np.ndarray,
    column_count: np.ndarray,
    height_first: bool,
    semantic: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Up-samples logits and writes the class with the largest softmax probability, the smaller one of a tie.

    Args:
      planes: [h, C, w + 1] float32 logits.
      row_low: [H] upper source row of each target row; `row_high` the lower one, `row_weight` its weight.
      row_high: [H].
      row_weight: [H] float32.
      phase_weight: [phases, w] float32 weight of the right source column.
      column_first: [w] first target column of each source column; `column_count` how many it has.
      column_count: [w].
      height_first: interpolate down, then across; else across, then down.
      semantic: [H, W] uint8, written.
      start: first row.
      stop: row after the last.
    """
    channels = planes.shape[1]
    phases, width = phase_weight.shape
    blended = np.empty((channels, width + 1), np.float32)
    logits = np.empty((channels, width), np.float32)
    largest = np.empty(width, np.float32)
    label = np.empty(width, np.int32)
    for y in range(start, stop):
        weight = row_weight[y]
        if height_first:
            for c in range(channels):
                low = planes[row_low[y], c]
                high = planes[row_high[y], c]
                target = blended[c]
                for x in range(width + 1):
                    target[x] = low[x] + (high[x] - low[x]) * weight
        for phase in range(phases):
            across = phase_weight[phase]
            largest[:] = -_INFINITY
            label[:] = 0
            for c in range(channels):
                logit = logits[c]
                if height_first:
                    low = blended[c]
                    for x in range(width):
                        value = low[x] + (low[x + 1] - low[x]) * across[x]
                        logit[x] = value
                        largest[x] = value if value > largest[x] else largest[x]
                else:
                    low = planes[row_low[y], c]
                    high = planes[row_high[y], c]
                    for x in range(width):
                        above = low[x] + (low[x + 1] - low[x]) * across[x]
                        below = high[x] + (high[x + 1] - high[x]) * across[x]
                        value = above + (below - above) * weight
                        logit[x] = value
                        largest[x] = value if value > largest[x] else largest[x]
            for c in range(channels - 1, -1, -1):
                logit = logits[c]
                for x in range(width):
                    label[x] = c if largest[x] - logit[x] <= SOFTMAX_TIE_GAP else label[x]
            row = semantic[y]
            for x in range(width):
                if phase < column_count[x]:
                    row[column_first[x] + phase] = label[x]


@compiled
def argmax_rows(
    scores: np.ndarray, semantic: np.ndarray, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Writes the class of the largest score of [H, W, C], the smaller class of a tie."""
    _, width, channels = scores.shape
    for y in range(start, stop):
        for x in range(width):
            pixel = scores[y, x]
            best = pixel[0]
            label = 0
            for c in range(1, channels):
                if pixel[c] > best:
                    best = pixel[c]
                    label = c
            semantic[y, x] = label


@compiled
def group_rows(
    semantic: np.ndarray,
    thing_index: np.ndarray,
    offsets: np.ndarray,
    row_low: np.ndarray,
    row_high: np.ndarray,
    row_weight: np.ndarray,
    column_low: np.ndarray,
    column_weight: np.ndarray,
    centers: np.ndarray,
    cell_first: np.ndarray,
    cell_items: np.ndarray,
    cell_columns: int,
    instance: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Writes 1 + the index of the nearest center at thing pixels, 0 elsewhere and where there is no center.

    Offsets are up-sampled from planes [h, 2, w + 1]. Distances are float32 square roots, because these tie
    where their squares do not; of a tie the first center is taken.
    """
    n = centers.shape[0]
    width = semantic.shape[1]
    cell_rows = (cell_first.shape[0] - 1) // cell_columns
    blended = np.empty((2, offsets.shape[2]), np.float32)
    per_cell = np.float32(1.0 / CELL_PX)
    for y in range(start, stop):
        row = instance[y]
        row_y = np.float32(y)
        ready = False
        for x in range(width):
            if n == 0 or thing_index[semantic[y, x]] < 0:
                row[x] = 0
                continue
            if not ready:
                ready = True
                for axis in range(2):
                    low = offsets[row_low[y], axis]
                    high = offsets[row_high[y], axis]
                    target = blended[axis]
                    for j in range(target.shape[0]):
                        target[j] = low[j] + (high[j] - low[j]) * row_weight[y]
            j = column_low[x]
            across = column_weight[x]
            point_y = row_y + (blended[0, j] + (blended[0, j + 1] - blended[0, j]) * across)
            point_x = np.float32(x) + (blended[1, j] + (blended[1, j + 1] - blended[1, j]) * across)
            i = np.floor(point_y * per_cell) + np.float32(CELL_MARGIN)
            k = np.floor(point_x * per_cell) + np.float32(CELL_MARGIN)
            cell = _NO_CELL
            if i >= 0 and k >= 0 and i < cell_rows and k < cell_columns:
                cell = np.int64(i) * cell_columns + np.int64(k)
            begin = cell_first[cell] if cell >= 0 else 0
            end = cell_first[cell + 1] if cell >= 0 else n
            best = np.int64(0)
            best_square = _INFINITY
            best_root = _INFINITY
            for item in range(begin, end):
                index = np.int64(cell_items[item] if cell >= 0 else item)
                if item == begin:
                    best = index
                dy = centers[index, 0] - point_y
                dx = centers[index, 1] - point_x
                square = dy * dy + dx * dx
                if square < best_square:
                    root = np.sqrt(square)
                    if root < best_root:
                        best = index
                        best_root = root
                        best_square = square
            row[x] = best + 1


@compiled
def count_rows(
    semantic: np.ndarray,
    instance: np.ndarray,
    thing_index: np.ndarray,
    area: np.ndarray,
    histogram: np.ndarray,
    first_pixel: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Adds pixels per class to `area` [256], thing pixels per instance and class to `histogram` [N, things].

    `first_pixel` [N] takes the smallest flat position of each instance among thing pixels.
    """
    width = semantic.shape[1]
    for y in range(start, stop):
        for x in range(width):
            label = semantic[y, x]
            area[label] += 1
            thing = thing_index[label]
            if thing >= 0:
                index = instance[y, x]
                histogram[index, thing] += 1
                first_pixel[index] = min(first_pixel[index], y * width + x)


@compiled
def paint_rows(
    semantic: np.ndarray,
    instance: np.ndarray,
    thing_index: np.ndarray,
    stuff_labels: np.ndarray,
    instance_labels: np.ndarray,
    panoptic: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Writes the panoptic label of each pixel: by instance at thing pixels, by class elsewhere."""
    for y in range(start, stop):
        for x in range(semantic.shape[1]):
            label = semantic[y, x]
            if thing_index[label] < 0:
                panoptic[y, x] = stuff_labels[label]
            else:
                panoptic[y, x] = instance_labels[instance[y, x]]
