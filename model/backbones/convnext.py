"""ConvNeXt encoders: Liu et al., A ConvNet for the 2020s (CVPR 2022), figures 2 and 4.

A stem of stride 4 ends level `res1`, the first stage of blocks `res2`, of stride 4 too; three more stages,
each after a convolution of stride 2, end `res3` to `res5`, of stride 8, 16 and 32. Drop path belongs to the
training alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from zoo.model.backend import depthwise_conv2d
from zoo.model.blocks import Features, Style, activated, layer_norm
from zoo.model.layers import Dense, Tensor, gelu
from zoo.registry.network_options import BackboneOptions

_ROOT = "encoder"

_serializable = keras.saving.register_keras_serializable(package="zoo")


class Variant(NamedTuple):
    """A row of the paper's section 3: blocks, and channels, in each of the four stages."""

    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]


VARIANTS = {
    "kmax_convnext_tiny": Variant((3, 3, 9, 3), (96, 192, 384, 768)),
    "kmax_convnext_small": Variant((3, 3, 27, 3), (96, 192, 384, 768)),
    "kmax_convnext_base": Variant((3, 3, 27, 3), (128, 256, 512, 1024)),
    "kmax_convnext_large": Variant((3, 3, 27, 3), (192, 384, 768, 1536)),
}


@_serializable
class GroupedDepthwiseConv2D(keras.layers.Conv2D):
    """A depthwise convolution with bias whose kernel is that of as many groups as channels, [y, x, 1, C]."""

    def call(self, features: Tensor) -> Tensor:
        """Convolves each channel of `features` [B, h, w, C] with zeros around them."""
        kernel = ops.reshape(self.kernel, (*self.kernel_size, self.filters, 1))
        return ops.add(depthwise_conv2d(features, kernel, (1, 1), "same", (1, 1)), self.bias)


@_serializable
class LayerScale(keras.layers.Layer):
    """Multiplies each channel of [B, h, w, C] with a factor of its own."""

    def build(self, features_shape: tuple[int, ...]) -> None:
        """Makes the factors."""
        self.factors = self.add_weight((1, 1, 1, features_shape[-1]), "ones", name="layer_scale")

    def call(self, features: Tensor) -> Tensor:
        """Scales `features`, keeping the shape."""
        return features * self.factors

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Same shape and type."""
        return keras.KerasTensor(features.shape, self.compute_dtype)


def convnext(images: Features, backbone: BackboneOptions, style: Style) -> dict[str, Features]:
    """Returns the end points of the encoder on images [B, H, W, 3] of -1..1.

    They are `res1` ... `res5`, after GELU, and `stage1` ... `stage5`, the same before it.
    """
    style = style.with_activation("gelu")
    variant = VARIANTS[backbone.name]
    features, endpoints = images, {}
    for number, (blocks, channels) in enumerate(zip(variant.blocks, variant.channels, strict=True)):
        features = _downsampled(features, number, channels, style)
        if number == 0:
            endpoints["stage1"] = features
        for index in range(blocks):
            features = _block(features, style, f"{_ROOT}.stages.{number}.layer_with_weights-{index}")
        endpoints[f"stage{number + 2}"] = features
    activations = {
        level.replace("stage", "res"): activated(features, style, f"{_ROOT}.{level}")
        for level, features in endpoints.items()
    }
    return {**endpoints, **activations}


def _downsampled(features: Features, number: int, channels: int, style: Style) -> Features:
    """Appends the convolution before a stage: normalised in the stem, else of normalised features."""
    first, second = (f"{_ROOT}.downsample_layers.{number}.layer_with_weights-{index}" for index in (0, 1))
    # The zeros around features are normalised like these, and become what the normalisation adds.
    zeros = ((1, 2), (1, 2)) if number == 0 else ((0, 1), (0, 1))
    features = keras.layers.ZeroPadding2D(zeros, dtype=style.policy, name=f"{first}.padding")(features)
    if number == 0:
        return layer_norm(_patches(features, channels, 4, style, first), style, second)
    return _patches(layer_norm(features, style, first), channels, 2, style, second)


def _patches(features: Features, channels: int, side: int, style: Style, name: str) -> Features:
    """Appends a convolution whose windows do not overlap."""
    return keras.layers.Conv2D(channels, side, side, name=name, **_settings(style))(features)


def _block(features: Features, style: Style, name: str) -> Features:
    """Appends a block (the paper's figure 4)."""
    channels = features.shape[3]
    settings = _settings(style)
    convolve = GroupedDepthwiseConv2D(
        channels, 7, padding="same", groups=channels, name=f"{name}.depthwise_conv", **settings
    )
    branch = layer_norm(convolve(features), style, f"{name}.norm")
    branch = Dense(4 * channels, activation=gelu, name=f"{name}.pointwise_conv1", **settings)(branch)
    branch = Dense(channels, name=f"{name}.pointwise_conv2", **settings)(branch)
    branch = LayerScale(dtype=style.policy, name=name)(branch)
    return keras.layers.Add(dtype=style.policy, name=f"{name}.add")([branch, features])


def _settings(style: Style) -> dict[str, Any]:
    return {"kernel_initializer": style.kernel_initializer, "dtype": style.policy}
