"""The pixel decoder of kMaX-DeepLab: Yu et al., k-means Mask Transformer (ECCV 2022), section 4.1.

It goes from the encoder's deepest level up to its finest; the k-means transformer reads three stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import keras

from zoo.model.backbones.residual_blocks import Block, Expansion, axial, bottleneck
from zoo.model.blocks import Features, Kernel, Style, activated, conv_bn, layer_norm
from zoo.model.layers import ResizeLike


class Stage(NamedTuple):
    """The blocks of one level."""

    level: str  # the end point of the encoder that it joins
    channels: int  # a quarter of those at the output
    blocks: int
    is_axial: bool


STAGES = (
    Stage("stage5", 512, 1, is_axial=True),
    Stage("stage4", 256, 5, is_axial=True),
    Stage("stage3", 128, 1, is_axial=False),
    Stage("stage2", 64, 1, is_axial=False),
    Stage("stage1", 32, 1, is_axial=False),
)
"""From the deepest up. The last is only in networks that read the encoder at stride 2."""

_EXPANSION = Expansion(bottleneck=2, key=1, value=2)
_KERNEL = Kernel(3, atrous_rate=2)


def pixel_decoder(endpoints: Mapping[str, Features], finest_stride: int, style: Style) -> list[Features]:
    """Returns the features of each stage, not activated, of 4 times the stage's channels.

    Args:
      endpoints: of an encoder, `stage5` to `stage1`.
      finest_stride: 4, or 2 for one more stage. That stage is of the size of `stage1`, which has stride 4 in
        ConvNeXt.
      style: of its layers.
    """
    root = "pixel_decoder"
    features, outputs = None, []
    for index, stage in enumerate(STAGES if finest_stride == 2 else STAGES[:-1]):
        level = layer_norm(endpoints[stage.level], style, f"{root}.backbone_norms.{index}")
        if features is None:
            features = level
        else:
            name = f"{root}.skip_connections.{index - 1}"
            features = _joined(features, level, stage.channels, style, name)
        for number in range(1, stage.blocks + 1):
            block = Block(
                f"{root}.stages.{index}.block{number}", 4 * stage.channels, _KERNEL, _KERNEL, conv_bn
            )
            features = activated(features, style, f"{block.name}.input")
            if stage.is_axial:
                features = axial(features, block, stage.channels, _EXPANSION, style)
            else:
                features = bottleneck(features, block, stage.channels, stage.channels, style)
        outputs.append(features)
    return outputs


def _joined(features: Features, level: Features, channels: int, style: Style, name: str) -> Features:
    """Adds features of one stage, and the encoder's level, each projected, at the size of the level."""
    parts = []
    for number, part in enumerate((features, level), start=1):
        part = activated(part, style, f"{name}.input{number}")
        parts.append(conv_bn(part, channels, Kernel(1), style, f"{name}.resized_conv_bn{number}"))
    parts[0] = ResizeLike(dtype=style.policy, name=f"{name}.resize")(parts[0], level)
    return keras.layers.Add(dtype=style.policy, name=f"{name}.add")(parts)
