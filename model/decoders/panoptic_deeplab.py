"""Panoptic-DeepLab: Cheng et al., A Simple, Strong, and Fast Baseline for Bottom-Up Panoptic Segmentation.

(CVPR 2020.) An encoder; two decoders on the same features, one for semantics, one for instances; three heads.
Images go in, maps at a quarter of their size come out. Up-sampling, arg-max and grouping belong to
`zoo.model.postprocess.center_offset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.model.backbones.mobilenet_v3 import VARIANTS as MOBILENET_V3_VARIANTS
from zoo.model.backbones.mobilenet_v3 import mobilenet_v3
from zoo.model.backbones.residual import VARIANTS as RESIDUAL_VARIANTS
from zoo.model.backbones.residual import residual
from zoo.model.folding import fold_batch_norm
from zoo.model.images import ImageNetwork
from zoo.model.layers import (
    CONVOLUTIONS,
    PRECISIONS,
    BatchNormSettings,
    NormalizeImage,
    ResizeLike,
    SharedZeros,
    Style,
    WindowAverage,
    conv_bn,
)

# ruff: noqa: D102 (the members of settings are described in the registry's schema)

BACKBONES: dict[str, Callable[..., dict[str, keras.KerasTensor]]] = {
    **dict.fromkeys(MOBILENET_V3_VARIANTS, mobilenet_v3),
    **dict.fromkeys(RESIDUAL_VARIANTS, residual),
}
"""Name of a backbone -> the function that builds it."""


class LowLevelSettings(Protocol):
    """One of the encoder's levels that a decoder takes detail from."""

    @property
    def feature_key(self) -> str: ...
    @property
    def channels_project(self) -> int: ...


class DecoderSettings(Protocol):
    """One of the two decoders."""

    @property
    def feature_key(self) -> str: ...
    @property
    def decoder_channels(self) -> int: ...
    @property
    def aspp_channels(self) -> int: ...
    @property
    def atrous_rates(self) -> Sequence[int]: ...
    @property
    def decoder_conv_type(self) -> str: ...
    @property
    def low_level(self) -> Sequence[LowLevelSettings]: ...


class HeadSettings(Protocol):
    """One of the three heads."""

    @property
    def output_channels(self) -> int: ...
    @property
    def head_channels(self) -> int: ...
    @property
    def head_conv_type(self) -> str: ...


class EncoderSettings(Protocol):
    """What decides an encoder."""

    @property
    def backbone(self) -> Any: ...
    @property
    def batch_norm(self) -> BatchNormSettings: ...
    @property
    def train_crop_size(self) -> Sequence[int]: ...


class NetworkSettings(EncoderSettings, Protocol):
    """Every hyper-parameter of a network; an entry's `network` in the registry."""

    @property
    def semantic_decoder(self) -> DecoderSettings: ...
    @property
    def semantic_head(self) -> HeadSettings: ...
    @property
    def instance_decoder(self) -> DecoderSettings: ...
    @property
    def center_head(self) -> HeadSettings: ...
    @property
    def regression_head(self) -> HeadSettings: ...


