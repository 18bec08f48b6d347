"""Turns the colours of a panoptic PNG, segment id = R + 256 G + 65536 B, into labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.files.machine_code import compiled

MOST_STRAYS = 64
"""So many ids that are not known are told apart."""


@compiled
def labels_of_colours(colours, ids, labels, void):  # type: ignore[no-untyped-def]
    """Returns each pixel's label, the area of each of the sorted `ids`, and ids that are not among them.

    Args:
      colours: [H, W, 3] uint8.
      ids: [S] int32, rising; id 0 is void.
      labels: [S] int32, the label of each id.
      void: int32, the label of all other pixels.

    Returns:
      [H, W] int32, [S] int64 pixels, and at most `MOST_STRAYS` int32.
    """
    height, width = colours.shape[:2]
    out = np.empty((height, width), np.int32)
    areas = np.zeros(ids.size, np.int64)
    strays = np.empty(MOST_STRAYS, np.int32)
    count = 0
    found: Any = -1
    for y in range(height):
        row = colours[y]
        start = 0
        # Neighbours are mostly equal: ids are looked up, and areas added, once per run.
        while start < width:
            red, green, blue = row[start, 0], row[start, 1], row[start, 2]
            end = start + 1
            while end < width and row[end, 0] == red and row[end, 1] == green and row[end, 2] == blue:
                end += 1
            segment = np.int32(red) | (np.int32(green) << 8) | (np.int32(blue) << 16)
            label = void
            if segment != 0:
                found = np.searchsorted(ids, segment)
                if found < ids.size and ids[found] == segment:
                    label = labels[found]
                    areas[found] += end - start
                elif count < strays.size and not np.any(strays[:count] == segment):
                    strays[count] = segment
                    count += 1
            out[y, start:end] = label
            start = end
    return out, areas, strays[:count].copy()
