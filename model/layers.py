"""The layers that all networks here are made of.

A layer's name is its place in the network, parts joined by dots (`encoder.blocks.0.conv`);
`zoo.model.checkpoint` derives the names of its variables in a checkpoint from it.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from keras import ops

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""Precision of a network -> Keras dtype policy. Variables and outputs are float32 in both."""

_serializable = keras.saving.register_keras_serializable(package="zoo")


class BatchNormSettings(Protocol):
    """Constants of batch normalisation."""

    @property
    def epsilon(self) -> float: ...  # noqa: D102
    @property
    def momentum(self) -> float: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Style:
    """What all layers of one network have in common.

    Attributes:
      batch_norm: epsilon and momentum of every batch normalisation.
      precision: a key of `PRECISIONS`; what the dense convolutions of the deep encoder and of ASPP compute
        in. What follows or precedes them, and every depthwise convolution, is built `in_float32`.
      kernel_initializer: first values of convolution kernels.
      zeros: first values of kernels that start as zeros.
    """

    batch_norm: BatchNormSettings
    precision: str = "float32"
    kernel_initializer: str | keras.initializers.Initializer = "he_normal"
    zeros: str | keras.initializers.Initializer = "zeros"

    @property
    def policy(self) -> str:
        """The Keras dtype policy of the layers that compute in the network's precision."""
        return PRECISIONS[self.precision]

    def in_float32(self) -> Style:
        """This style for layers that compute in float32 whatever the network's precision."""
        return dataclasses.replace(self, precision="float32")


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Returns `channels` rounded to a multiple of `divisor`, never more than 10 % below it.

    Source: MobileNetV2 and V3 (Sandler et al. 2018; Howard et al. 2019), as their published code rounds.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def zeros_apart(shape: tuple[int, ...]) -> np.ndarray:
    """Returns float32 zeros in memory of their own: taken when written, given back at once when freed."""
    size = math.prod(shape)
    memory = mmap.mmap(-1, max(4 * size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, np.float32, size).reshape(shape)


def tensor_on(values: np.ndarray) -> tf.Tensor:
    """Returns a tensor on the memory of an aligned array, which must not be written any more."""
    return tf.experimental.dlpack.from_dlpack(values.__dlpack__())


@_serializable
class SharedZeros(keras.initializers.Initializer):
    """Zeros that take no memory: until each is assigned, variables share what nothing ever reads."""

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

    Args:
      variable: what to assign.
      values: of its shape.
      copy: whether into memory apart: what TensorFlow allocates itself is never given back, and takes some
        percent more for its bookkeeping. Otherwise the variable takes over the array, of TensorFlow or
        `zeros_apart`.
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


# --- layers -----------------------------------------------------------------------------------------------


@_serializable
class NormalizeImage(keras.layers.Layer):
    """RGB values 0..255 (any number type) to float32 -1..1: `x / 127.5 - 1`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Normalises `images`, keeping the shape."""
        return ops.cast(images, "float32") / 127.5 - 1.0

    def compute_output_spec(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Same shape, float32."""
        return keras.KerasTensor(images.shape, "float32")


def _pad_evenly(features: tf.Tensor, layer: keras.layers.Layer) -> tuple[tf.Tensor, str]:
    """Returns features, padded where that is needed, and the framework's padding to convolve them with."""
    height, width = features.shape[1:3]
    # With an odd kernel, 'same' puts equal zeros on both sides for stride 1, and for stride 2 on odd sizes.
    is_odd = None not in (height, width) and height % 2 == width % 2 == 1
    if max(layer.strides) == 1 or (max(layer.strides) == 2 and is_odd):
        return features, "SAME"
    above, left = ((k - 1) * d // 2 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True))
    # Not the convolution's own explicit padding: TensorFlow loses it where it fuses a depthwise convolution.
    return tf.pad(features, [[0, 0], [above, above], [left, left], [0, 0]]), "VALID"


@_serializable
class Conv2D(keras.layers.Conv2D):
    """A convolution with as many zeros before as after the features, whatever their size.

    `padding="same"` of the framework puts one zero more behind than before when the size is even and the
    stride 2, which shifts the features by half a pixel. Its output's size is `ceil(size / stride)`, too.
    """

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Convolves `features` [B, h, w, C]."""
        features, padding = _pad_evenly(features, self)
        # Not `keras.ops.conv`: on CPU it rearranges the features around an atrous convolution.
        outputs = tf.nn.conv2d(features, self.kernel, self.strides, padding, dilations=self.dilation_rate)
        # As `BiasAdd`, TensorFlow fuses it with the convolution and the activation.
        outputs = outputs if self.bias is None else tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)


@_serializable
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """A depthwise convolution with as many zeros before as after the features, whatever their size."""

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Convolves each channel of `features` [B, h, w, C]."""
        features, padding = _pad_evenly(features, self)
        strides = (1, *self.strides, 1)
        outputs = tf.nn.depthwise_conv2d(
            features, self.kernel, strides, padding, dilations=self.dilation_rate
        )
        outputs = outputs if self.bias is None else tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)


@_serializable
class HardSwish(keras.layers.Layer):
    """`x * relu6(x + 3) / 6` (Howard et al. 2019, section 5.2)."""

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Applies the activation, keeping the shape."""
        # In this order, TensorFlow fuses it with a convolution.
        return features * ops.relu6(features + 3.0) * (1.0 / 6.0)

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Same shape and type."""
        return keras.KerasTensor(features.shape, self.compute_dtype)


@_serializable
class ResizeLike(keras.layers.Layer):
    """Bilinear resize to the height and width of a second map, corner pixels on corner pixels."""

    def call(self, features: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Resizes `features` [B, h, w, C] to [B, H, W, C] of `like` [B, H, W, any]."""
        return resize_bilinear(features, like.shape[1:3])

    def compute_output_spec(self, features: keras.KerasTensor, like: keras.KerasTensor) -> keras.KerasTensor:
        """Height and width of `like`, channels of `features`."""
        shape = (features.shape[0], *like.shape[1:3], features.shape[3])
        return keras.KerasTensor(shape, self.compute_dtype)


def resize_bilinear(features: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes [B, h, w, C] to [B, *size, C], bilinear, with aligned corners, in the type of `features`.

    Equals `tf.compat.v1.image.resize_bilinear(..., align_corners=True)`.
    """
    if tuple(features.shape[1:3]) == tuple(size):
        return features
    if tuple(features.shape[1:3]) == (1, 1):
        return tf.broadcast_to(features, [tf.shape(features)[0], *size, features.shape[3]])
    # The operation computes and returns float32 whatever it is given.
    resized = tf.raw_ops.ResizeBilinear(images=features, size=size, align_corners=True)
    return tf.cast(resized, features.dtype)


def _for_sums(features: tf.Tensor) -> tf.Tensor:
    """Returns features in float32, or float64 where they are."""
    return features if features.dtype == tf.float64 else ops.cast(features, "float32")


@_serializable
class WindowAverage(keras.layers.Layer):
    """Mean over every position of a window that slides by one pixel and stays inside the map.

    A window of the map's size gives the global mean, [B, 1, 1, C]. A window larger than the map is cut to it:
    the published networks cannot pool smaller maps at all.

    Attributes:
      window: (height, width) in pixels of the map.
    """

    def __init__(self, window: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window = (int(window[0]), int(window[1]))

    def _inside(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return min(self.window[0], shape[1]), min(self.window[1], shape[2])

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Averages [B, h, w, C] to [B, h - window height + 1, w - window width + 1, C]."""
        window = self._inside(features.shape)
        exact = _for_sums(features)
        if window == tuple(features.shape[1:3]):
            mean = ops.mean(exact, axis=(1, 2), keepdims=True)
        else:  # Rows first, then columns: the work grows with the window's sides, not with its area.
            mean = ops.average_pool(exact, (window[0], 1), strides=1, padding="valid")
            mean = ops.average_pool(mean, (1, window[1]), strides=1, padding="valid")
        return ops.cast(mean, self.compute_dtype)

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """One position for each place of the window."""
        height, width = self._inside(features.shape)
        shape = (features.shape[0], features.shape[1] - height + 1, features.shape[2] - width + 1)
        return keras.KerasTensor((*shape, features.shape[3]), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The window, beside the base class's entries."""
        return {**super().get_config(), "window": self.window}


@_serializable
class SpatialMean(keras.layers.Layer):
    """Mean over height and width, kept as [B, 1, 1, C], summed in float32 or better."""

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Averages [B, h, w, C] to [B, 1, 1, C]."""
        mean = ops.mean(_for_sums(features), axis=(1, 2), keepdims=True)
        return ops.cast(mean, self.compute_dtype)

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """[B, 1, 1, C]."""
        return keras.KerasTensor((features.shape[0], 1, 1, features.shape[3]), self.compute_dtype)


# --- blocks of layers -------------------------------------------------------------------------------------

Activation = str | None
"""`relu`, `hard_swish`, or None."""

ACTIVATIONS: dict[str, Callable[..., keras.layers.Layer]] = {
    "relu": keras.layers.ReLU,
    "hard_swish": HardSwish,
}


def normalize_and_activate(
    features: keras.KerasTensor, style: Style, name: str, activation: Activation
) -> keras.KerasTensor:
    """Batch normalisation, `name.batch_norm`, and activation."""
    features = keras.layers.BatchNormalization(
        epsilon=style.batch_norm.epsilon,
        momentum=style.batch_norm.momentum,
        dtype=style.policy,
        name=f"{name}.batch_norm",
    )(features)
    if activation is None:
        return features
    return ACTIVATIONS[activation](dtype=style.policy, name=f"{name}.{activation}")(features)


def conv_bn(
    features: keras.KerasTensor,
    channels: int,
    kernel_size: int,
    style: Style,
    name: str,
    *,
    strides: int = 1,
    atrous_rate: int = 1,
    activation: Activation = None,
) -> keras.KerasTensor:
    """Convolution without bias, batch normalisation, activation: `name.conv`, `name.batch_norm`."""
    features = Conv2D(
        channels,
        kernel_size,
        strides=strides,
        padding="same",
        dilation_rate=atrous_rate,
        use_bias=False,
        kernel_initializer=style.kernel_initializer,
        dtype=style.policy,
        name=f"{name}.conv",
    )(features)
    return normalize_and_activate(features, style, name, activation)


def depthwise_conv_bn(
    features: keras.KerasTensor,
    kernel_size: int,
    style: Style,
    name: str,
    *,
    strides: int = 1,
    atrous_rate: int = 1,
    activation: Activation = None,
) -> keras.KerasTensor:
    """Depthwise convolution, batch normalisation, activation: `name.depthwise_conv`, `name.batch_norm`.

    They compute in float32 whatever the precision: TensorFlow's own bfloat16 kernel, which runs where the
    processor lacks AVX-512, rounds after each addition, and the error is three times that of one rounding.
    """
    style = style.in_float32()
    features = DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="same",
        dilation_rate=atrous_rate,
        use_bias=False,
        dtype=style.policy,
        name=f"{name}.depthwise_conv",
    )(features)
    return normalize_and_activate(features, style, name, activation)


def separable_conv_bn(
    features: keras.KerasTensor,
    channels: int,
    kernel_size: int,
    style: Style,
    name: str,
    *,
    activation: Activation = None,
) -> keras.KerasTensor:
    """Depthwise, then 1 x 1 convolution, each with batch normalisation and activation."""
    features = depthwise_conv_bn(features, kernel_size, style, f"{name}.depthwise", activation=activation)
    return conv_bn(features, channels, 1, style, f"{name}.pointwise", activation=activation)


CONVOLUTIONS: dict[str, Callable[..., keras.KerasTensor]] = {
    "standard_conv": conv_bn,
    "depthwise_separable_conv": separable_conv_bn,
}
"""Kind of convolution in decoders and heads -> its function."""


def squeeze_and_excite(features: keras.KerasTensor, reduced_channels: int, name: str) -> keras.KerasTensor:
    """Scales each channel by a gate in 0..1 computed from the spatial mean (Hu et al. 2018).

    The gate is a plain sigmoid: what the published MobileNetV3 checkpoints were trained with. It computes in
    float32 whatever the precision: an error in a gate is one of a whole channel, and no sum evens it out.
    """
    channels = features.shape[3]
    gate = SpatialMean(dtype="float32", name=f"{name}.mean")(features)
    gate = keras.layers.Conv2D(
        reduced_channels, 1, activation="relu", dtype="float32", name=f"{name}.se_reduce"
    )(gate)
    gate = keras.layers.Conv2D(channels, 1, activation="sigmoid", dtype="float32", name=f"{name}.se_expand")(
        gate
    )
    return keras.layers.Multiply(dtype="float32", name=f"{name}.scale")([features, gate])
