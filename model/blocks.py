"""Blocks of layers that all networks here are made of: convolution, batch normalisation, activation.

A layer's name is its place in the network, parts joined by dots (`encoder.blocks.0.conv`);
`zoo.model.checkpoint` derives the names of its variables in a checkpoint from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import keras

from zoo.model.layers import Conv2D, DepthwiseConv2D, HardSwish, Projection, SeparateReLU, gelu
from zoo.registry.network_options import BatchNormOptions

Features: TypeAlias = keras.KerasTensor

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""Precision of a network -> Keras dtype policy. Variables and outputs are float32 in both."""

Activation = str | None
"""`relu`, `separate_relu`, `hard_swish`, `gelu`, or None."""

ACTIVATIONS: dict[str, Callable[..., keras.layers.Layer]] = {
    "relu": keras.layers.ReLU,
    "separate_relu": SeparateReLU,
    "hard_swish": HardSwish,
    "gelu": partial(keras.layers.Activation, gelu),  # exact, by the error function
}


@dataclasses.dataclass(frozen=True)
class Style:
    """Settings shared by all layers of one network.

    `precision`, a key of `PRECISIONS`, is what the dense convolutions of the deep encoder and of ASPP compute
    in. What follows or precedes them, and every depthwise convolution, is built `in_float32`.
    """

    batch_norm: BatchNormOptions
    precision: str = "float32"
    activation: str = "relu"  # of blocks that say of no layer that it has another
    kernel_initializer: str | keras.initializers.Initializer = "he_normal"
    zeros: str | keras.initializers.Initializer = "zeros"  # first values of kernels that start as zeros

    @property
    def policy(self) -> str:
        """The Keras dtype policy of the layers that compute in the network's precision."""
        return PRECISIONS[self.precision]

    def in_float32(self) -> Style:
        """This style for layers that compute in float32 whatever the network's precision."""
        return dataclasses.replace(self, precision="float32")

    def with_activation(self, activation: str) -> Style:
        """This style with another activation."""
        return dataclasses.replace(self, activation=activation)


class Kernel(NamedTuple):
    """The window of a convolution: its side, its step and the distance between its taps, in px."""

    size: int
    strides: int = 1
    atrous_rate: int = 1

    def layer_settings(self, style: Style, name: str) -> dict[str, Any]:
        """Returns the arguments that every convolution layer of this kernel takes."""
        return {
            "kernel_size": self.size,
            "strides": self.strides,
            "padding": "same",
            "dilation_rate": self.atrous_rate,
            "use_bias": False,
            "dtype": style.policy,
            "name": name,
        }


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Returns `channels` rounded to a multiple of `divisor`, never more than 10 % below it.

    Source: MobileNetV2 and V3 (Sandler et al. 2018; Howard et al. 2019), as their published code rounds.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def normalize(features: Features, style: Style, name: str) -> Features:
    """Appends batch normalisation, `name`."""
    return keras.layers.BatchNormalization(
        epsilon=style.batch_norm.epsilon, momentum=style.batch_norm.momentum, dtype=style.policy, name=name
    )(features)


def layer_norm(features: Features, style: Style, name: str) -> Features:
    """Appends the normalisation of each position over its channels, `name`."""
    return keras.layers.LayerNormalization(epsilon=1e-6, dtype=style.policy, name=name)(features)


def activated(features: Features, style: Style, name: str, activation: Activation = None) -> Features:
    """Appends an activation, that of the style if none is given, `name.<activation>`."""
    activation = activation or style.activation
    return ACTIVATIONS[activation](dtype=style.policy, name=f"{name}.{activation}")(features)


def normalize_and_activate(features: Features, style: Style, name: str, activation: Activation) -> Features:
    """Appends batch normalisation, `name.batch_norm`, and an activation."""
    features = normalize(features, style, f"{name}.batch_norm")
    return features if activation is None else activated(features, style, name, activation)


def conv_bn(
    features: Features, channels: int, kernel: Kernel, style: Style, name: str, activation: Activation = None
) -> Features:
    """Appends a convolution without bias, `name.conv`, batch normalisation and an activation."""
    settings = kernel.layer_settings(style, f"{name}.conv")
    features = Conv2D(channels, kernel_initializer=style.kernel_initializer, **settings)(features)
    return normalize_and_activate(features, style, name, activation)


def projection_bn(
    features: Features, channels: int, style: Style, name: str, activation: Activation = None
) -> Features:
    """Appends a `Projection` of the channels, `name.conv`, batch normalisation and an activation."""
    settings = {"kernel_initializer": style.kernel_initializer, "dtype": style.policy}
    features = Projection(channels, use_bias=False, name=f"{name}.conv", **settings)(features)
    return normalize_and_activate(features, style, name, activation)


def depthwise_conv_bn(
    features: Features, kernel: Kernel, style: Style, name: str, activation: Activation = None
) -> Features:
    """Appends a depthwise convolution, `name.depthwise_conv`, batch normalisation and an activation.

    They compute in float32 whatever the precision: TensorFlow's own bfloat16 kernel, which runs where the
    processor lacks AVX-512, rounds after each addition, and its error is three times that of one rounding.
    """
    style = style.in_float32()
    features = DepthwiseConv2D(**kernel.layer_settings(style, f"{name}.depthwise_conv"))(features)
    return normalize_and_activate(features, style, name, activation)


def separable_conv_bn(
    features: Features, channels: int, kernel: Kernel, style: Style, name: str, activation: Activation = None
) -> Features:
    """Appends a depthwise, then a 1 x 1 convolution, each with batch normalisation and activation."""
    features = depthwise_conv_bn(features, kernel, style, f"{name}.depthwise", activation)
    return conv_bn(features, channels, Kernel(1), style, f"{name}.pointwise", activation)


CONVOLUTIONS: dict[str, Callable[..., Features]] = {
    "standard_conv": conv_bn,
    "depthwise_separable_conv": separable_conv_bn,
}
"""Kind of convolution in decoders and heads -> its function."""


def squeeze_and_excite(features: Features, reduced_channels: int, name: str) -> Features:
    """Scales each channel by a gate in 0..1 computed from the spatial mean (Hu et al. 2018).

    The gate is a plain sigmoid: what the published MobileNetV3 checkpoints were trained with. It computes in
    float32 whatever the precision: an error in a gate affects a whole channel, and no sum evens it out.
    """
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}.mean")(features)
    for channels, activation, part in (
        (reduced_channels, "relu", "se_reduce"),
        (features.shape[3], "sigmoid", "se_expand"),
    ):
        gate = keras.layers.Conv2D(
            channels, 1, activation=activation, dtype="float32", name=f"{name}.{part}"
        )(gate)
    return keras.layers.Multiply(dtype="float32", name=f"{name}.scale")([features, gate])
