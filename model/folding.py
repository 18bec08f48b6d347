"""The inference form of a network: batch normalisation folded into the convolutions before it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from zoo.model.backbones.switchable_atrous import SwitchableAtrousConv2D
from zoo.model.backend import SharedZeros, give_up_values, take_values, values_of, zeros_apart
from zoo.model.layers import Conv2D, DepthwiseConv2D, Projection, Unread, gelu

_CONVOLUTIONS = (Conv2D, DepthwiseConv2D, SwitchableAtrousConv2D, Projection)
_CONTEXT = "post_global_context.convolution"
_FEATURES, _BEFORE_FEATURES = "pixel_space_feature_batch_norm", "pixel_space_head.final_conv"
_SMALLEST_SCALE = 1e-12
"""The smallest scale by which the kernel of a global context is divided."""


@dataclasses.dataclass(frozen=True)
class _Fold:
    """A batch normalisation, `scale * x + shift` per channel, and the convolution that absorbs it.

    Attributes:
      gelu: the name of the activation after it that the convolution applies, too; None for none.
    """

    convolution: keras.layers.Layer
    context: keras.layers.Layer | None
    gelu: str | None
    scale: np.ndarray
    shift: np.ndarray

    def kernel(self) -> np.ndarray:
        """Returns the convolution's kernel, times the scale of each output channel."""
        # A depthwise kernel is [h, w, channels, 1], any other [h, w, in, out].
        is_depthwise = isinstance(self.convolution, DepthwiseConv2D)
        kernel = values_of(self.convolution.kernel)
        scaled = zeros_apart(kernel.shape)
        # Rounded once, in chunks: no copy of the kernel in float64.
        np.multiply(kernel, self.scale[:, None] if is_depthwise else self.scale, scaled, casting="same_kind")
        return scaled

    def context_kernel(self, context: keras.layers.Layer) -> np.ndarray:
        """Returns the context's kernel, [1, 1, channels, channels], for means that are scaled already."""
        kernel = values_of(context.kernel)
        scaled = zeros_apart(kernel.shape)
        for channel, divisor in enumerate(self.scale):
            factors = self.scale / divisor
            np.multiply(kernel[0, 0, channel], factors, scaled[0, 0, channel], casting="same_kind")
        return scaled


def fold_batch_norm(network: keras.Model, *, consume: bool = False) -> keras.Model:
    """Returns a network of the same outputs, up to float32 rounding, with convolutions that normalise.

    `gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta` is a convolution with another kernel and a
    bias. TensorFlow then runs convolution, bias and activation as one operation; GELU it can only join to a
    product of matrices, so a 1 x 1 convolution applies the one after it itself. A switchable convolution is
    linear in its kernel, too; the global context that is added to it takes the bias.

    Args:
      network: of `zoo.model.build`, loaded; layers that are not folded are shared.
      consume: whether to give up each of its kernels once that is folded, so that there are never two copies
        of all kernels. `network` cannot be called after that.

    Returns:
      A network whose values stand for themselves: it cannot be restored from a checkpoint.
    """
    folds = _folds(network)
    zeros = SharedZeros()
    has_bias = {(f.context or f.convolution).name for f in folds.values()}
    replaced = has_bias | {f.convolution.name for f in folds.values()}
    has_gelu = {f.convolution.name for f in folds.values() if f.gelu}
    absorbed = folds.keys() | {f.gelu for f in folds.values()}

    def fold(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name not in replaced:
            return layer
        config = {**layer.get_config(), "use_bias": layer.name in has_bias}
        if layer.name in has_gelu:
            config["activation"] = gelu
        if "kernel_initializer" in config:
            config["kernel_initializer"] = zeros
        return type(layer).from_config(config)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name in absorbed or isinstance(layer, Unread):
            return args[0]
        return layer(*args, **kwargs)

    result = keras.models.clone_model(network, clone_function=fold, call_function=call)
    kept = {layer.name for layer in result.layers}
    for each in (each for each in folds.values() if each.convolution.name in kept):
        folded = result.get_layer(each.convolution.name)
        take_values(folded.kernel, each.kernel(), copy=False)
        if consume:
            give_up_values(each.convolution.kernel)
        if each.context is None:
            folded.bias.assign(each.shift)
        else:
            context = result.get_layer(each.context.name)
            take_values(context.kernel, each.context_kernel(each.context), copy=False)
            if consume:
                give_up_values(each.context.kernel)
            context.bias.assign(np.asarray(each.context.bias, np.float64) * each.scale + each.shift)
    return result


def _folds(network: keras.Model) -> dict[str, _Fold]:
    """Returns the folds that are possible, by the name of the batch normalisation."""
    layers = {layer.name: layer for layer in network.layers}
    folds = {}
    for name, norm in layers.items():
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        place = name.removesuffix(".batch_norm")
        places = f"{place}.conv", f"{place}.depthwise_conv", name.replace(_FEATURES, _BEFORE_FEATURES)
        convolution = next((layers[each] for each in places if each in layers), None)
        context = layers.get(f"{place}.{_CONTEXT}")
        gamma, beta, mean, variance = (
            np.asarray(v, np.float64) for v in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        )
        scale = gamma / np.sqrt(variance + norm.epsilon)
        # A channel that is scaled to 0 would lose its mean, which the global context gives to all channels.
        is_divisible = context is None or bool((np.abs(scale) > _SMALLEST_SCALE).all())
        if convolution is not None and type(convolution) in _CONVOLUTIONS and is_divisible:
            bias = 0.0 if convolution.bias is None else np.asarray(convolution.bias, np.float64)
            is_next = context is None and f"{place}.gelu" in layers
            activation = f"{place}.gelu" if is_next and _multiplies(convolution) else None
            folds[name] = _Fold(convolution, context, activation, scale, beta + (bias - mean) * scale)
    return folds


def _multiplies(convolution: keras.layers.Layer) -> bool:
    """Returns whether a convolution is a product of matrices, which TensorFlow fuses with GELU."""
    return isinstance(convolution, Projection) or (type(convolution) is Conv2D and convolution.can_multiply())
