"""kMaX-DeepLab: Yu et al., k-means Mask Transformer (ECCV 2022), figure 3."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.model.blocks import Features, Style
from zoo.model.decoders.kmeans_transformer import kmeans_transformer
from zoo.model.decoders.mask_predictor import PredictorOptions, predictor
from zoo.model.decoders.panoptic_deeplab import decoder, head
from zoo.model.decoders.pixel_decoder import pixel_decoder
from zoo.registry.network_options import KMaxOptions

_STAGES_READ = 3
"""Stages of the pixel decoder that the transformer reads: of stride 32, 16 and 8."""


def kmax_deeplab(
    endpoints: Mapping[str, Features], options: KMaxOptions, style: Style
) -> dict[str, Features]:
    """Builds decoders and heads on an encoder's end points, as `build_network` describes."""
    style = style.with_activation("gelu")
    heads = PredictorOptions(options.pixel_space_head, options.transformer_class_head)
    pixels = pixel_decoder(endpoints, options.high_resolution_output_stride, style)
    memory = kmeans_transformer(pixels[:_STAGES_READ], options.num_mask_slots, heads, style)
    predicted = predictor(pixels[-1], *memory, heads, style)
    semantic = endpoints["stage5"]
    if options.semantic_decoder:
        sources = {**endpoints, options.semantic_decoder.feature_key: semantic}
        semantic = decoder(sources, options.semantic_decoder, None, style, "semantic_decoder")
    return {
        **predicted._asdict(),
        "semantic_logits": head(semantic, options.semantic_head, style, "semantic"),
    }
