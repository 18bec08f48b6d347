"""The transformer decoder of kMaX-DeepLab: Yu et al., k-means Mask Transformer (ECCV 2022), section 3.

Slots attend to each other, and to the pixels by k-means: each pixel belongs to the slot whose mask is the
strongest there, and a slot gets the sum of its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.model.backend import argmax
from zoo.model.blocks import Features, Style, activated, normalize, projection_bn
from zoo.model.decoders.mask_predictor import PredictorOptions, predictor
from zoo.model.layers import Tensor, Unread, add_normalization, factor_and_shift

LAYERS_PER_STAGE = 2

_ROOT = "transformer_decoder"
_CHANNELS = 256
_HIDDEN_CHANNELS = 2048
MEMORY_HEADS = 8

MEMORY_DEPTHS = (128, 128, _CHANNELS)
"""Channels of queries, keys and values of all heads together."""

_serializable = keras.saving.register_keras_serializable(package="zoo")


@_serializable
class ClusterCenters(keras.layers.Layer):
    """Learnt slots [B, slots, channels], the same for every image of a batch."""

    def __init__(self, slots: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slots = slots

    def build(self, features_shape: tuple[int, ...]) -> None:
        """Makes the slots."""
        self.centers = self.add_weight((1, self.slots, _CHANNELS), "he_normal", name="cluster_centers")

    def call(self, features: Tensor) -> Tensor:
        """Returns the slots for each image of `features`."""
        return ops.broadcast_to(self.centers, (ops.shape(features)[0], self.slots, _CHANNELS))

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """[B, slots, channels]."""
        return keras.KerasTensor((features.shape[0], self.slots, _CHANNELS), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The number of slots, beside the base class's entries."""
        return {**super().get_config(), "slots": self.slots}


@_serializable
class KMeansUpdate(keras.layers.Layer):
    """Sums for each slot the values [B, h, w, C] of pixels whose strongest logit [B, h, w, N] is its."""

    def call(self, mask_logits: Tensor, values: Tensor) -> Tensor:
        """Returns the sums, [B, N, C]; those of a slot without pixels are 0."""
        pixels, slots = mask_logits.shape[1] * mask_logits.shape[2], mask_logits.shape[3]
        strongest = ops.reshape(argmax(mask_logits), (-1, pixels))
        belongs = ops.one_hot(strongest, slots, axis=1, dtype=self.compute_dtype)
        return ops.matmul(belongs, ops.reshape(values, (-1, pixels, values.shape[3])))

    def compute_output_spec(
        self, mask_logits: keras.KerasTensor, values: keras.KerasTensor
    ) -> keras.KerasTensor:
        """[B, N, C]."""
        shape = (values.shape[0], mask_logits.shape[3], values.shape[3])
        return keras.KerasTensor(shape, self.compute_dtype)

    def multiply_adds(self) -> int:
        """Returns how often its product multiplies and adds for one image."""
        mask_logits, values = self.input
        return int(math.prod(mask_logits.shape[1:]) * values.shape[3])


@_serializable
class MemoryAttention(keras.layers.Layer):
    """Attention of slots among themselves, of queries, keys and values [B, N, 2 * 128 + 256], to [B, N, 256].

    Similarities are normalised for each head, retrieved values for each channel, with the moving statistics.
    A constant that is added to all similarities of a query does not change their softmax.
    """

    def __init__(self, epsilon: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, projected_shape: tuple[int, ...]) -> None:
        """Makes the variables of the normalisations."""
        depth = MEMORY_DEPTHS[2] // MEMORY_HEADS
        self.similarity = add_normalization(self, (MEMORY_HEADS,), "batch_norm_similarity.")
        self.retrieved = add_normalization(self, (1, MEMORY_HEADS, 1, depth), "batch_norm_retrieved_value.")

    def call(self, projected: Tensor) -> Tensor:
        """Attends."""
        slots = projected.shape[1]
        query, key, value = (
            ops.transpose(
                ops.reshape(part, (-1, slots, MEMORY_HEADS, part.shape[2] // MEMORY_HEADS)), (0, 2, 1, 3)
            )
            for part in ops.split(projected, (MEMORY_DEPTHS[0], sum(MEMORY_DEPTHS[:2])), axis=2)
        )
        factor, _ = factor_and_shift(self.similarity, self.epsilon)
        query = query * ops.reshape(factor, (MEMORY_HEADS, 1, 1))
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))))
        factor, shift = factor_and_shift(self.retrieved, self.epsilon)
        retrieved = ops.matmul(weights, value) * factor + shift
        return ops.reshape(ops.transpose(retrieved, (0, 2, 1, 3)), (-1, slots, _CHANNELS))

    def compute_output_spec(self, projected: keras.KerasTensor) -> keras.KerasTensor:
        """[B, N, channels]."""
        return keras.KerasTensor((*projected.shape[:2], _CHANNELS), self.compute_dtype)

    def multiply_adds(self) -> int:
        """Returns how often its products multiply and add for one image."""
        return int(self.output.shape[1] ** 2 * sum(MEMORY_DEPTHS[1:]))

    def get_config(self) -> dict[str, Any]:
        """The epsilon, beside the base class's entries."""
        return {**super().get_config(), "epsilon": self.epsilon}


