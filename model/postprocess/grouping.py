"""Finds instance centers, and assigns each thing pixel to the center nearest to where its offset points.

Both steps equal DeepLab2's `model/post_processor/panoptic_deeplab.py`.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import numpy as np

from zoo.files.machine_code import compiled
from zoo.model.postprocess.options import PostprocessOptions
from zoo.model.postprocess.sampling import Grid
from zoo.model.postprocess.threads import for_rows
from zoo.model.postprocess.upsampling import Upsampled, blend_down, float32_view

CELL_PX = 32
CELL_MARGIN = 4

_INFINITY = np.float32(np.inf)
_NO_CELL = np.int64(-1)


class Things(NamedTuple):
    """The thing pixels of an image, and the instance of each."""

    semantic: np.ndarray  # [H, W] uint8 classes
    thing_index: np.ndarray  # [256] int64, position of a class among the thing classes, -1 for stuff
    instance: np.ndarray  # [H, W] int32, 1 + index of a thing pixel's center, 0 where there is no center


class Centers(NamedTuple):
    """Instance centers, and for each cell of `CELL_PX` pixels those that can be nearest to a point in it."""

    positions: np.ndarray  # [N, 2] float32, (y, x)
    first: np.ndarray  # [cells + 1] int64: cell i has the centers `items[first[i]:first[i + 1]]`
    items: np.ndarray  # int32 indices of centers
    cell_columns: int  # number of cells across

    @classmethod
    def of(cls, centers: np.ndarray, size: tuple[int, int]) -> Centers:
        """Prepares centers [N, 2], (y, x), for a map of `size` (height, width)."""
        positions = np.ascontiguousarray(centers, np.float32)
        rows, columns = (-(-side // CELL_PX) + 2 * CELL_MARGIN for side in size)
        first, items = candidate_cells(positions, rows, columns)
        return cls(positions, first, items, columns)


def find_centers(center_heatmap: Any, options: PostprocessOptions) -> tuple[np.ndarray, np.ndarray]:
    """Finds instance centers: local maxima above the threshold of a heatmap [H, W] or [H, W, 1] float32.

    Returns:
      centers [N, 2] int32, (y, x), row by row, and their heatmap values [N] float32.
    """
    heatmap = float32_view(center_heatmap).reshape(np.shape(center_heatmap)[:2])
    height, width = heatmap.shape
    # Suppressed pixels are 0 in the reference, so that only positive values are centers.
    threshold = np.float32(max(np.float32(options.center_score_threshold), np.float32(0.0)))

    def search(_worker: int, start: int, stop: int) -> np.ndarray:
        found = np.empty((stop - start) * width, np.int64)
        return found[: local_maxima_rows(heatmap, threshold, options.nms_kernel, found, start, stop)]

    flat = np.concatenate(for_rows(height, search))
    scores = heatmap.ravel()[flat]
    if 0 < options.keep_k_centers < len(flat):
        kept = scores > _last_of_top_k(flat, scores, options.keep_k_centers)
        flat, scores = flat[kept], scores[kept]
    centers = np.stack(np.divmod(flat, width), axis=-1).astype(np.int32)
    return centers, scores


def _last_of_top_k(flat: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Returns the last value of TensorFlow's unsorted top-k of a map with scores at flat positions, else 0.

    The reference takes it for the smallest, which it is not: it is where TensorFlow's CPU kernel, a heap of
    `std::make_heap`, `pop_heap` and `push_heap`, has put a value last. `heapq` makes the same exchanges. Of
    equal values the first in the map is larger.
    """
    first = np.searchsorted(flat, k + 1)
    start = np.zeros(k + 1, np.float32)
    start[flat[:first]] = scores[:first]
    heap = [(value, -position) for position, value in enumerate(start.tolist())]
    heapq.heapify(heap)
    heapq.heappop(heap)
    # Zeros that come later are never larger than what is held.
    for position, value in zip(flat[first:].tolist(), scores[first:].tolist(), strict=True):
        if (value, -position) > heap[0]:
            heapq.heappop(heap)
            heapq.heappush(heap, (value, -position))
    return heap[-1][0]


