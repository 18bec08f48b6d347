"""Residual encoders: ResNet-50 with two stems, Wide-ResNet-41, SWideRNet with switchable atrous convolution.

A stem of stride 2 ends level `res1`; four stages of residual blocks end `res2` to `res5`, of stride 4, 8, 16
and 32. (In the wide networks a stage at stride 2 follows the stem, and ends `res1` instead.) Once
`output_stride` is reached, atrous rates replace the strides. Drop path (Huang et al., Deep Networks with
Stochastic Depth, 2016) belongs to the training alone: at inference every block is kept, unscaled, and nothing
of it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import keras

from zoo.errors import UsageError
from zoo.model.backbones.switchable_atrous import switchable_conv_bn
from zoo.model.blocks import Features, Kernel, Style, conv_bn
from zoo.registry.network_options import BackboneOptions

ROOT = "encoder"

_FLOAT32_UP_TO_STRIDE = 4
"""Shallow levels compute in float32 whatever the precision: their errors reach the decoders directly."""

_SWITCH_OF_STRIDED_BLOCK = re.compile(r"/_block1/_conv[12]_bn_act/_conv/_switch/")


def switches_of_strided_blocks(keys: Iterable[str]) -> set[str]:
    """Returns those of a network's checkpoint keys that a checkpoint at output stride 32 lacks.

    A convolution with a stride has no switch (`zoo.model.backbones.switchable_atrous`). At a smaller output
    stride the same one has no stride, and a switch that starts as zeros: at the plain convolution.
    """
    return {key for key in keys if _SWITCH_OF_STRIDED_BLOCK.search(key)}


def plain_stem(kernel_size: int, images: Features, width: float, style: Style) -> Features:
    """Appends one convolution; the first block's stride replaces the pooling of He et al. 2016, table 1."""
    return conv_bn(images, round(64 * width), Kernel(kernel_size, 2), style, f"{ROOT}.stem", "relu")


def stem_inception(images: Features, width: float, style: Style) -> Features:
    """Appends three convolutions of 3 x 3 (Szegedy et al., Inception-v4, 2017)."""
    narrow, wide = int(64 * width), int(128 * width)
    features = conv_bn(images, narrow, Kernel(3, 2), style, f"{ROOT}.stem.conv1_bn_act", "relu")
    features = conv_bn(features, narrow, Kernel(3), style, f"{ROOT}.stem.conv2_bn_act", "relu")
    return conv_bn(features, wide, Kernel(3), style, f"{ROOT}.stem.conv3_bn", "relu")


class Variant(NamedTuple):
    """A residual network at all multipliers 1.

    A wide one has basic blocks of two 3 x 3 convolutions in all stages but the last, and bottlenecks there
    that are twice as wide inside; any other has bottlenecks of 1 x 1, 3 x 3, 1 x 1 everywhere.
    """

    stem: Callable[[Features, float, Style], Features]
    blocks: tuple[int, int, int, int]  # blocks in the stages 2 to 5; the layer multiplier scales them
    blocks_at_stride_2: int  # blocks in stage 1, which are not scaled; 0 for no such stage
    wide: bool


VARIANTS = {
    # He et al., Deep Residual Learning for Image Recognition (CVPR 2016), table 1.
    "resnet50": Variant(partial(plain_stem, 7), (3, 4, 6, 3), 0, wide=False),
    # The same with the stem of Inception-v4.
    "resnet50_beta": Variant(stem_inception, (3, 4, 6, 3), 0, wide=False),
    # After Wu et al., Wider or Deeper (2019), as Chen et al. 2020 (below) take it for their baseline.
    "wide_resnet41": Variant(partial(plain_stem, 3), (3, 6, 3, 3), 3, wide=True),
    # Chen et al., Scaling Wide Residual Networks for Panoptic Segmentation (2020): SWideRNet-SAC-(1, 1, l)
    # has the width multipliers 1 and 1, and the layer multiplier l.
    "swidernet": Variant(partial(plain_stem, 3), (3, 6, 3, 3), 3, wide=True),
}
"""Name of a backbone -> its variant. Strides are taken by the first 3 x 3 convolution of a stage."""


