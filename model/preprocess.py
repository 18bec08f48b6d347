"""Images to a network's input: the reference's resizing and padding.

An image is resized so that its shorter side reaches `min_resize_value` without the longer one exceeding
`max_resize_value`, then padded at the bottom and right to the crop size with the pixel that normalisation
turns into zero. `zoo.model.postprocess.result` undoes both.

Source: google-research/deeplab2, `data/preprocessing/input_preprocessing.py` and `preprocess_utils.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.registry.network_options import EvaluationProtocol

MEAN_PIXEL = 127.5
"""The value that images are padded with: normalisation turns it into zero."""


def resized_size(
    raw_size: tuple[int, int],
    crop_size: tuple[int, int],
    min_resize_value: Sequence[int] = (),
    max_resize_value: Sequence[int] = (),
) -> tuple[int, int]:
    """Returns the (height, width) to which the reference resizes an image before padding.

    An image that is larger than the crop is shrunk to fit it even where nothing else is configured.

    Args:
      raw_size: (height, width) of the image.
      crop_size: (height, width) of the network's input.
      min_resize_value: one number for both sides, or (height, width); empty or 0 for no enlarging.
      max_resize_value: likewise; empty or 0 stands for the crop size.
    """
    size = raw_size
    smallest = _both_sides(min_resize_value)
    if smallest is not None:
        size = _scaled(size, max(least / side for least, side in zip(smallest, size, strict=True)))
    largest = _both_sides(max_resize_value) or crop_size
    return _scaled(size, min(1.0, *(most / side for most, side in zip(largest, size, strict=True))))


def entry_resized_size(
    raw_size: tuple[int, int], evaluation: EvaluationProtocol, input_size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Returns the (height, width) to which an entry's evaluation resizes an image before padding.

    A network's `input_size` (height, width) other than the published crop takes the place of the published
    bounds: images that the entry resizes are resized to fit it.
    """
    if input_size in (None, evaluation.crop_size):
        bounds = evaluation.crop_size, evaluation.min_resize_value, evaluation.max_resize_value
        return resized_size(raw_size, *bounds)
    shortest = (min(input_size),) if any(evaluation.min_resize_value) else ()
    return resized_size(raw_size, input_size, shortest)


def padded_size(
    image_size: tuple[int, int], input_size: tuple[int, int], output_stride: int
) -> tuple[int, int]:
    """Returns the (height, width) that an image is padded to where it is not resized.

    A side that fits the network's input is padded to that: the reference evaluates at one crop size. A longer
    one is padded to the next `k * output_stride + 1`, where pixels and positions of all maps align.
    """
    height, width = (
        fixed if side <= fixed else -(-(side - 1) // output_stride) * output_stride + 1
        for side, fixed in zip(image_size, input_size, strict=True)
    )
    return height, width


def network_input(image: Any, size: Any, crop_size: tuple[int, int]) -> Any:
    """Resizes an image with aligned corners and pads it; float32 throughout.

    Args:
      image: [H, W, 3] tensor, RGB 0..255, any dtype.
      size: (height, width) to resize to, at most the crop size; numbers, or on TensorFlow a tensor [2] int32.
      crop_size: (height, width) of the network's input.

    Returns:
      [crop height, crop width, 3] float32 tensor.
    """
    from keras import ops

    from zoo.model.backend import resize

    resized = resize(ops.cast(image, "float32")[None], size)
    padding = [[0, crop_size[0] - size[0]], [0, crop_size[1] - size[1]], [0, 0]]
    # Around the mean, as the reference does: fractions of a resized image are rounded on the way.
    padded = ops.pad(resized[0] - MEAN_PIXEL, padding) + MEAN_PIXEL
    return ops.reshape(padded, (*crop_size, 3))


def _both_sides(value: Sequence[int]) -> tuple[int, int] | None:
    sides = tuple(value) * 2 if len(value) == 1 else tuple(value)
    return (sides[0], sides[1]) if sides and min(sides) > 0 else None


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    # The reference would resize a line of pixels to nothing.
    height, width = (max(1, int(np.floor(np.float32(side) * np.float32(factor)))) for side in size)
    return height, width
