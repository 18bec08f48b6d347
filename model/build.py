"""Networks from their hyper-parameters: images go in, maps of a fraction of their size come out.

Up-sampling, arg-max and grouping belong to `zoo.model.postprocess`.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from zoo.errors import UsageError
from zoo.model.backbones import convnext, mobilenet_v3, residual
from zoo.model.backend import SharedZeros
from zoo.model.blocks import PRECISIONS, Features, Style
from zoo.model.decoders.kmax_deeplab import kmax_deeplab
from zoo.model.decoders.panoptic_deeplab import panoptic_deeplab, published_aspp_window
from zoo.model.images import ImageNetwork
from zoo.model.layers import NormalizeImage
from zoo.registry.network_options import EncoderOptions, KMaxOptions, NetworkOptions

BACKBONES: dict[str, Callable[..., dict[str, Features]]] = {
    **dict.fromkeys(mobilenet_v3.VARIANTS, mobilenet_v3.mobilenet_v3),
    **dict.fromkeys(residual.VARIANTS, residual.residual),
    **dict.fromkeys(convnext.VARIANTS, convnext.convnext),
}
"""Name of a backbone -> the function that builds it."""


def build_network(
    options: NetworkOptions | KMaxOptions,
    input_size: tuple[int, int] | None = None,
    *,
    aspp_window: tuple[int, int] | None = None,
    precision: str = "float32",
    random_values: bool = True,
) -> keras.Model:
    """Builds a Panoptic-DeepLab or kMaX-DeepLab network, not loaded.

    Args:
      options: hyper-parameters.
      input_size: (height, width) of images in px; None for the published crop. Maps and images align where
        `size - 1` is a multiple of the output stride.
      aspp_window: (height, width) of the pooling window in px of the last level; None for the published rule,
        `published_aspp_window(options)`, whatever the input size.
      precision: "float32", or "bfloat16" for the dense convolutions of the deep encoder and of ASPP, most
        of the work, in bfloat16. All else, variables and outputs are float32. kMaX-DeepLab has no such form.
      random_values: False for kernels of zeros: cheaper, where a checkpoint follows.

    Returns:
      A network of images [B, H, W, 3], uint8 or float32, RGB 0..255, to a dict of float32 maps with
      h = ceil(H / 4), w = ceil(W / 4):
        `semantic_logits` [B, h, w, classes];
        `center_heatmap` [B, h, w, 1], 1 at an instance's center;
        `offset_map` [B, h, w, 2], (y, x) from a pixel to its instance's center, in px of this map.
      From kMaX-DeepLab, whose maps have the size of the finest level that its pixel decoder reads, instead:
        `pixel_features` [B, h, w, channels], of length 1;
        `mask_logits` [B, h, w, slots];
        `class_logits` [B, slots, classes], void the last;
        `semantic_logits` [B, h', w', classes], of an auxiliary head that only training reads.

    Raises:
      UsageError: an unknown backbone or precision, one that the network lacks, or an input without size.

    Source: the paper's figure 2; hyper-parameters and names from google-research/deeplab2.
    """
    style = _style(options, precision, random_values)
    images, endpoints = _encoder(options, input_size, style)
    if isinstance(options, KMaxOptions):
        return ImageNetwork(images, kmax_deeplab(endpoints, options, style), name=options.kind)
    maps = panoptic_deeplab(endpoints, options, aspp_window or published_aspp_window(options), style)
    return ImageNetwork(images, maps, name=options.kind)


def build_encoder(
    options: EncoderOptions,
    input_size: tuple[int, int] | None = None,
    *,
    precision: str = "float32",
    random_values: bool = True,
) -> keras.Model:
    """Builds the encoder alone: images as for `build_network` to end points `res1`, `res2`, ... by name."""
    images, found = _encoder(options, input_size, _style(options, precision, random_values))
    endpoints = {name: features for name, features in found.items() if name.startswith("res")}
    return ImageNetwork(images, endpoints, name=options.backbone.name)


def _style(options: EncoderOptions, precision: str, random_values: bool) -> Style:
    if precision not in PRECISIONS:
        raise UsageError(f"precision: expected {' or '.join(PRECISIONS)}, found {precision!r}")
    if precision != "float32" and options.backbone.is_kmax:
        raise UsageError(
            f"precision: expected float32 for {options.backbone.name}, found {precision}: "
            "rounding changes which slot a pixel belongs to"
        )
    if random_values:
        return Style(options.batch_norm, precision)
    zeros = SharedZeros()
    return Style(options.batch_norm, precision, kernel_initializer=zeros, zeros=zeros)


def _encoder(
    options: EncoderOptions, input_size: tuple[int, int] | None, style: Style
) -> tuple[Features, dict[str, Features]]:
    if options.backbone.name not in BACKBONES:
        raise UsageError(f"backbone: expected one of {', '.join(BACKBONES)}, found {options.backbone.name!r}")
    height, width = input_size or options.train_crop_size
    if min(height, width) < 2:
        raise UsageError(f"input size: expected at least 2 x 2 pixels, found {height} x {width}")
    images = keras.Input((height, width, 3), name="images")
    normalized = NormalizeImage(name="normalize")(images)
    return images, BACKBONES[options.backbone.name](normalized, options.backbone, style)
