"""Draws a prediction over its image: colours of the classes, outlines, names and scores."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UsageError
from zoo.files.machine_code import compiled
from zoo.model.postprocess.threads import for_rows
from zoo.prediction.fonts import can_draw
from zoo.prediction.labels import Label, place_labels
from zoo.repro.datasets.colours import label_colours
from zoo.repro.datasets.label_shapes import LabelShapes

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

_OUTLINE_SHARE = 0.75
"""How much of an outline is white; the rest is the segment's own colour."""

_PICTURE_PER_OUTLINE = 700
"""How many outlines side by side make a square picture."""

_LIGHT = 140
"""Letters are dark on what is lighter than this, of 255."""

_LETTERS = {False: np.array([255, 255, 255], np.float32), True: np.array([20, 20, 20], np.float32)}
_HALO_SHARE = 0.85

_JPEG_QUALITY = 90
_LONGEST_JPEG_PX = 65_500


def draw_overlay(
    image: np.ndarray,
    shapes: LabelShapes,
    classes: DatasetInfo,
    scores: Mapping[int, float],
    *,
    alpha: float,
    labels: bool,
    outlines: bool,
) -> np.ndarray:
    """Returns an image under a prediction, [H, W, 3] uint8.

    Args:
      image: [H, W, 3] uint8, RGB.
      shapes: the segments of the panoptic map.
      classes, scores: names and colours of the classes; the score of each thing, by its label.
      alpha: how much the colours hide of the image, 0 to 1.
      labels: whether the names of classes, and scores, are written where there is room.
      outlines: whether a light line parts the segments.
    """
    height, width = shapes.index.shape
    colours, _ = label_colours(shapes.labels, classes)
    class_ids = shapes.labels // classes.label_divisor
    is_void = (class_ids >= classes.num_classes) | (class_ids == classes.ignore_label)
    shares = np.where(is_void, 0, round(256 * alpha)).astype(np.uint32)
    line_px = max(1, round((height * width) ** 0.5 / _PICTURE_PER_OUTLINE)) if outlines else 0
    drawn = np.empty((height, width, 3), np.uint8)
    index, image = shapes.index, np.ascontiguousarray(image)
    for_rows(
        height,
        lambda _, start, stop: _blend_rows(
            image, index, colours.astype(np.uint32), shares, line_px, start, stop, drawn
        ),
    )
    if labels:
        names = [
            None if void else _words(label, classes, scores)
            for label, void in zip(shapes.labels.tolist(), is_void.tolist(), strict=True)
        ]
        for placed in place_labels(index, shapes.areas, names):
            _write(drawn, placed)
    return drawn


def encode_picture(pixels: np.ndarray, suffix: str) -> bytes:
    """Returns [H, W, 3] uint8 as a PNG (`suffix` ".png"), packed fast rather than small, or as a JPEG.

    Raises:
      UsageError: a picture that is too long for a JPEG.
    """
    from PIL import Image

    buffer = io.BytesIO()
    if suffix == ".png":
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    else:
        require_size(pixels, suffix)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def require_size(pixels: np.ndarray, suffix: str) -> None:
    """Raises a UsageError where a picture is too long for its file's format."""
    if suffix != ".png" and max(pixels.shape) > _LONGEST_JPEG_PX:
        raise UsageError(
            f"expected at most {_LONGEST_JPEG_PX:,} pixels a side for a JPEG, found {pixels.shape[0]} x "
            f"{pixels.shape[1]}; write a PNG"
        )


def _words(label: int, classes: DatasetInfo, scores: Mapping[int, float]) -> tuple[str, ...]:
    class_id = label // classes.label_divisor
    name = " ".join(classes.class_names[class_id].split())
    if not can_draw(name):
        name = f"class {class_id}"
    return (name, f"{scores[label]:.2f}") if label in scores else (name,)


def _write(drawn: np.ndarray, label: Label) -> None:
    """Draws a text in white or in a dark grey, whichever differs more from what is there, with a halo."""
    height, width = label.text.halo.shape
    region = drawn[label.top : label.top + height, label.left : label.left + width]
    pixels = region.astype(np.float32)
    is_light = bool(pixels.mean() > _LIGHT)
    halo = (_HALO_SHARE / 255 * label.text.halo.astype(np.float32))[..., None]
    letters = (label.text.letters.astype(np.float32) / 255)[..., None]
    pixels += halo * (_LETTERS[not is_light] - pixels)
    pixels += letters * (_LETTERS[is_light] - pixels)
    region[:] = np.rint(pixels)


@compiled
def _blend_rows(image, index, colours, shares, line_px, start, stop, drawn):  # type: ignore[no-untyped-def]
    """Draws rows [start, stop) of an overlay; a share is of 256, and 0 leaves pixels as they are."""
    height, width = index.shape
    after, before = (line_px + 1) // 2, line_px // 2
    white = np.uint32(_OUTLINE_SHARE * 256)
    for y in range(start, stop):
        above, below = max(y - before, 0), min(y + after, height - 1)
        for x in range(width):
            segment = index[y, x]
            share = shares[segment]
            if share == 0:
                for channel in range(3):
                    drawn[y, x, channel] = image[y, x, channel]
                continue
            is_line = (
                index[above, x] != segment
                or index[below, x] != segment
                or index[y, max(x - before, 0)] != segment
                or index[y, min(x + after, width - 1)] != segment
            )
            for channel in range(3):
                colour = colours[segment, channel]
                if is_line:
                    drawn[y, x, channel] = (colour * (256 - white) + 255 * white) >> 8
                else:
                    drawn[y, x, channel] = (colour * share + image[y, x, channel] * (256 - share) + 128) >> 8
