"""The shapes of a label map's segments: areas and bounding boxes, found in one pass; smaller maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.files.machine_code import compiled
from zoo.metrics.overlap import index_labels


@dataclass(frozen=True, eq=False)
class LabelShapes:
    """The distinct labels of a map in order of first appearance, row by row, and where they lie."""

    labels: np.ndarray  # [L] int32
    index: np.ndarray  # [H, W] int32, each pixel's position in `labels`
    areas: np.ndarray  # [L] int64, pixels
    boxes: np.ndarray  # [L, 4] int64: x0, y0, x1, y1; half open


def measure_labels(label_map: np.ndarray) -> LabelShapes:
    """Returns the labels of a [H, W] integer map with their areas and bounding boxes."""
    labels, index = index_labels(label_map.ravel())
    index = index.reshape(label_map.shape)
    return LabelShapes(labels, index, *_areas_and_boxes(index, labels.size))


def shrink_labels(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a label map at a smaller `size` (height, width), without values between two labels."""
    rows, columns = (
        (np.arange(new) * old + old // 2) // new for new, old in zip(size, label_map.shape, strict=True)
    )
    smaller: np.ndarray = label_map[np.ix_(rows, columns)]
    return smaller


@compiled
def _areas_and_boxes(index, count):  # type: ignore[no-untyped-def]
    """Returns [L] areas and [L, 4] boxes; takes each row as runs of one label."""
    height, width = index.shape
    areas = np.zeros(count, np.int64)
    boxes = np.empty((count, 4), np.int64)
    boxes[:, 0], boxes[:, 1], boxes[:, 2:] = width, height, 0
    for y in range(height):
        start = 0
        for x in range(1, width + 1):
            if x < width and index[y, x] == index[y, start]:
                continue
            label = index[y, start]
            areas[label] += x - start
            boxes[label, 0] = min(boxes[label, 0], start)
            boxes[label, 1] = min(boxes[label, 1], y)
            boxes[label, 2] = max(boxes[label, 2], x)
            boxes[label, 3] = y + 1
            start = x
    return areas, boxes