def build_network(
    settings: NetworkSettings,
    input_size: tuple[int, int] | None = None,
    *,
    aspp_window: tuple[int, int] | None = None,
    precision: str = "float32",
    random_values: bool = True,
) -> keras.Model:
    """Builds a Panoptic-DeepLab network, not loaded.

    Args:
      settings: hyper-parameters.
      input_size: (height, width) of images in px; None for the published crop. Maps and images align where
        `size - 1` is a multiple of the output stride.
      aspp_window: (height, width) of the pooling window in px of the last level; None for the published rule,
        `published_aspp_window(settings)`, whatever the input size.
      precision: "float32", or "bfloat16" for the dense convolutions of the deep encoder and of ASPP, most
        of the work, in bfloat16. All else, variables and outputs are float32.
      random_values: False for kernels of zeros: cheaper, where a checkpoint follows.

    Returns:
      A network of images [B, H, W, 3], uint8 or float32, RGB 0..255, to a dict of float32 maps with
      h = ceil(H / 4), w = ceil(W / 4):
        `semantic_logits` [B, h, w, classes];
        `center_heatmap` [B, h, w, 1], 1 at an instance's center;
        `offset_map` [B, h, w, 2], (y, x) from a pixel to its instance's center, in px of this map.

    Raises:
      UsageError: an unknown backbone or precision, or an input without size.

    Source: the paper's figure 2; hyper-parameters and names from google-research/deeplab2.
    """
    style = _style(settings, precision, random_values)
    window = aspp_window or published_aspp_window(settings)

    images, endpoints = _encoder(settings, input_size, style)

    semantic = _decoder(endpoints, settings.semantic_decoder, window, style, "semantic_decoder")
    semantic_logits = _head(semantic, settings.semantic_head, style, "semantic")

    instance = _decoder(endpoints, settings.instance_decoder, window, style, "instance_decoder")
    center_heatmap = _head(instance, settings.center_head, style, "instance_center_head")
    offset_map = _head(instance, settings.regression_head, style, "instance_regression_head")

    outputs = {
        "semantic_logits": semantic_logits,
        "center_heatmap": center_heatmap,
        "offset_map": offset_map,
    }
    return ImageNetwork(images, outputs, name="panoptic_deeplab")


def build_encoder(
    settings: EncoderSettings,
    input_size: tuple[int, int] | None = None,
    *,
    precision: str = "float32",
    random_values: bool = True,
) -> keras.Model:
    """Builds the encoder alone: images as for `build_network` to end points `res1`, `res2`, ... by name."""
    images, endpoints = _encoder(settings, input_size, _style(settings, precision, random_values))
    return ImageNetwork(images, endpoints, name=settings.backbone.name)


def _style(settings: EncoderSettings, precision: str, random_values: bool) -> Style:
    if precision not in PRECISIONS:
        raise UsageError(f"precision: expected {' or '.join(PRECISIONS)}, found {precision!r}")
    if random_values:
        return Style(settings.batch_norm, precision)
    zeros = SharedZeros()
    return Style(settings.batch_norm, precision, kernel_initializer=zeros, zeros=zeros)


