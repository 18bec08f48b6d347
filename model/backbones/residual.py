"""Residual encoders: ResNet-50 with two stems, Wide-ResNet-41, SWideRNet, of convolutions or axial attention.

A stem of stride 2 ends level `res1`; four stages of residual blocks end `res2` to `res5`, of stride 4, 8, 16
and 32. (In the wide networks a stage at stride 2 follows the stem, and ends `res1` instead.) Once
`output_stride` is reached, atrous rates replace the strides. In axial networks the blocks on features of
stride 16 or more attend along both axes; the block that reaches stride 16 still convolves. Drop path (Huang
et al., Deep Networks with Stochastic Depth, 2016) belongs to the training alone: at inference every block is
kept, unscaled, and nothing of it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from zoo.errors import UsageError
from zoo.model.backbones.residual_blocks import (
    AXIAL_FROM_STRIDE,
    Block,
    Expansion,
    axial,
    basic,
    bottleneck,
)
from zoo.model.backbones.stacked_decoder import stacked_decoder
from zoo.model.backbones.switchable_atrous import switchable_conv_bn
from zoo.model.blocks import Features, Kernel, Style, activated, conv_bn
from zoo.model.layers import Unread
from zoo.registry.network_options import BackboneOptions

ROOT = "encoder"

_FLOAT32_UP_TO_STRIDE = 4
"""Shallow levels compute in float32 whatever the precision: their errors reach the decoders directly."""

_DEPENDS_ON_OUTPUT_STRIDE = re.compile(r"/_block1/_conv[12]_bn_act/_conv/_switch/|^encoder/_decoder_stage\d")


def variables_of_the_output_stride(keys: Iterable[str]) -> set[str]:
    """Returns those of a network's checkpoint keys that a checkpoint of another output stride may lack.

    A convolution with a stride has no switch (`zoo.model.backbones.switchable_atrous`). At a smaller output
    stride the same one has no stride, and a switch that starts as zeros: at the plain convolution. A stacked
    decoder has other stages at another output stride; no output of ours depends on it.
    """
    return {key for key in keys if _DEPENDS_ON_OUTPUT_STRIDE.search(key)}


def plain_stem(kernel_size: int, images: Features, width: float, style: Style) -> Features:
    """Appends one convolution; the first block's stride replaces the pooling of He et al. 2016, table 1."""
    return conv_bn(images, round(64 * width), Kernel(kernel_size, 2), style, f"{ROOT}.stem")


def stem_inception(images: Features, width: float, style: Style) -> Features:
    """Appends three convolutions of 3 x 3 (Szegedy et al., Inception-v4, 2017)."""
    narrow, wide = int(64 * width), int(128 * width)
    activation = style.activation
    features = conv_bn(images, narrow, Kernel(3, 2), style, f"{ROOT}.stem.conv1_bn_act", activation)
    features = conv_bn(features, narrow, Kernel(3), style, f"{ROOT}.stem.conv2_bn_act", activation)
    return conv_bn(features, wide, Kernel(3), style, f"{ROOT}.stem.conv3_bn")


class Variant(NamedTuple):
    """A residual network at all multipliers 1.

    A wide one has basic blocks of two 3 x 3 convolutions in all stages but the last, and bottlenecks there
    that are twice as wide inside; any other has bottlenecks of 1 x 1, 3 x 3, 1 x 1 everywhere. With
    `attention`, blocks of axial attention replace both from stride 16 on.
    """

    stem: Callable[[Features, float, Style], Features]
    blocks: tuple[int, int, int, int]  # blocks in the stages 2 to 5; the layer multiplier scales them
    blocks_at_stride_2: int  # blocks in stage 1, which are not scaled; 0 for no such stage
    wide: bool
    attention: Expansion | None = None
    has_stacked_decoder: bool = False
    activation: str = "relu"


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
    # The same with axial attention (Wang et al., Axial-DeepLab, ECCV 2020): Axial-SWideRNet-(1, 1, l).
    "axial_swidernet": Variant(
        partial(plain_stem, 3), (3, 6, 3, 3), 3, wide=True, attention=Expansion(4, 2, 4)
    ),
    # Wang et al., MaX-DeepLab (CVPR 2021): the backbones of MaX-DeepLab-S and -L, without the memory path.
    "max_deeplab_s_backbone": Variant(
        stem_inception, (3, 4, 6, 3), 0, wide=False, attention=Expansion(2, 1, 2)
    ),
    "max_deeplab_l_backbone": Variant(
        partial(plain_stem, 3), (3, 6, 3, 3), 3, True, Expansion(4, 2, 4), has_stacked_decoder=True
    ),
    # Yu et al., k-means Mask Transformer (ECCV 2022), section 4.1.
    "kmax_resnet50": Variant(partial(plain_stem, 7), (3, 4, 6, 3), 0, wide=False),
    "kmax_axial_resnet50": Variant(
        stem_inception, (3, 4, 6, 3), 0, wide=False, attention=Expansion(2, 1, 2), activation="gelu"
    ),
}
"""Name of a backbone -> its variant. Strides are taken by the first 3 x 3 convolution of a stage."""


def residual(images: Features, backbone: BackboneOptions, style: Style) -> dict[str, Features]:
    """Returns the end points of the encoder on images [B, H, W, 3] of -1..1.

    They are `res1` ... `res5`, activated, and `stage1` ... `stage5`, the same before their activation.

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
    style = style.with_activation(variant.activation)
    total = variant.stem(images, backbone.stem_width_multiplier, style.in_float32())
    features = activated(total, style.in_float32(), f"{ROOT}.stem")
    endpoints = {"stage1": total, "res1": features}
    scaled = (int(blocks * backbone.backbone_layer_multiplier) for blocks in variant.blocks)
    for number, blocks in enumerate((variant.blocks_at_stride_2, *scaled), start=1):
        if blocks:
            stage_style = style.in_float32() if 2**number <= _FLOAT32_UP_TO_STRIDE else style
            features, total = _stage(features, number, blocks, variant, backbone, stage_style)
            endpoints |= {f"stage{number}": total, f"res{number}": features}
    if variant.has_stacked_decoder:
        assert variant.attention
        sums = {number: endpoints[f"stage{number}"] for number in range(1, 6)}
        decoded = stacked_decoder(sums, backbone.output_stride, variant.attention, style)
        endpoints["res5"] = Unread(dtype=style.policy, name=f"{ROOT}.unread")(features, decoded)
    return endpoints


def _stage(
    features: Features, number: int, blocks: int, variant: Variant, backbone: BackboneOptions, style: Style
) -> tuple[Features, Features]:
    """Appends residual blocks of one resolution, whose stride is `2 ** number` or the output stride.

    Returns the last block's features, activated and not.
    """
    total = features
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
        if variant.attention and (stride // 2 if is_first else stride) >= AXIAL_FROM_STRIDE:
            total = axial(features, block, base_channels, variant.attention, style)
        elif not variant.wide:
            total = bottleneck(features, block, base_channels, base_channels, style)
        elif stride < 32:
            total = basic(features, block, style)
        else:
            total = bottleneck(features, block, base_channels, 2 * base_channels, style)
        # The pixel decoder of kMaX-DeepLab reads the last sum, too.
        is_read = backbone.is_kmax and index == blocks - 1 and style.activation == "relu"
        features = activated(total, style, block.name, "separate_relu" if is_read else None)
    return features, total
