"""A network with all that surrounds it as one graph: from a picture of any size to its panoptic map."""

from __future__ import annotations

import keras
import tensorflow as tf

from zoo.model.postprocess.center_offset_graph import (
    postprocess_graph_full_resolution,
    upsample,
    upsample_offsets,
)
from zoo.model.postprocess.options import PostprocessOptions
from zoo.model.preprocess import network_input
from zoo.registry.network_options import EvaluationOptions
from zoo.runtimes.tensorflow_graph import tensorflow_variables

_LABELS = ("panoptic_pred", "semantic_pred", "instance_pred")


class WholePipeline(tf.Module):
    """What the reference's `export_model.py` writes: its arguments, its outputs, and their names.

    Attributes:
      function: concrete, of one image `input_tensor` [H, W, 3] uint8, RGB, to batches of one at its size:
        `panoptic_pred`, `semantic_pred`, `instance_pred` int32, `instance_center_pred`, `instance_scores`,
        `center_heatmap`, all [1, H, W], `semantic_probs` [1, H, W, classes], `offset_map` [1, H, W, 2] in px
        of the network's input; and `semantic_logits` at the size of that.
    """

    def __init__(
        self,
        network: keras.Model,
        size: tuple[int, int],
        evaluation: EvaluationOptions,
        options: PostprocessOptions,
    ) -> None:
        """Traces the graph.

        Args:
          network: of `zoo.model.build`.
          size: (height, width) in px of its input.
          evaluation: how images are resized to that.
          options: how maps are merged.
        """
        super().__init__()
        self.own_variables = tensorflow_variables(network)

        def whole(input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
            raw_size = tf.shape(input_tensor)[:2]
            resized = _resized_size(raw_size, size, evaluation)
            image = network_input(input_tensor, resized, size)
            outputs = _merged(network(image[None], training=False), size, options)
            logits = outputs.pop("semantic_logits")
            cut = {name: values[:, : resized[0], : resized[1]] for name, values in outputs.items()}
            restored = tf.cond(
                tf.reduce_all(resized == raw_size),
                lambda: cut,
                lambda: {name: _restored(name, values, raw_size) for name, values in cut.items()},
            )
            return {**restored, "semantic_logits": logits}

        image = tf.TensorSpec([None, None, 3], tf.uint8, name="input_tensor")
        self.function = tf.function(whole, input_signature=[image], autograph=False).get_concrete_function()


def _merged(
    maps: dict[str, tf.Tensor], size: tuple[int, int], options: PostprocessOptions
) -> dict[str, tf.Tensor]:
    logits = upsample(maps["semantic_logits"], size)
    probabilities = tf.nn.softmax(logits)
    heatmap = upsample(maps["center_heatmap"], size)
    offsets = upsample_offsets(maps["offset_map"], size)
    merged = postprocess_graph_full_resolution(probabilities, heatmap, offsets, options)
    return {
        "panoptic_pred": merged["panoptic"],
        "semantic_pred": merged["semantic"],
        "instance_pred": merged["instance"],
        "instance_center_pred": merged["instance_center"],
        "instance_scores": merged["instance_score_map"],
        "semantic_probs": probabilities,
        "center_heatmap": heatmap[..., 0],
        "offset_map": offsets,
        "semantic_logits": logits,
    }


def _resized_size(
    raw_size: tf.Tensor, input_size: tuple[int, int], evaluation: EvaluationOptions
) -> tf.Tensor:
    """Returns what `zoo.model.preprocess.entry_resized_size` does, for a size that the graph finds out."""
    is_published = input_size == evaluation.crop_size
    least = evaluation.min_resize_value if is_published else (min(input_size),)
    most = evaluation.max_resize_value if is_published and any(evaluation.max_resize_value) else input_size
    size = raw_size
    if any(evaluation.min_resize_value):
        size = _scaled(size, tf.reduce_max(tf.constant(least, tf.float64) / tf.cast(size, tf.float64)))
    shrinking = tf.reduce_min(tf.constant(most, tf.float64) / tf.cast(size, tf.float64))
    return _scaled(size, tf.minimum(tf.constant(1.0, tf.float64), shrinking))


def _scaled(size: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    sides = tf.floor(tf.cast(size, tf.float32) * tf.cast(factor, tf.float32))
    return tf.maximum(tf.cast(sides, tf.int32), 1)


def _restored(name: str, values: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes labels [1, h, w] to the nearest pixel, and other maps [1, h, w] or [1, h, w, C] bilinearly."""
    maps = values if values.shape.rank == 4 else values[..., None]
    resize = tf.raw_ops.ResizeNearestNeighbor if name in _LABELS else tf.raw_ops.ResizeBilinear
    resized = resize(images=maps, size=size, align_corners=True)
    return resized if values.shape.rank == 4 else resized[..., 0]
