"""Panoptic-DeepLab: Cheng et al., A Simple, Strong, and Fast Baseline for Bottom-Up Panoptic Segmentation.

(CVPR 2020.) Two decoders on the same features, one for semantics, one for instances; three heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from zoo.model.blocks import CONVOLUTIONS, Features, Kernel, Style, conv_bn
from zoo.model.layers import ResizeLike, WindowAverage, scale_size
from zoo.registry.network_options import DecoderOptions, HeadOptions, NetworkOptions

Size = tuple[int, int]


def panoptic_deeplab(
    endpoints: Mapping[str, Features], options: NetworkOptions, window: Size, style: Style
) -> dict[str, Features]:
    """Builds decoders and heads on an encoder's end points `res1`, `res2`, ..., as `build_network` describes.

    `window` is the (height, width) of the pooling window of ASPP in px of the last level.
    """
    semantic = decoder(endpoints, options.semantic_decoder, window, style, "semantic_decoder")
    semantic_logits = head(semantic, options.semantic_head, style, "semantic")
    instance = decoder(endpoints, options.instance_decoder, window, style, "instance_decoder")
    return {
        "semantic_logits": semantic_logits,
        "center_heatmap": head(instance, options.center_head, style, "instance_center_head"),
        "offset_map": head(instance, options.regression_head, style, "instance_regression_head"),
    }


def published_aspp_window(options: NetworkOptions) -> Size:
    """Returns the pooling window of ASPP, (height, width): the last level's size for a training crop.

    In larger images the window slides over the level; on smaller ones it covers the whole level.
    """
    height, width = options.train_crop_size
    return scale_size((height, width), 1.0 / options.backbone.output_stride)


def decoder(
    endpoints: Mapping[str, Features], options: DecoderOptions, window: Size | None, style: Style, name: str
) -> Features:
    """Appends context by ASPP, then detail from lower levels, one at a time, each at that level's size.

    All after ASPP computes in float32 whatever the precision: its errors reach the maps as they are.
    """
    features = _aspp(endpoints[options.feature_key], options, window, style, f"{name}.aspp")
    style = style.in_float32()
    fuse = CONVOLUTIONS[options.decoder_conv_type]
    for number, level in enumerate(options.low_level, start=1):
        place, channels = f"{name}.low_level_conv{number}", level.channels_project
        detail = conv_bn(endpoints[level.feature_key], channels, Kernel(1), style, place, style.activation)
        features = ResizeLike(dtype=style.policy, name=f"{name}.resize{number}")(features, detail)
        concatenate = keras.layers.Concatenate(dtype=style.policy, name=f"{name}.concat{number}")
        place, channels = f"{name}.fusion_conv{number}.conv1_bn_act", options.decoder_channels
        features = fuse(concatenate([features, detail]), channels, Kernel(5), style, place, style.activation)
    return features


def _aspp(
    features: Features, options: DecoderOptions, window: Size | None, style: Style, name: str
) -> Features:
    """Appends atrous spatial pyramid pooling (Chen et al., Rethinking Atrous Convolution, 2017, 3.3).

    Without a `window` it averages over the whole level.
    """
    activation = style.activation

    def convolve(source: Features, kernel: Kernel, place: str) -> Features:
        return conv_bn(source, options.aspp_channels, kernel, style, f"{name}.{place}conv_bn_act", activation)

    if not options.atrous_rates:
        return convolve(features, Kernel(1), "proj_")
    branches = [convolve(features, Kernel(1), "")]
    for number, rate in enumerate(options.atrous_rates, start=1):
        branches.append(convolve(features, Kernel(3, atrous_rate=rate), f"aspp_conv{number}."))
    settings = {"dtype": style.policy, "name": f"{name}.aspp_pool.average"}
    if window is None:
        pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, **settings)(features)
    else:
        pooled = WindowAverage(window, **settings)(features)
    pooled = convolve(pooled, Kernel(1), "aspp_pool.")
    branches.append(ResizeLike(dtype=style.policy, name=f"{name}.aspp_pool.resize")(pooled, features))
    concatenated = keras.layers.Concatenate(dtype=style.policy, name=f"{name}.concat")(branches)
    return convolve(concatenated, Kernel(1), "proj_")


def head(features: Features, options: HeadOptions, style: Style, name: str) -> Features:
    """Appends a 5 x 5 convolution, then a plain 1 x 1 one; both compute in float32 whatever the precision."""
    first = "semantic_head_without_last_layer" if name == "semantic" else f"{name}_without_last_layer"
    style, place = style.in_float32(), f"{first}.conv1_bn_act"
    convolve = CONVOLUTIONS[options.head_conv_type]
    features = convolve(features, options.head_channels, Kernel(5), style, place, style.activation)
    return keras.layers.Conv2D(
        options.output_channels,
        1,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01),
        dtype="float32",
        name=f"{name}_last_layer",
    )(features)
