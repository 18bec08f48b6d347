"""What networks need of a Keras backend, in `keras.ops`: right on every backend."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

Sides = int | Sequence[int]
"""Of a step or a distance in px: one number for both axes, or (height, width)."""


def conv2d(features: Any, kernel: Any, strides: Sides, padding: str, dilations: Sides) -> Any:
    """Convolves [B, h, w, C] with a kernel [y, x, C, D]; `padding` is "same" or "valid"."""
    return ops.conv(features, kernel, strides, padding, "channels_last", dilations)


def depthwise_conv2d(
    features: Any, kernel: Any, strides: Sequence[int], padding: str, dilations: Sides
) -> Any:
    """Convolves each channel of [B, h, w, C] with its own of a kernel [y, x, C, 1]; see `conv2d`."""
    return ops.depthwise_conv(features, kernel, strides, padding, "channels_last", dilations)


def gelu(features: Any) -> Any:
    """Returns `x * (1 + erf(x / sqrt(2))) / 2` of each value."""
    return ops.gelu(features, approximate=False)


def argmax(features: Any) -> Any:
    """Returns the place of the largest value along the last axis, the first of several."""
    return ops.argmax(features, axis=-1)


def resize(features: Any, size: Any) -> Any:
    """Resizes [B, h, w, C] to [B, *size, C], bilinear, with aligned corners.

    Computes in float32 at least. The same sums as TensorFlow's `ResizeBilinear`, in the same order.
    """
    dtype = keras.backend.result_type(features.dtype, "float32")
    number = np.dtype(dtype).type
    resized = ops.cast(features, dtype)
    for axis, length in ((2, int(size[1])), (1, int(size[0]))):
        old = resized.shape[axis]
        if length == old:
            continue
        scale = number(old - 1) / number(max(length - 1, 1))
        positions = np.arange(length, dtype=dtype) * scale
        before = positions.astype(np.int32)
        after = np.minimum(before + 1, old - 1)
        weights = ops.convert_to_tensor((positions - before).reshape(-1, *[1] * (3 - axis)), resized.dtype)
        first, second = (ops.take(resized, indices, axis=axis) for indices in (before, after))
        resized = first + (second - first) * weights
    return resized


def after(computed: Sequence[Any], value: Any) -> Any:
    """Returns `value`, for computations that begin once those of `computed` are finished."""
    return value


def unchanged(value: Any) -> Any:
    """Returns `value`."""
    return value


def compiled_per_image(
    function: Callable[..., Any], dtype: np.dtype[Any], then: Callable[[Any], Any] = unchanged
) -> Callable[..., Any]:
    """Returns `then` of `function` of one image of any size, and a size (height, width) to resize it to.

    Args:
      function: of an image [H, W, 3] of this dtype and a size; its results have one size.
      dtype: the images' type.
      then: of `compiled`, or of arrays.
    """
    return lambda image, size: then(function(image, size))


# --- the memory of variables ------------------------------------------------------------------------------


def zeros_apart(shape: tuple[int, ...]) -> np.ndarray:
    """Returns float32 zeros in memory of their own: taken when written, returned at once when freed."""
    size = math.prod(shape)
    memory = mmap.mmap(-1, max(4 * size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, np.float32, size).reshape(shape)


@keras.saving.register_keras_serializable(package="zoo")
class SharedZeros(keras.initializers.Zeros):
    """The first values of variables that are assigned before they are read."""

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        """Returns float32 zeros, as an array: nothing is compiled for each shape."""
        return np.zeros(shape, np.float32)


def as_array(tensor: Any) -> np.ndarray:
    """Returns the values of a tensor."""
    return np.asarray(tensor)


def values_of(variable: keras.Variable) -> np.ndarray:
    """Returns the values of a variable, not to be written to."""
    return as_array(variable.value)


def give_up_values(variable: keras.Variable) -> None:
    """Frees a variable's memory where the backend can; `take_values` must follow before it is read again."""


def take_values(variable: keras.Variable, values: np.ndarray, *, copy: bool = True) -> None:
    """Assigns a float32 variable, whose values may have been given up.

    With `copy=False` the variable may take over the array, which must come from `zeros_apart` or the backend.
    """
    assert values.shape == tuple(variable.shape), (values.shape, variable.shape)
    variable.assign(values)
