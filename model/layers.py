"""The layers that networks here need and Keras does not have, or not with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.model import backend
from zoo.model.backend import conv2d, depthwise_conv2d, resize

Tensor = Any
"""A tensor of Keras' backend."""

_serializable = keras.saving.register_keras_serializable(package="zoo")


def scale_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Scales (height, width), corner pixels on corner pixels: `(size - 1) * scale + 1`, cut to integers."""
    height, width = (int((float(n) - 1.0) * scale + 1.0) for n in size)
    return height, width


def resize_bilinear(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes [B, h, w, C] to [B, *size, C], bilinear, with aligned corners, in the type of `features`.

    Equals `tf.compat.v1.image.resize_bilinear(..., align_corners=True)`.
    """
    if tuple(features.shape[1:3]) == tuple(size):
        return features
    if tuple(features.shape[1:3]) == (1, 1):
        return ops.broadcast_to(features, [ops.shape(features)[0], *size, features.shape[3]])
    return ops.cast(resize(features, size), features.dtype)


@_serializable
def gelu(features: Tensor) -> Tensor:
    """Activates as `keras.activations.gelu`, `x * (1 + erf(x / sqrt(2))) / 2`, in the backend's own form."""
    return backend.gelu(features)


@_serializable
class NormalizeImage(keras.layers.Layer):
    """RGB values 0..255 (any number type) to float32 -1..1: `x / 127.5 - 1`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def call(self, images: Tensor) -> Tensor:
        """Normalises `images`, keeping the shape."""
        return ops.cast(images, "float32") / 127.5 - 1.0

    def compute_output_spec(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Same shape, float32."""
        return keras.KerasTensor(images.shape, "float32")


def add_normalization(layer: keras.layers.Layer, shape: tuple[int, ...], place: str = "") -> list[Any]:
    """Gives a layer the four variables of a batch normalisation, `<place>gamma` and so on; returns them."""
    return [
        layer.add_weight(shape, initial, trainable=not leaf.startswith("moving_"), name=f"{place}{leaf}")
        for leaf, initial in (
            ("gamma", "ones"),
            ("beta", "zeros"),
            ("moving_mean", "zeros"),
            ("moving_variance", "ones"),
        )
    ]


def factor_and_shift(normalization: Sequence[Any], epsilon: float) -> tuple[Tensor, Tensor]:
    """Returns what a batch normalisation of `add_normalization` multiplies with, and what it adds."""
    gamma, beta, mean, variance = normalization
    factor = gamma / ops.sqrt(variance + epsilon)
    return factor, beta - mean * factor