def residual(images: Features, backbone: BackboneOptions, style: Style) -> dict[str, Features]:
    """Returns the end points `res1` ... `res5`, activated, of the encoder on images [B, H, W, 3] of -1..1.

    If `use_sac_beyond_stride` is positive, switchable atrous convolution replaces the 3 x 3 convolutions of
    the stages of that stride and beyond, before atrous rates replace strides.

    Raises:
      UsageError: squeeze-and-excite, which no published network of this family has.
    """
    if backbone.use_squeeze_and_excite:
        raise UsageError(
            f"{backbone.name}: use_squeeze_and_excite: expected false for this family, found true"
        )
    variant = VARIANTS[backbone.name]
    features = variant.stem(images, backbone.stem_width_multiplier, style.in_float32())
    endpoints = {"res1": features}
    scaled = (int(blocks * backbone.backbone_layer_multiplier) for blocks in variant.blocks)
    for number, blocks in enumerate((variant.blocks_at_stride_2, *scaled), start=1):
        if blocks:
            stage_style = style.in_float32() if 2**number <= _FLOAT32_UP_TO_STRIDE else style
            features = _stage(features, number, blocks, variant, backbone, stage_style)
            endpoints[f"res{number}"] = features
    return endpoints


def _stage(
    features: Features, number: int, blocks: int, variant: Variant, backbone: BackboneOptions, style: Style
) -> Features:
    """Appends residual blocks of one resolution, whose stride is `2 ** number` or the output stride."""
    stride = 2**number
    width = backbone.stem_width_multiplier if number == 1 else backbone.backbone_width_multiplier
    base_channels = round(16 * stride * width)
    use_sac = stride >= backbone.use_sac_beyond_stride > 0
    atrous_rate = max(1, stride // backbone.output_stride)
    for index in range(blocks):
        is_first = index == 0
        strides = 2 if is_first and number > 1 and stride <= backbone.output_stride else 1
        # The first block's features still have the rate of the stage before.
        first_rate = max(1, stride // 2 // backbone.output_stride) if is_first else atrous_rate
        block = Block(
            name=f"{ROOT}.stage{number}.block{index + 1}",
            channels=4 * base_channels,
            kernel=Kernel(3, strides, first_rate),
            second_kernel=Kernel(3, 1, atrous_rate),
            convolution=switchable_conv_bn if use_sac else conv_bn,
        )
        if not variant.wide:
            features = bottleneck(features, block, base_channels, base_channels, style)
        elif stride < 32:
            features = basic(features, block, style)
        else:
            features = bottleneck(features, block, base_channels, 2 * base_channels, style)
    return features


class Block(NamedTuple):
    """One residual block."""

    name: str  # of its place in the network
    channels: int  # at the output
    kernel: Kernel  # of its first 3 x 3 convolution; the shortcut has its stride
    second_kernel: Kernel  # of a second 3 x 3 convolution
    convolution: Callable[..., Features]  # builds a 3 x 3 convolution with batch normalisation


def basic(features: Features, block: Block, style: Style) -> Features:
    """Appends two 3 x 3 convolutions (He et al. 2016, figure 5 left)."""
    first, second = f"{block.name}.conv1_bn_act", f"{block.name}.conv2_bn"
    branch = block.convolution(features, block.channels, block.kernel, style, first, "relu")
    branch = block.convolution(branch, block.channels, block.second_kernel, style, second)
    return _add(branch, _shortcut(features, block, style), block, style)


def bottleneck(
    features: Features, block: Block, reduced_channels: int, inner_channels: int, style: Style
) -> Features:
    """Appends 1 x 1, 3 x 3, 1 x 1 convolutions (He et al. 2016, figure 5), the 3 x 3 one with the stride."""
    name = block.name
    branch = conv_bn(features, reduced_channels, Kernel(1), style, f"{name}.conv1_bn_act", "relu")
    branch = block.convolution(branch, inner_channels, block.kernel, style, f"{name}.conv2_bn_act", "relu")
    branch = conv_bn(branch, block.channels, Kernel(1), style, f"{name}.conv3_bn")
    return _add(branch, _shortcut(features, block, style), block, style)


def _shortcut(features: Features, block: Block, style: Style) -> Features:
    strides = block.kernel.strides
    if features.shape[3] != block.channels:
        return conv_bn(features, block.channels, Kernel(1, strides), style, f"{block.name}.shortcut")
    if strides != 1:
        # A window of one pixel: every second row and column.
        name = f"{block.name}.subsample"
        return keras.layers.MaxPooling2D(1, strides, dtype=style.policy, name=name)(features)
    return features


def _add(branch: Features, shortcut: Features, block: Block, style: Style) -> Features:
    """Adds branch and shortcut and activates the sum: the input of the next block and of the decoders."""
    total = keras.layers.Add(dtype=style.policy, name=f"{block.name}.add")([branch, shortcut])
    return keras.layers.ReLU(dtype=style.policy, name=f"{block.name}.relu")(total)
