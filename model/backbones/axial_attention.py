"""Axial attention: Wang et al., Axial-DeepLab (ECCV 2020), section 3 and figure 2.

Two-dimensional self-attention in two steps, along the height and along the width. Queries, keys and values
each know how far apart two positions are, by a table of relative positions that all heads share.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from zoo.errors import UsageError
from zoo.model.blocks import Features, Style
from zoo.model.layers import Tensor, add_normalization, factor_and_shift

HEADS = 8

LONGEST = 129
"""Positions along an axis that the published networks can attend to: 2049 px at stride 16."""

_POSITION_ROWS = 509
"""Rows of a table of relative positions: distances from -254 to 254."""

_serializable = keras.saving.register_keras_serializable(package="zoo")


class AttentionDepths(NamedTuple):
    """Channels of all heads together."""

    key: int
    value: int


@_serializable
class AxialAttention(keras.layers.Layer):
    """Attention along one axis of [B, h, w, C], to [B, h, w, depths.value].

    Three similarities of query and key, by content and by position, and two retrieved values, by content and
    by position, are each normalised with the moving statistics. That is linear, and computed as factors of
    what is smaller: of the projection's kernel, the queries, the keys and the retrieved positions. A constant
    that is added to all similarities of a query does not change their softmax.

    Attributes:
      axis: 1 for the height, 2 for the width.
      depths: channels of the keys, which queries have too, and of the values.
      epsilon: of the batch normalisations.
      projection_dtype: type in which queries, keys and values are projected; all else is in float32.
    """

    def __init__(
        self,
        axis: int,
        depths: tuple[int, int],
        epsilon: float,
        projection_dtype: str = "float32",
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.axis = axis
        self.depths = AttentionDepths(*depths)
        self.epsilon = epsilon
        self.projection_dtype = projection_dtype
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, features_shape: tuple[int, ...]) -> None:
        """Makes the variables, named as in a checkpoint, without the underscores."""
        key_depth, value_depth = (depth // HEADS for depth in self.depths)
        channels = 2 * self.depths.key + self.depths.value
        self.qkv_kernel = self.add_weight(
            (features_shape[-1], channels), self.kernel_initializer, name="qkv_kernel"
        )
        self.normalizations = {
            name: add_normalization(self, shape, f"batch_norm_{name}.")
            for name, shape in (
                ("qkv", (channels,)),
                ("similarity", (3, 1, HEADS, 1, 1)),
                ("retrieved_output", (2, 1, HEADS, 1, value_depth)),
            )
        }
        self.positions = {
            name: self.add_weight(
                (_POSITION_ROWS, depth), self.kernel_initializer, name=f"{name}_rpe.embeddings"
            )
            for name, depth in (("query", key_depth), ("key", key_depth), ("value", value_depth))
        }

    def __call__(self, features: Any, *args: Any, **kwargs: Any) -> Any:
        """Attends as Keras calls a layer.

        Raises:
          UsageError: the axis has more positions than the published networks can attend to.
        """
        length = features.shape[self.axis]
        if length > LONGEST:
            raise UsageError(
                f"{self.name}: expected at most {LONGEST} positions along an axis, as in training, found "
                f"{length}; use images of at most {16 * (LONGEST - 1) + 1} pixels a side at output stride 16"
            )
        return super().__call__(features, *args, **kwargs)

    def call(self, features: Tensor) -> Tensor:
        """Attends along the axis of `features`."""
        size = tuple(features.shape[1:3])
        factors, shifts = self.factors_and_shifts()
        query, key, value = self._projected(features, *self.projection(factors, shifts))
        query_positions, key_positions, value_positions = (
            self._by_distance(name, size[self.axis - 1]) for name in ("query", "key", "value")
        )
        own, other = ("blnhd", "bmnhd") if self.axis == 1 else ("bnlhd", "bnmhd")
        content, by_query, by_key = ops.split(ops.reshape(factors["similarity"], (3, HEADS, 1)), 3)
        similarity = (
            ops.einsum(f"{own},{other}->bnhlm", query * content, key)
            + ops.einsum(f"{own},lmd->bnhlm", query * by_query, query_positions)
            + ops.einsum(f"{other},lmd->bnhlm", key * by_key, key_positions)
        )
        weights = ops.softmax(similarity)
        by_content = ops.einsum(f"bnhlm,{other}->{own}", weights, value)
        by_position = ops.einsum(f"bnhlm,lmd->{own}", weights, value_positions)
        position_factors = ops.reshape(factors["retrieved_output"][1], (HEADS, -1))
        retrieved = by_content + by_position * position_factors
        return ops.reshape(retrieved, (-1, *size, self.depths.value))

    def factors_and_shifts(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns what each normalisation multiplies with, and what it adds."""
        factors, shifts = {}, {}
        for name, normalization in self.normalizations.items():
            factors[name], shifts[name] = factor_and_shift(normalization, self.epsilon)
        return factors, shifts

    def projection(self, factors: dict[str, Tensor], shifts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the kernel [C, channels] and the bias of queries, keys and values, normalised.

        They come in this order, values as they are retrieved.
        """
        # A query's weights add up to 1: what is added to all values is added to what is retrieved.
        key_channels = 2 * self.depths.key
        of_values = ops.reshape(factors["retrieved_output"][0], (-1,))
        of_channels = ops.concatenate([ops.ones(key_channels, self.compute_dtype), of_values])
        to_values = ops.reshape(ops.sum(shifts["retrieved_output"], 0), (-1,))
        to_channels = ops.concatenate([ops.zeros(key_channels, self.compute_dtype), to_values])
        kernel = self.qkv_kernel * (factors["qkv"] * of_channels)
        return kernel, shifts["qkv"] * of_channels + to_channels

    def _projected(self, features: Tensor, kernel: Tensor, bias: Tensor) -> list[Tensor]:
        """Returns queries, keys and values, [B, h, w, heads, depth] each; values ready to be retrieved."""
        # One product each for queries, keys and values: splitting a common one would copy it.
        flat = ops.reshape(ops.cast(features, self.projection_dtype), (-1, features.shape[3]))
        parts = []
        for first, end in self.parts_of_channels():
            product = ops.matmul(flat, ops.cast(kernel[:, first:end], self.projection_dtype))
            projected = ops.cast(product, self.compute_dtype) + bias[first:end]
            parts.append(ops.reshape(projected, (-1, *features.shape[1:3], HEADS, (end - first) // HEADS)))
        return parts

    def parts_of_channels(self) -> list[tuple[int, int]]:
        """Returns where queries, keys and values begin and end among the channels of the projection."""
        ends = np.cumsum([self.depths.key, self.depths.key, self.depths.value]).tolist()
        return list(zip([0, *ends], ends, strict=False))

    def rows_by_distance(self, length: int) -> np.ndarray:
        """Returns the row of a table of positions for each pair of positions, [own, other]."""
        distances = np.arange(length)[None, :] - np.arange(length)[:, None]
        return distances + _POSITION_ROWS // 2

    def _by_distance(self, name: str, length: int) -> Tensor:
        """Returns the rows of a table for each pair of positions, [own, other, depth]."""
        return ops.take(self.positions[name], self.rows_by_distance(length), axis=0)

    def multiply_adds(self) -> int:
        """Returns how often its matrix products multiply and add for one image."""
        height, width = size = self.output.shape[1:3]
        # Three similarities and two retrieved values of each pair.
        of_a_pair = 3 * self.depths.key + 2 * self.depths.value
        return int(height * width * (math.prod(self.qkv_kernel.shape) + size[self.axis - 1] * of_a_pair))

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """[B, h, w, depths.value]."""
        return keras.KerasTensor((*features.shape[:3], self.depths.value), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, beside the base class's entries."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "depths": tuple(self.depths),
            "epsilon": self.epsilon,
            "projection_dtype": self.projection_dtype,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def axial_attention(
    features: Features, depths: AttentionDepths, strides: int, style: Style, name: str
) -> Features:
    """Appends attention along the height, `name.height_axis`, then along the width.

    With a stride, each step attends to all positions and keeps every second one of its own axis.
    """
    for axis, place in ((1, "height_axis"), (2, "width_axis")):
        features = AxialAttention(
            axis,
            depths,
            style.batch_norm.epsilon,
            projection_dtype=keras.DTypePolicy(style.policy).compute_dtype,
            kernel_initializer=style.kernel_initializer,
            dtype="float32",
            name=f"{name}.{place}",
        )(features)
        if strides != 1:
            step = (strides, 1) if axis == 1 else (1, strides)
            subsample = keras.layers.MaxPooling2D(1, step, dtype="float32", name=f"{name}.{place}.subsample")
            features = subsample(features)
    return features