def group_pixels(
    semantic: np.ndarray, offset_map: Any, centers: np.ndarray, options: PostprocessOptions
) -> np.ndarray:
    """Assigns each thing pixel to the center nearest to where its offset points.

    Args:
      semantic: [H, W] classes, 0 to 255.
      offset_map: [H, W, 2] float32, (y, x).
      centers: [N, 2] int, (y, x).
      options: thing classes.

    Returns:
      [H, W] int32: 1 + index of the center; 0 at stuff pixels, and everywhere where there is no center.
    """
    semantic = np.ascontiguousarray(semantic, np.uint8)
    things = Things(semantic, options.thing_index, np.empty(semantic.shape, np.int32))
    offsets = Upsampled.of(float32_view(offset_map), Grid.of(semantic.shape, semantic.shape))
    found = Centers.of(centers, offsets.grid.size)
    for_rows(len(semantic), lambda _, *rows: group_rows(offsets, found, things, *rows))
    return things.instance


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
    """Returns for each cell the centers that can be nearest to a point in it, in their order.

    A center is left out only where another is nearer to the whole cell by more than float32 rounding, so the
    search among the candidates gives the same index as the search among all, ties included. `rows` and
    `columns` of cells include a margin of `CELL_MARGIN` cells on both sides.

    Returns:
      `first` and `items` of `Centers`.
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
                for item in range(used):
                    larger[item] = items[item]
                items = larger
            for k in range(n):
                if nearest[k] <= bound:
                    items[used] = k
                    used += 1
    first[rows * columns] = used
    return first, items[:used]


@compiled
def group_rows(
    offsets: Upsampled, centers: Centers, things: Things, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Writes 1 + the index of the nearest center at thing pixels, 0 elsewhere and where there is no center.

    Distances are float32 square roots, because these tie where their squares do not; of a tie the first
    center is taken.
    """
    planes, rows = offsets.planes, offsets.grid.rows
    column_low, column_weight = offsets.grid.columns.low, offsets.grid.columns.weight
    positions, first, items, cell_columns = centers
    semantic, thing_index, instance = things
    cell_rows = (first.shape[0] - 1) // cell_columns
    blended = np.empty((2, planes.shape[2]), np.float32)
    per_cell = np.float32(1.0 / CELL_PX)
    for y in range(start, stop):
        row = instance[y]
        ready = False
        for x in range(semantic.shape[1]):
            if positions.shape[0] == 0 or thing_index[semantic[y, x]] < 0:
                row[x] = 0
                continue
            if not ready:
                ready = True
                for axis in range(2):
                    low, high = planes[rows.low[y], axis], planes[rows.high[y], axis]
                    blend_down(low, high, rows.weight[y], blended[axis])
            j = column_low[x]
            across = column_weight[x]
            point_y = np.float32(y) + (blended[0, j] + (blended[0, j + 1] - blended[0, j]) * across)
            point_x = np.float32(x) + (blended[1, j] + (blended[1, j + 1] - blended[1, j]) * across)
            i = np.floor(point_y * per_cell) + np.float32(CELL_MARGIN)
            k = np.floor(point_x * per_cell) + np.float32(CELL_MARGIN)
            cell = _NO_CELL
            if i >= 0 and k >= 0 and i < cell_rows and k < cell_columns:
                cell = np.int64(i) * cell_columns + np.int64(k)
            begin = first[cell] if cell >= 0 else 0
            end = first[cell + 1] if cell >= 0 else positions.shape[0]
            best = np.int64(0)
            best_square = best_root = _INFINITY
            for item in range(begin, end):
                index = np.int64(items[item] if cell >= 0 else item)
                if item == begin:
                    best = index
                dy = positions[index, 0] - point_y
                dx = positions[index, 1] - point_x
                square = dy * dy + dx * dx
                if square < best_square:
                    root = np.sqrt(square)
                    if root < best_root:
                        best = index
                        best_root = root
                        best_square = square
            row[x] = best + 1
