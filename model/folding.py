"""The inference form of a network: batch normalisation folded into the convolutions before it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.model.layers import Conv2D, DepthwiseConv2D


def fold_batch_norm(network: keras.Model) -> keras.Model:
    """Returns a network of the same outputs, up to float32 rounding, with convolutions that normalise.

    `gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta` is a convolution with another kernel and a
    bias. TensorFlow then runs convolution, bias and activation as one operation.

    Args:
      network: of `zoo.model.panoptic_deeplab`, loaded. Layers that are not folded are shared with it.

    Returns:
      A network whose values stand for themselves: it cannot be restored from a checkpoint.
    """
    norms = {
        layer.name.removesuffix(".batch_norm"): layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    folded: list[tuple[keras.layers.Layer, keras.layers.Layer, keras.layers.BatchNormalization]] = []
    gone: set[str] = set()

    def fold(layer: keras.layers.Layer) -> keras.layers.Layer:
        norm = norms.get(layer.name.rpartition(".")[0])
        if norm is None or type(layer) not in (Conv2D, DepthwiseConv2D):
            return layer
        convolution = type(layer).from_config({**layer.get_config(), "use_bias": True})
        folded.append((layer, convolution, norm))
        gone.add(norm.name)
        return convolution

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in gone else layer(*args, **kwargs)

    result = keras.models.clone_model(network, clone_function=fold, call_function=call)
    for original, convolution, norm in folded:
        gamma, beta, mean, variance = (
            np.asarray(v, np.float64) for v in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        )
        scale = gamma / np.sqrt(variance + norm.epsilon)
        # A depthwise kernel is [h, w, channels, 1], any other [h, w, in, out].
        per_channel = scale[:, None] if isinstance(original, DepthwiseConv2D) else scale
        convolution.kernel.assign(np.asarray(original.kernel, np.float64) * per_channel)
        convolution.bias.assign(beta - mean * scale)
    return result
