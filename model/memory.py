"""The memory of a network's variables: taken, handed over and freed without a second copy."""

from __future__ import annotations

import math
import mmap
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def zeros_apart(shape: tuple[int, ...]) -> np.ndarray:
    """Returns float32 zeros in memory of their own: taken when written, returned at once when freed."""
    size = math.prod(shape)
    memory = mmap.mmap(-1, max(4 * size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, np.float32, size).reshape(shape)


def tensor_on(values: np.ndarray) -> tf.Tensor:
    """Returns a tensor that shares an aligned array's memory; do not write to the array afterwards."""
    return tf.experimental.dlpack.from_dlpack(values.__dlpack__())


@keras.saving.register_keras_serializable(package="zoo")
class SharedZeros(keras.initializers.Initializer):
    """Zeros that take no memory: variables share them, unread, until each is assigned."""

    def __init__(self) -> None:
        self._zeros = np.zeros(0, np.float32)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        """Returns a float32 tensor of zeros."""
        size = math.prod(shape)
        if size > self._zeros.size:
            self._zeros = zeros_apart((size,))
        return tensor_on(self._zeros[:size].reshape(shape))


def _is_mirrored(variable: keras.Variable) -> bool:
    """Returns whether several devices hold a copy each."""
    return isinstance(variable.value, tf.distribute.DistributedValues)


def give_up_values(variable: keras.Variable) -> None:
    """Frees a variable's memory; `take_values` must follow before it is read again."""
    if _is_mirrored(variable):
        return
    nothing = tf.zeros([0], variable.dtype)
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=nothing, validate_shape=False)


def take_values(variable: keras.Variable, values: np.ndarray, *, copy: bool = True) -> None:
    """Assigns a float32 variable, whose values may have been given up.

    A copy goes into memory apart: what TensorFlow allocates itself is never given back, and its bookkeeping
    takes a few percent more. With `copy=False` the variable takes over the array, which must come from
    TensorFlow or `zeros_apart`.
    """
    assert values.shape == tuple(variable.shape), (values.shape, variable.shape)
    if _is_mirrored(variable):
        variable.assign(values)
        return
    if copy:
        own = zeros_apart(values.shape)
        own[...] = values
        values = own
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tensor_on(values), validate_shape=False)
