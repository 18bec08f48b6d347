"""Where the names of segments go in a picture, and their pixels: inside, apart, and large enough to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from zoo.files.machine_code import compiled
from zoo.prediction.fonts import font, font_file

_SMALLEST_PX = 10
"""Smaller letters cannot be read."""

_PICTURE_PER_LETTER = 48
"""How many lines of letters fit into a square picture."""

_SMALLER = (1.0, 0.75, 0.6)
"""The sizes that are tried for a segment, of the size for the picture."""

# What of a text's height and width a segment must hold: letters may touch the outline, not leave it.
_INSIDE = (0.65, 0.4)

_ASPECT = 3
"""Width of a short text in its heights; room is looked for in boxes of this form."""

_LETTER_WIDTH = 0.55
"""Mean width of a letter in its heights."""

_FINEST_ROWS = 200
"""At least so many rows of a larger picture are looked at for room."""


class Text(NamedTuple):
    """A piece of text as two masks of one size, uint8 [h, w]: its letters, and these with their halo."""

    letters: np.ndarray
    halo: np.ndarray


class Label(NamedTuple):
    """A text and the pixel of its top left corner."""

    text: Text
    top: int
    left: int


def place_labels(
    index: np.ndarray, areas: np.ndarray, names: Sequence[tuple[str, ...] | None]
) -> Iterator[Label]:
    """Yields the labels of segments that have room for theirs, the largest segments first, none on another.

    Args:
      index: [H, W] int32, each pixel's segment.
      areas: [L], of each segment.
      names: the parts of each segment's text, such as its class and its score; None for no label.
    """
    height, width = index.shape
    size = max(_SMALLEST_PX, round((height * width) ** 0.5 / _PICTURE_PER_LETTER))
    sizes = sorted({max(_SMALLEST_PX, round(size * part)) for part in _SMALLER}, reverse=True)
    step = max(1, height // _FINEST_ROWS)
    grid = np.ascontiguousarray(index[step // 2 :: step, step * _ASPECT // 2 :: step * _ASPECT])
    if not grid.size:
        return
    # So much room, in cells, lets a text sit at ease in its segment.
    at_ease = [_LETTER_WIDTH * size * len("".join(parts or ())) / _ASPECT for parts in names]
    needed = np.array([1 + max(1.5 * size, wide) / 2 // step for wide in at_ease], np.int64)
    places = _best_cells(grid, _room(grid), needed)
    is_taken = np.zeros((height, width), np.bool_)
    for segment in np.argsort(-areas, kind="stable").tolist():
        parts, (row, column, room) = names[segment], places[segment].tolist()
        free_height = max(2 * room - 1, 0) * step
        for letters_px in sizes if parts is not None else ():
            if free_height < _INSIDE[0] * letters_px:
                continue
            text = _joined(parts, letters_px)
            text_height, text_width = text.halo.shape
            if free_height * _ASPECT < _INSIDE[1] * text_width or text_height > height or text_width > width:
                continue
            top = row * step + (step - text_height) // 2
            left = (column * step + step // 2) * _ASPECT - text_width // 2
            top, left = min(max(top, 0), height - text_height), min(max(left, 0), width - text_width)
            region = is_taken[top : top + text_height, left : left + text_width]
            if not region.any():
                region[:] = True
                yield Label(text, top, left)
                break


def _joined(parts: tuple[str, ...], letters_px: int) -> Text:
    """Returns parts of a text side by side; each part is drawn once, as names and scores come again."""
    file = font_file("".join(parts)) or ""
    drawn = [_drawn(part, file, letters_px) for part in parts]
    gap = np.zeros((drawn[0].halo.shape[0], max(1, letters_px // 10)), np.uint8)
    letters, halo = drawn[0]
    for part in drawn[1:]:
        letters = np.concatenate([letters, gap, part.letters], axis=1)
        halo = np.concatenate([halo, gap, part.halo], axis=1)
    return Text(letters, halo)


@lru_cache(maxsize=512)
def _drawn(text: str, file: str, letters_px: int) -> Text:
    from PIL import Image, ImageDraw

    letters_font = font(file, letters_px)
    halo_px = max(1, round(letters_px / 10))
    ascent, descent = letters_font.getmetrics()
    # Capitals reach about as far above the baseline as the size says; the font's lines are higher.
    top = max(0, ascent - letters_px)
    width = round(letters_font.getlength(text)) + 2 * halo_px
    masks = []
    for stroke_px in (0, halo_px):
        image = Image.new("L", (width, ascent - top + descent + 2 * halo_px))
        place = (halo_px, ascent - top + halo_px)
        ImageDraw.Draw(image).text(place, text, 255, letters_font, anchor="ls", stroke_width=stroke_px)
        masks.append(np.asarray(image))
    return Text(*masks)


@compiled
def _room(grid):  # type: ignore[no-untyped-def]
    """Returns how far each cell of a grid of segments is from the next one of another segment, or the edge.

    1 beside such a cell; diagonal steps count as one, so that a cell of room r is the middle of a box of
    2 r - 1 cells that lies in the segment.
    """
    height, width = grid.shape
    room = np.empty((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            nearest = 0
            if y > 0 and 0 < x < width - 1:
                nearest = room[y, x - 1] if grid[y, x - 1] == grid[y, x] else 0
                for dx in (-1, 0, 1):
                    near = room[y - 1, x + dx] if grid[y - 1, x + dx] == grid[y, x] else 0
                    nearest = min(nearest, near)
            room[y, x] = nearest + 1
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            nearest = 0
            if y < height - 1 and 0 < x < width - 1:
                nearest = room[y, x + 1] if grid[y, x + 1] == grid[y, x] else 0
                for dx in (-1, 0, 1):
                    near = room[y + 1, x + dx] if grid[y + 1, x + dx] == grid[y, x] else 0
                    nearest = min(nearest, near)
            room[y, x] = min(room[y, x], nearest + 1)
    return room


@compiled
def _best_cells(grid, room, needed):  # type: ignore[no-untyped-def]
    """Returns the row, column and room of each segment's best cell, [L, 3]: all 0 where it has none.

    That is the cell nearest to the segment's centre of mass among those of `needed` room, or of the most
    room where there are none of so much.
    """
    height, width = grid.shape
    count = needed.size
    most = np.zeros(count, np.int64)
    cells = np.zeros(count, np.int64)
    middle = np.zeros((count, 2))
    for y in range(height):
        for x in range(width):
            segment = grid[y, x]
            most[segment] = max(most[segment], room[y, x])
            cells[segment] += 1
            middle[segment, 0] += y
            middle[segment, 1] += x
    best = np.zeros((count, 3), np.int64)
    nearest = np.full(count, np.inf)
    for y in range(height):
        for x in range(width):
            segment = grid[y, x]
            if room[y, x] >= min(most[segment], needed[segment]):
                dy = y - middle[segment, 0] / cells[segment]
                dx = (x - middle[segment, 1] / cells[segment]) * _ASPECT
                distance = dy * dy + dx * dx
                if distance < nearest[segment]:
                    nearest[segment] = distance
                    best[segment, 0], best[segment, 1], best[segment, 2] = y, x, room[y, x]
    return best
