"""Checks that images are what a network takes, in one line of what was expected and found."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from zoo.errors import UsageError

VALUE_TOLERANCE = 0.5
"""How far values of an image may lie outside 0..255, by rounding."""


@keras.saving.register_keras_serializable(package="zoo")
class ImageNetwork(keras.Model):
    """A Keras network of one batch of images, checked before Keras sees it."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the network as Keras does.

        Raises:
          UsageError: something that is not a batch of images of the network's input size.
        """
        check_images(inputs, self.input_shape, self.name)
        return super().__call__(inputs, *args, **kwargs)


def check_images(images: Any, input_shape: tuple[int | None, ...], name: str, *remedies: str) -> None:
    """Checks that images are a batch of a network's input size, as far as their shape is known.

    They may be an array or a tensor, symbolic or not, alone in a structure or by itself. The message calls
    the network `name`, and proposes the `remedies` too.

    Raises:
      UsageError: they are not, or not of numbers.
    """
    leaves = keras.tree.flatten(images)
    tensor = leaves[0] if len(leaves) == 1 else images
    remedy = "give a batch of RGB images"
    if hasattr(tensor, "shape") and hasattr(tensor, "dtype"):
        # A tensor of TensorFlow may have a shape of which not even the number of sides is known.
        shape = None if getattr(tensor.shape, "rank", 0) is None else tuple(tensor.shape)
        # The name of a type, whichever library the array is of.
        dtype = str(getattr(tensor.dtype, "name", tensor.dtype))
        is_number = "int" in dtype or "float" in dtype
        if shape is None or (is_number and _fits(shape, input_shape)):
            return
        found = f"{dtype} {list(shape)}"
        if is_number and len(shape) == 4 and shape[3] == 3:
            remedy = f"load the network with `zoo.load(..., input_size=({shape[1]}, {shape[2]}))`"
    else:
        found = type(tensor).__name__
    expected = ", ".join(str(side) for side in input_shape[1:])
    raise UsageError(
        f"{name}: expected RGB images [B, {expected}], found {found}; {', or '.join([remedy, *remedies])}"
    )


def _fits(shape: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Returns whether two shapes may be the same; None stands for a side that is not known yet."""
    sides = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in sides)


def checked_image(image: Any, caller: str = "predict", *, whole_numbers: bool = False) -> np.ndarray:
    """Returns one image as an array.

    Warns where all values of a floating-point image lie in 0..1: it is black, or of another range.

    Args:
      image: [H, W, 3], RGB 0..255, uint8 or floating point; an array or a tensor.
      caller: the function that the message names.
      whole_numbers: take any type whose values are whole numbers, and return uint8.

    Raises:
      UsageError: it is something else, or holds values that are not finite or not in 0..255.
    """
    array = np.asarray(image)
    is_float = np.issubdtype(array.dtype, np.floating)
    is_number = array.dtype.kind in "iub" if whole_numbers else array.dtype == np.uint8
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape or not (is_float or is_number):
        raise UsageError(
            f"{caller}: expected one RGB image [height, width, 3], uint8 or floating point 0..255, "
            f"found {array.dtype} {list(array.shape)}"
        )
    if is_float:
        _check_range(array, caller)
    if not whole_numbers:
        return array
    whole = array.astype(np.uint8)
    if not np.array_equal(whole, array):
        raise UsageError(
            f"{caller}: expected an image of whole numbers 0 to 255, as a SavedModel takes it, found "
            f"{array.dtype} values that are not; round them"
        )
    return whole


def _check_range(image: np.ndarray, caller: str) -> None:
    least, most = float(image.min()), float(image.max())
    if not -VALUE_TOLERANCE <= least <= most <= 255 + VALUE_TOLERANCE:
        if not np.isfinite(image).all():
            found = f"{np.count_nonzero(~np.isfinite(image))} values that are NaN or infinite"
            remedy = "repair the image"
        else:
            found, remedy = f"{least:g} to {most:g}", "scale it, or cut it with np.clip(image, 0, 255)"
        raise UsageError(f"{caller}: expected an image of values 0..255, found {found}; {remedy}")
    if 0 < most <= 1:
        warnings.warn(
            f"{caller}: expected an image of values 0..255, found {least:g} to {most:g}, which is "
            "all but black; multiply an image of the range 0..1 by 255",
            stacklevel=3,
        )