def kmeans_transformer(
    stages: Sequence[Features], slots: int, options: PredictorOptions, style: Style
) -> tuple[Features, Features]:
    """Returns the slots' features [B, slots, 256] for their classes, and for their masks.

    Args:
      stages: features to read, deepest first, [B, h, w, any], not activated.
      slots: how many masks there are.
      options: of the predictors.
      style: of the layers.
    """
    memory = ClusterCenters(slots, dtype=style.policy, name=_ROOT)(stages[0])
    for index in range(LAYERS_PER_STAGE * len(stages)):
        name = f"{_ROOT}.kmax_decoder.{index}.block1_transformer"
        memory = _layer(stages[index // LAYERS_PER_STAGE], memory, options, style, name)
    for_classes, for_masks = (
        projection_bn(memory, _CHANNELS, style, f"{_ROOT}.{kind}_embedding_projection", style.activation)
        for kind in ("class", "mask")
    )
    return for_classes, for_masks


def _layer(
    pixels: Features, memory: Features, options: PredictorOptions, style: Style, name: str
) -> Features:
    """Appends an update by k-means and self-attention, and a feed-forward network (figure 2)."""
    activation, settings = style.activation, {"dtype": style.policy}
    pixels = activated(pixels, style, f"{name}.pixel_input")
    pixels = projection_bn(pixels, _CHANNELS, style, f"{name}.pixel_conv1_bn_act", activation)
    slots = projection_bn(memory, _CHANNELS, style, f"{name}.memory_conv1_bn_act", activation)

    place = f"{name}.auxiliary_clustering_predictor"
    found = predictor(pixels, slots, slots, options, style, f"{place}.")
    # In training alone its classes are read.
    mask_logits = Unread(name=f"{place}.unread", **settings)(found.mask_logits, found.class_logits)
    values = projection_bn(pixels, _CHANNELS, style, f"{name}.pixel_v_conv_bn")
    update = KMeansUpdate(name=f"{name}.kmeans", **settings)(mask_logits, values)
    update = normalize(update, style, f"{name}.kmeans_memory_batch_norm_retrieved_value")
    update = projection_bn(update, _CHANNELS, style, f"{name}.kmeans_memory_conv3_bn")

    attended = projection_bn(slots, sum(MEMORY_DEPTHS), style, f"{name}.memory_qkv_conv_bn")
    place = f"{name}.memory_attention"
    attended = MemoryAttention(style.batch_norm.epsilon, name=place, **settings)(attended)
    attended = activated(attended, style, place)
    attended = projection_bn(attended, _CHANNELS, style, f"{name}.memory_conv3_bn")

    memory = keras.layers.Add(name=f"{name}.add", **settings)([memory, update, attended])
    memory = activated(memory, style, name)
    hidden = projection_bn(memory, _HIDDEN_CHANNELS, style, f"{name}.memory_ffn_conv1_bn_act", activation)
    hidden = projection_bn(hidden, _CHANNELS, style, f"{name}.memory_ffn_conv2_bn")
    memory = keras.layers.Add(name=f"{name}.memory_ffn_add", **settings)([memory, hidden])
    return activated(memory, style, f"{name}.memory_ffn")
