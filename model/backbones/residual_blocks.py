"""Residual blocks: of convolutions, or of axial attention. Each takes activated features.

They return the sum of branch and shortcut, not activated: activating it gives the input of the next block and
of the decoders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras

from zoo.model.backbones.axial_attention import AttentionDepths, axial_attention
from zoo.model.blocks import Features, Kernel, Style, activated, conv_bn

AXIAL_FROM_STRIDE = 16
"""In networks with axial attention, blocks on features of this stride or a larger one attend."""


class Block(NamedTuple):
    """One residual block."""

    name: str  # of its place in the network
    channels: int  # at the output
    kernel: Kernel  # of its first 3 x 3 convolution; the shortcut has its stride
    second_kernel: Kernel  # of a second 3 x 3 convolution
    convolution: Callable[..., Features]  # builds a 3 x 3 convolution with batch normalisation


class Expansion(NamedTuple):
    """Channels inside a block of axial attention, for each of the stage's base channels."""

    bottleneck: int  # at the input of the attention
    key: int
    value: int


def basic(features: Features, block: Block, style: Style) -> Features:
    """Appends two 3 x 3 convolutions (He et al. 2016, figure 5 left)."""
    first, second = f"{block.name}.conv1_bn_act", f"{block.name}.conv2_bn"
    branch = block.convolution(features, block.channels, block.kernel, style, first, style.activation)
    branch = block.convolution(branch, block.channels, block.second_kernel, style, second)
    return _add(branch, _shortcut(features, block, style), block, style)


def bottleneck(
    features: Features, block: Block, reduced_channels: int, inner_channels: int, style: Style
) -> Features:
    """Appends 1 x 1, 3 x 3, 1 x 1 convolutions (He et al. 2016, figure 5), the 3 x 3 one with the stride."""
    name = block.name
    activation = style.activation
    branch = conv_bn(features, reduced_channels, Kernel(1), style, f"{name}.conv1_bn_act", activation)
    branch = block.convolution(
        branch, inner_channels, block.kernel, style, f"{name}.conv2_bn_act", activation
    )
    branch = conv_bn(branch, block.channels, Kernel(1), style, f"{name}.conv3_bn")
    return _add(branch, _shortcut(features, block, style), block, style)


def axial(
    features: Features, block: Block, base_channels: int, expansion: Expansion, style: Style
) -> Features:
    """Appends 1 x 1, attention along both axes, 1 x 1 (Wang et al., Axial-DeepLab, figure 3)."""
    name = block.name
    channels = base_channels * expansion.bottleneck
    branch = conv_bn(features, channels, Kernel(1), style, f"{name}.conv1_bn_act", style.activation)
    depths = AttentionDepths(base_channels * expansion.key, base_channels * expansion.value)
    branch = axial_attention(branch, depths, block.kernel.strides, style, f"{name}.attention")
    branch = activated(branch, style, f"{name}.attention")
    branch = conv_bn(branch, block.channels, Kernel(1), style, f"{name}.conv3_bn")
    return _add(branch, _shortcut(features, block, style), block, style)


def _add(branch: Features, shortcut: Features, block: Block, style: Style) -> Features:
    return keras.layers.Add(dtype=style.policy, name=f"{block.name}.add")([branch, shortcut])


def _shortcut(features: Features, block: Block, style: Style) -> Features:
    strides = block.kernel.strides
    if features.shape[3] != block.channels:
        return conv_bn(features, block.channels, Kernel(1, strides), style, f"{block.name}.shortcut")
    if strides != 1:
        # A window of one pixel: every second row and column.
        name = f"{block.name}.subsample"
        return keras.layers.MaxPooling2D(1, strides, dtype=style.policy, name=name)(features)
    return features