def _encoder(
    settings: EncoderSettings, input_size: Sequence[int] | None, style: Style
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    if settings.backbone.name not in BACKBONES:
        raise UsageError(
            f"backbone: expected one of {', '.join(BACKBONES)}, found {settings.backbone.name!r}"
        )
    height, width = input_size or settings.train_crop_size
    if min(height, width) < 2:
        raise UsageError(f"input size: expected at least 2 x 2 pixels, found {height} x {width}")
    images = keras.Input((height, width, 3), name="images")
    normalized = NormalizeImage(name="normalize")(images)
    return images, BACKBONES[settings.backbone.name](normalized, settings.backbone, style)


def published_aspp_window(settings: NetworkSettings) -> tuple[int, int]:
    """Returns the pooling window of ASPP, (height, width): the last level's size for a training crop.

    In larger images the window slides over the level; on smaller ones it covers the whole level.
    """
    height, width = settings.train_crop_size
    return scale_size((height, width), 1.0 / settings.backbone.output_stride)


def scale_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Scales (height, width), corner pixels on corner pixels: `(size - 1) * scale + 1`, cut to integers."""
    height, width = (int((float(n) - 1.0) * scale + 1.0) for n in size)
    return height, width


def _decoder(
    endpoints: Mapping[str, keras.KerasTensor],
    settings: DecoderSettings,
    window: tuple[int, int],
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Context by ASPP, then detail from lower levels, one at a time, each at that level's size.

    All after ASPP computes in float32 whatever the precision: its errors reach the maps as they are.
    """
    features = _aspp(endpoints[settings.feature_key], settings, window, style, f"{name}.aspp")
    style = style.in_float32()
    fuse = CONVOLUTIONS[settings.decoder_conv_type]
    for number, level in enumerate(settings.low_level, start=1):
        detail = conv_bn(
            endpoints[level.feature_key],
            level.channels_project,
            1,
            style,
            f"{name}.low_level_conv{number}",
            activation="relu",
        )
        features = ResizeLike(dtype=style.policy, name=f"{name}.resize{number}")(features, detail)
        features = keras.layers.Concatenate(dtype=style.policy, name=f"{name}.concat{number}")(
            [features, detail]
        )
        features = fuse(
            features,
            settings.decoder_channels,
            5,
            style,
            f"{name}.fusion_conv{number}.conv1_bn_act",
            activation="relu",
        )
    return features


def _aspp(
    features: keras.KerasTensor,
    settings: DecoderSettings,
    window: tuple[int, int],
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Atrous spatial pyramid pooling (Chen et al., Rethinking Atrous Convolution, 2017, section 3.3)."""
    channels = settings.aspp_channels
    branches = [conv_bn(features, channels, 1, style, f"{name}.conv_bn_act", activation="relu")]
    for number, rate in enumerate(settings.atrous_rates, start=1):
        branch = f"{name}.aspp_conv{number}.conv_bn_act"
        branches.append(
            conv_bn(features, channels, 3, style, branch, atrous_rate=rate, activation="relu"),
        )
    pooled = WindowAverage(window, dtype=style.policy, name=f"{name}.aspp_pool.average")(features)
    pooled = conv_bn(pooled, channels, 1, style, f"{name}.aspp_pool.conv_bn_act", activation="relu")
    branches.append(ResizeLike(dtype=style.policy, name=f"{name}.aspp_pool.resize")(pooled, features))
    concatenated = keras.layers.Concatenate(dtype=style.policy, name=f"{name}.concat")(branches)
    return conv_bn(concatenated, channels, 1, style, f"{name}.proj_conv_bn_act", activation="relu")


def _head(features: keras.KerasTensor, settings: HeadSettings, style: Style, name: str) -> keras.KerasTensor:
    """A 5 x 5 convolution, then a plain 1 x 1 one; both compute in float32 whatever the precision."""
    style = style.in_float32()
    first = "semantic_head_without_last_layer" if name == "semantic" else f"{name}_without_last_layer"
    features = CONVOLUTIONS[settings.head_conv_type](
        features, settings.head_channels, 5, style, f"{first}.conv1_bn_act", activation="relu"
    )
    return keras.layers.Conv2D(
        settings.output_channels,
        1,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01),
        dtype="float32",
        name=f"{name}_last_layer",
    )(features)


def at_size(network: keras.Model, input_size: tuple[int, int], aspp_window: tuple[int, int]) -> keras.Model:
    """Returns `network` for images of another size, with the same variables.

    Args:
      network: of this module, folded or not.
      input_size: (height, width) of images in px.
      aspp_window: (height, width) of the pooling window in px of the last level.
    """

    def share(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, WindowAverage):
            return WindowAverage.from_config({**layer.get_config(), "window": aspp_window})
        return layer

    images = keras.Input((*input_size, 3), name="images")
    return keras.models.clone_model(network, input_tensors=images, clone_function=share)


def aspp_window(network: keras.Model) -> tuple[int, int]:
    """Returns the (height, width) of a network's pooling window in px of the last level."""
    return next(layer.window for layer in network.layers if isinstance(layer, WindowAverage))


def compile_inference(
    network: keras.Model, *, fold: bool = True
) -> Callable[[tf.Tensor | np.ndarray], dict[str, tf.Tensor]]:
    """Returns `network` as one compiled graph, for many images of one size.

    Args:
      network: of this module, loaded: later changes of its variables do not show in the graph.
      fold: whether batch normalisation is folded into the convolutions first; equal up to float32 rounding.

    Returns:
      A function of images [B, H, W, 3], uint8 or float32, to the network's dict of maps.
    """
    inference_form = fold_batch_norm(network) if fold else network
    specification = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return inference_form(images, training=False)

    graph = tf.function(predict, input_signature=[specification], autograph=False).get_concrete_function()
    return lambda images: graph(tf.cast(images, tf.float32))