class _EvenlyPadded(keras.layers.Layer):
    """Puts as many zeros before as after the features of a convolution, whatever their size.

    `padding="same"` of the framework puts one zero more behind than before when the size is even and the
    stride 2, which shifts the features by half a pixel. Its output's size is `ceil(size / stride)`, too.
    """

    def call(self, features: Tensor) -> Tensor:
        """Convolves `features` [B, h, w, C]."""
        outputs = self._convolve(*self._padded(features))
        # TensorFlow fuses it with the convolution and the activation: `ops.add` makes it a `BiasAdd`.
        outputs = outputs if self.bias is None else ops.add(outputs, self.bias)
        return self.activation(outputs)

    def _padded(self, features: Tensor) -> tuple[Tensor, str]:
        """Returns features, padded where needed, and the framework's padding to convolve them with."""
        height, width = features.shape[1:3]
        # With an odd kernel, 'same' puts equal zeros on both sides: at stride 1, and at 2 on odd sizes.
        is_odd = None not in (height, width) and height % 2 == width % 2 == 1
        if max(self.strides) == 1 or (max(self.strides) == 2 and is_odd):
            return features, "same"
        above, left = ((k - 1) * d // 2 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True))
        # Not the convolution's own explicit padding: TensorFlow loses it where it fuses a depthwise one.
        return ops.pad(features, [[0, 0], [above, above], [left, left], [0, 0]]), "valid"


def _multiplied(features: Tensor, kernel: Tensor, bias: Tensor | None, activation: Any) -> Tensor:
    """Multiplies the channels of [B, ..., C] with a kernel [C, D], adds a bias and activates: [B, ..., D]."""
    # TensorFlow multiplies tensors of more axes piece by piece.
    product = ops.matmul(ops.reshape(features, (-1, features.shape[-1])), kernel)
    product = product if bias is None else ops.add(product, bias)
    # Before it gets its shape back: TensorFlow fuses product, bias and GELU.
    return ops.reshape(activation(product), (-1, *features.shape[1:-1], kernel.shape[-1]))


@_serializable
class Conv2D(_EvenlyPadded, keras.layers.Conv2D):
    """A convolution, evenly padded."""

    def call(self, features: Tensor) -> Tensor:
        """Convolves `features` [B, h, w, C]."""
        if not self.can_multiply() or self.activation is not gelu:
            return super().call(features)
        # TensorFlow fuses GELU with a product of matrices, not with a convolution.
        kernel = ops.reshape(self.kernel, self.kernel.shape[2:])
        return _multiplied(features, kernel, self.bias, self.activation)

    def can_multiply(self) -> bool:
        """Whether it is a product of each position's channels with the kernel."""
        return max(self.kernel_size) == max(self.strides) == 1

    def _convolve(self, features: Tensor, padding: str) -> Tensor:
        return conv2d(features, self.kernel, self.strides, padding, self.dilation_rate)


@_serializable
class DepthwiseConv2D(_EvenlyPadded, keras.layers.DepthwiseConv2D):
    """A depthwise convolution, evenly padded."""

    def _convolve(self, features: Tensor, padding: str) -> Tensor:
        return depthwise_conv2d(features, self.kernel, self.strides, padding, self.dilation_rate)


@_serializable
class Dense(keras.layers.Dense):
    """Multiplies the channels of [B, ..., C] with a kernel [C, D], in one product of matrices."""

    def call(self, features: Tensor) -> Tensor:
        """Returns [B, ..., D]."""
        kernel = ops.reshape(self.kernel, self.kernel.shape[-2:])
        return _multiplied(features, kernel, self.bias, self.activation)

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """[B, ..., D]."""
        return keras.KerasTensor((*features.shape[:-1], self.units), self.compute_dtype)


@_serializable
class Projection(Dense):
    """A `Dense` whose kernel is stored as that of a convolution along one axis, [1, C, D]."""

    def build(self, features_shape: tuple[int, ...]) -> None:
        """Makes the variables."""
        shape = (1, features_shape[-1], self.units)
        self._kernel = self.add_weight(shape, self.kernel_initializer, name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias") if self.use_bias else None


@_serializable
class HardSwish(keras.layers.Layer):
    """`x * relu6(x + 3) / 6` (Howard et al. 2019, section 5.2)."""

    def call(self, features: Tensor) -> Tensor:
        """Applies the activation, keeping the shape."""
        # In this order, TensorFlow fuses it with a convolution.
        return features * ops.relu6(features + 3.0) * (1.0 / 6.0)

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Same shape and type."""
        return keras.KerasTensor(features.shape, self.compute_dtype)


@_serializable
class SeparateReLU(keras.layers.ReLU):
    """A `ReLU` of a sum that is read elsewhere, too.

    TensorFlow joins a `ReLU` to the sum and the convolution before it. Where the sum has other readers, that
    fails, and with it every other fusion in the graph.
    """

    def call(self, features: Tensor) -> Tensor:
        """Applies the activation, keeping the shape."""
        return ops.maximum(features, 0.0)


@_serializable
class ResizeLike(keras.layers.Layer):
    """Bilinear resize to the height and width of a second map, corner pixels on corner pixels."""

    def call(self, features: Tensor, like: Tensor) -> Tensor:
        """Resizes `features` [B, h, w, C] to [B, H, W, C] of `like` [B, H, W, any]."""
        return resize_bilinear(features, like.shape[1:3])

    def compute_output_spec(self, features: keras.KerasTensor, like: keras.KerasTensor) -> keras.KerasTensor:
        """Height and width of `like`, channels of `features`."""
        shape = (features.shape[0], *like.shape[1:3], features.shape[3])
        return keras.KerasTensor(shape, self.compute_dtype)


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

    def call(self, features: Tensor) -> Tensor:
        """Averages [B, h, w, C] to [B, h - window height + 1, w - window width + 1, C]."""
        window = self._inside(features.shape)
        exact = ops.cast(features, keras.backend.result_type(features.dtype, "float32"))
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
class Unread(keras.layers.Layer):
    """Passes features on. What else it is given belongs to the network, but no output depends on it.

    A compiled graph does not compute it, and a folded network does not have it.
    """

    def call(self, features: Tensor, unread: Tensor) -> Tensor:
        """Returns `features`."""
        return features

    def compute_output_spec(
        self, features: keras.KerasTensor, unread: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Like `features`."""
        return keras.KerasTensor(features.shape, self.compute_dtype)
