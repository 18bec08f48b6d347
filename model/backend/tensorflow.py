"""What networks need of Keras on TensorFlow, where its own operations are faster or need less memory.

Imported on that backend alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.model.backend.portable import Sides, unchanged, zeros_apart


def compute_in_full_precision() -> None:
    """Lets GPUs multiply float32 numbers with all digits, which is not their default."""
    tf.config.experimental.enable_tensor_float_32_execution(False)


def conv2d(features: tf.Tensor, kernel: Any, strides: Sides, padding: str, dilations: Sides) -> tf.Tensor:
    """Convolves as `portable.conv2d`."""
    # Not `keras.ops.conv`: on CPU it rearranges the features around an atrous convolution.
    return tf.nn.conv2d(features, kernel, strides, padding.upper(), dilations=dilations)


def depthwise_conv2d(
    features: tf.Tensor, kernel: Any, strides: Sequence[int], padding: str, dilations: Sides
) -> tf.Tensor:
    """Convolves as `portable.depthwise_conv2d`."""
    return tf.nn.depthwise_conv2d(features, kernel, (1, *strides, 1), padding.upper(), dilations=dilations)


def gelu(features: tf.Tensor) -> tf.Tensor:
    """Activates as `portable.gelu`."""
    # In this form TensorFlow fuses it with a product of matrices and a bias, and converters know it. In that
    # of `tf.nn.gelu`, by the complement of the error function, nothing is fused.
    return 0.5 * features * (1.0 + tf.math.erf(features * math.sqrt(0.5)))


def argmax(features: tf.Tensor) -> tf.Tensor:
    """Returns the places of `portable.argmax`."""
    # Keras tells -0.0 from 0.0, by operations on bits that other runtimes lack.
    return tf.argmax(features, axis=-1, output_type=tf.int32)


def resize(features: tf.Tensor, size: Any) -> tf.Tensor:
    """Resizes as `portable.resize`, to float32; `size` may be a tensor."""
    return tf.raw_ops.ResizeBilinear(images=features, size=size, align_corners=True)


def after(computed: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    """Returns `value`, for operations that a graph begins once `computed` is finished."""
    with tf.control_dependencies(list(computed)):
        return tf.identity(value)


def as_array(tensor: tf.Tensor) -> np.ndarray:
    """Returns the values of a tensor, in memory of their own."""
    return tensor.numpy()


def compiled(function: Callable[[tf.Tensor], Any], network: keras.Model) -> Callable[[Any], Any]:
    """Returns `function` of a batch of images, of `network`'s input size, as one compiled graph."""
    specification = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    graph = tf.function(function, input_signature=[specification], autograph=False).get_concrete_function()
    return lambda images: graph(tf.cast(images, tf.float32))


def compiled_per_image(
    function: Callable[[tf.Tensor, tf.Tensor], Any],
    dtype: np.dtype[Any],
    then: Callable[[Any], Any] = unchanged,
) -> Callable[[np.ndarray, np.ndarray], Any]:
    """Returns the function of `portable.compiled_per_image` as one compiled graph."""
    signature = [tf.TensorSpec((None, None, 3), dtype), tf.TensorSpec((2,), tf.int32)]

    def both(image: tf.Tensor, size: tf.Tensor) -> Any:
        return then(function(image, size))

    # Concrete: TensorFlow warns of a function that is made again and again, here for each size.
    graph = tf.function(both, input_signature=signature, autograph=False).get_concrete_function()
    return lambda image, size: graph(tf.constant(image), tf.constant(size))


# --- the memory of variables: taken, handed over and freed without a second copy --------------------------


def _tensor_on(values: np.ndarray) -> tf.Tensor:
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
        return _tensor_on(self._zeros[:size].reshape(shape))


def _is_mirrored(variable: keras.Variable) -> bool:
    """Returns whether several devices hold a copy each."""
    return isinstance(variable.value, tf.distribute.DistributedValues)


def values_of(variable: keras.Variable) -> np.ndarray:
    """Returns the memory of a variable itself; `np.asarray(variable)` would be a copy."""
    return np.asarray(tf.convert_to_tensor(variable.value))


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
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=_tensor_on(values), validate_shape=False)
