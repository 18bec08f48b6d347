"""Undoes the filters of a PNG's rows, by which each byte was stored as the difference to a guess."""

from __future__ import annotations

import numpy as np

from zoo.files.machine_code import compiled


@compiled
def unfiltered(stored, height, row_bytes, pixel_bytes):  # type: ignore[no-untyped-def]
    """Returns the bytes of all pixels, [height, row_bytes] uint8; [0, row_bytes] where a filter is unknown.

    Args:
      stored: [height * (1 + row_bytes)] uint8, rows that begin with the number of their filter (PNG, 9.2).
      height, row_bytes: of the image.
      pixel_bytes: 1 to 3.
    """
    pixels = np.empty((height, row_bytes), np.uint8)
    above = np.zeros(row_bytes, np.uint8)
    for y in range(height):
        start = y * (1 + row_bytes) + 1
        kind, given, row = stored[start - 1], stored[start : start + row_bytes], pixels[y]
        # The last three bytes stay in registers: reading them back would take most of the time.
        one = two = three = 0
        if kind == 0:
            # Not `row[:] = given`: the message about shapes that differ takes seconds to compile.
            for i in range(row_bytes):
                row[i] = given[i]
        elif kind == 1:
            for i in range(row_bytes):
                left = three if pixel_bytes == 3 else two if pixel_bytes == 2 else one
                one, two, three = given[i] + left, one, two
                row[i] = one
        elif kind == 2:
            for i in range(row_bytes):
                row[i] = given[i] + above[i]
        elif kind <= 4:
            for i in range(row_bytes):
                left = three if pixel_bytes == 3 else two if pixel_bytes == 2 else one
                up, corner = np.int64(above[i]), np.int64(above[i - pixel_bytes] if i >= pixel_bytes else 0)
                guess = (left + up) // 2 if kind == 3 else _paeth(left, up, corner)
                one, two, three = (given[i] + guess) & 255, one, two
                row[i] = one
        else:
            return pixels[:0]
        above = row
    return pixels


@compiled
def _paeth(left, up, corner):  # type: ignore[no-untyped-def]
    """Returns whichever of three neighbours is next to left + up - corner."""
    # In label maps two of them are mostly equal.
    if up == corner:
        return left
    if left == corner:
        return up
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner
