"""MobileNetV3 encoders: Howard et al., Searching for MobileNetV3 (ICCV 2019).

Only the layers up to the last convolution before pooling are used. They end five levels, `res1` to `res5`, of
stride 2, 4, 8, 16 and 32; once `output_stride` is reached, atrous rates replace the strides.
"""

from __future__ import annotations

from typing import NamedTuple

import keras

from zoo.model.blocks import (
    Activation,
    Features,
    Kernel,
    Style,
    conv_bn,
    depthwise_conv_bn,
    make_divisible,
    squeeze_and_excite,
)
from zoo.registry.network_options import BackboneOptions


class PaperRow(NamedTuple):
    """A row of the paper's table."""

    kernel_size: int  # of the depthwise convolution, or of the only one
    expansion: float | None  # channels inside the block per channel at its input; None: a plain convolution
    channels: int  # at the output
    squeeze_excite: bool
    activation: Activation  # of all but the block's last convolution
    strides: int
    endpoint: str | None = None  # name of the level that ends here


SMALL = (  # Table 2 of the paper.
    PaperRow(3, None, 16, False, "hard_swish", 2, "res1"),
    PaperRow(3, 1, 16, True, "relu", 2, "res2"),
    PaperRow(3, 72 / 16, 24, False, "relu", 2),
    PaperRow(3, 88 / 24, 24, False, "relu", 1, "res3"),
    PaperRow(5, 4, 40, True, "hard_swish", 2),
    PaperRow(5, 6, 40, True, "hard_swish", 1),
    PaperRow(5, 6, 40, True, "hard_swish", 1),
    PaperRow(5, 3, 48, True, "hard_swish", 1),
    PaperRow(5, 3, 48, True, "hard_swish", 1, "res4"),
    PaperRow(5, 6, 96, True, "hard_swish", 2),
    PaperRow(5, 6, 96, True, "hard_swish", 1),
    PaperRow(5, 6, 96, True, "hard_swish", 1),
    PaperRow(1, None, 576, False, "hard_swish", 1, "res5"),
)

LARGE = (  # Table 1 of the paper.
    PaperRow(3, None, 16, False, "hard_swish", 2),
    PaperRow(3, 1, 16, False, "relu", 1, "res1"),
    PaperRow(3, 4, 24, False, "relu", 2),
    PaperRow(3, 3, 24, False, "relu", 1, "res2"),
    PaperRow(5, 3, 40, True, "relu", 2),
    PaperRow(5, 3, 40, True, "relu", 1),
    PaperRow(5, 3, 40, True, "relu", 1, "res3"),
    PaperRow(3, 6, 80, False, "hard_swish", 2),
    PaperRow(3, 2.5, 80, False, "hard_swish", 1),
    PaperRow(3, 2.3, 80, False, "hard_swish", 1),
    PaperRow(3, 2.3, 80, False, "hard_swish", 1),
    PaperRow(3, 6, 112, True, "hard_swish", 1),
    PaperRow(3, 6, 112, True, "hard_swish", 1, "res4"),
    PaperRow(5, 6, 160, True, "hard_swish", 2),
    PaperRow(5, 6, 160, True, "hard_swish", 1),
    PaperRow(5, 6, 160, True, "hard_swish", 1),
    PaperRow(1, None, 960, False, "hard_swish", 1, "res5"),
)

VARIANTS = {"mobilenet_v3_small": SMALL, "mobilenet_v3_large": LARGE}

_FLOAT32_UP_TO_STRIDE = 8
"""Shallow levels compute in float32 whatever the precision: 1 % of the work, most of bfloat16's error."""


def mobilenet_v3(images: Features, backbone: BackboneOptions, style: Style) -> dict[str, Features]:
    """Returns the end points `res1` ... `res5` of the encoder on images [B, H, W, 3] of values -1..1.

    `low_level_endpoints` says which output of an inverted bottleneck ends a level: `block_output`, or
    `depthwise_output`, the wider features after its depthwise convolution. `res5`, a plain convolution, is
    the same for both kinds.
    """
    endpoints = {}
    features, stride, atrous_rate = images, 1, 1
    for index, row in enumerate(VARIANTS[backbone.name]):
        name = f"encoder.blocks.{index}"
        channels = make_divisible(row.channels * backbone.backbone_width_multiplier)
        # A stride that is not taken becomes an atrous rate of the blocks that follow, not of its own block.
        keeps_size = stride == backbone.output_stride
        strides, rate = (1, atrous_rate) if keeps_size else (row.strides, 1)
        if keeps_size:
            atrous_rate *= row.strides
        else:
            stride *= row.strides
        block_style = style.in_float32() if stride <= _FLOAT32_UP_TO_STRIDE else style
        if row.expansion is None:
            kernel = Kernel(row.kernel_size, strides)
            endpoint = features = conv_bn(features, channels, kernel, block_style, name, row.activation)
        else:
            kernel = Kernel(row.kernel_size, strides, rate)
            features, depthwise_output = _inverted_bottleneck(
                features, row, channels, kernel, block_style, name
            )
            endpoint = depthwise_output if backbone.low_level_endpoints == "depthwise_output" else features
        if row.endpoint is not None:
            endpoints[row.endpoint] = endpoint
    return endpoints


def _inverted_bottleneck(
    features: Features, row: PaperRow, channels: int, kernel: Kernel, style: Style, name: str
) -> tuple[Features, Features]:
    """Expand, filter each channel, gate, project; returns (block output, depthwise output)."""
    shortcut = features
    assert row.expansion is not None
    if row.expansion > 1:
        expanded = make_divisible(shortcut.shape[3] * row.expansion)
        features = conv_bn(features, expanded, Kernel(1), style, f"{name}.conv1_bn_act", row.activation)
    features = depthwise_output = depthwise_conv_bn(
        features, kernel, style, f"{name}.conv2_bn_act", row.activation
    )
    if row.squeeze_excite:
        reduced_channels = make_divisible(max(1, int(features.shape[3] * 0.25)))
        features = squeeze_and_excite(features, reduced_channels, f"{name}.squeeze_excitation")
    features = conv_bn(features, channels, Kernel(1), style, f"{name}.conv3_bn")
    # A block whose stride became an atrous rate has no shortcut either.
    if row.strides == 1 and shortcut.shape[3] == channels:
        features = keras.layers.Add(dtype=style.policy, name=f"{name}.add")([features, shortcut])
    return features, depthwise_output
