"""The stacked decoder of the MaX-DeepLab-L backbone: Wang et al., MaX-DeepLab (CVPR 2021), section 3.2.

It goes from the deepest features up to stride 4 and back. Panoptic-DeepLab reads none of it: its end points
lie before. The published checkpoints hold its variables all the same, and so does the network.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from zoo.model.backbones.residual_blocks import AXIAL_FROM_STRIDE, Block, Expansion, axial, basic
from zoo.model.blocks import Features, Kernel, Style, activated, conv_bn
from zoo.model.layers import ResizeLike

_FINEST_STRIDE = 4


def stacked_decoder(
    sums: Mapping[int, Features], output_stride: int, expansion: Expansion, style: Style
) -> Features:
    """Returns the decoder's last features, of the output stride and not activated.

    Args:
      sums: number of each stage -> its last block's features, not activated.
      output_stride: of the encoder.
      expansion: of its blocks of axial attention.
      style: of its layers.
    """
    of_stride: dict[int, list[Features]] = {}
    for number, total in sums.items():
        of_stride[min(2**number, output_stride)] = [total]
    finer = [2**n for n in range(1, 6) if _FINEST_STRIDE <= 2**n < output_stride]
    features = sums[max(sums)]
    for stage, stride in enumerate((*reversed(finer), *finer[1:], output_stride), start=1):
        name = f"encoder.decoder_stage{stage}"
        features = _fused(features, of_stride[stride], style, f"{name}_resized_fuse")
        block = Block(f"{name}.block1", features.shape[3], Kernel(3), Kernel(3), conv_bn)
        features = activated(features, style, f"{name}_resized_fuse")
        if stride >= AXIAL_FROM_STRIDE:
            features = axial(features, block, block.channels // 4, expansion, style)
        else:
            features = basic(features, block, style)
        of_stride[stride].append(features)
    return features


def _fused(features: Features, others: list[Features], style: Style, name: str) -> Features:
    """Adds features, projected and brought to the size of `others`, to these; not activated."""
    target = others[0]
    features = activated(features, style, f"{name}.input")
    if [-(-side // 2) for side in features.shape[1:3]] == list(target.shape[1:3]):
        kernel, place = Kernel(1, 2), "strided_conv_bn1"
    else:
        kernel, place = Kernel(1), "resized_conv_bn1"
    features = conv_bn(features, target.shape[3], kernel, style, f"{name}.{place}")
    features = ResizeLike(dtype=style.policy, name=f"{name}.resize")(features, target)
    return keras.layers.Add(dtype=style.policy, name=f"{name}.add")([features, *others])
