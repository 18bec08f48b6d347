"""The predictor of kMaX-DeepLab: masks as products of pixels and slots, and a class for each slot.

Wang et al., MaX-DeepLab (CVPR 2021), section 3.3. Each k-means layer has one of its own, which says to which
slot a pixel belongs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from zoo.model.blocks import CONVOLUTIONS, Features, Kernel, Style, normalize, projection_bn
from zoo.model.layers import Conv2D, Projection, Tensor, add_normalization, factor_and_shift
from zoo.registry.network_options import ClassHeadOptions, HeadOptions

_VOID_PRIOR = 0.9
"""The probability of void where a class head says nothing."""

SHORTEST = 1e-6
"""Shorter features are divided by this instead of their length."""

_serializable = keras.saving.register_keras_serializable(package="zoo")


class PredictorOptions(NamedTuple):
    """What the predictors of one network share."""

    pixel_space_head: HeadOptions
    transformer_class_head: ClassHeadOptions


class Predicted(NamedTuple):
    """What a predictor gives."""

    pixel_features: Features  # [B, h, w, channels], of length 1
    mask_logits: Features  # [B, h, w, slots]
    class_logits: Features  # [B, slots, classes], void the last


@_serializable
class UnitLength(keras.layers.Layer):
    """Divides the features of each position by their length."""

    def call(self, features: Tensor) -> Tensor:
        """Normalises `features` [B, h, w, C], keeping the shape."""
        return ops.normalize(features, axis=-1, epsilon=SHORTEST)

    def compute_output_spec(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Same shape and type."""
        return keras.KerasTensor(features.shape, self.compute_dtype)


@_serializable
class MaskLogits(keras.layers.Layer):
    """Products of pixels [B, h, w, C] and slots [B, N, C] to [B, h, w, N], normalised with one statistic."""

    def __init__(self, epsilon: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, pixels_shape: tuple[int, ...], slots_shape: tuple[int, ...]) -> None:
        """Makes the variables of the normalisation."""
        self.normalization = add_normalization(self, (1,))

    def call(self, pixels: Tensor, slots: Tensor) -> Tensor:
        """Multiplies each pixel with each slot."""
        factor, shift = factor_and_shift(self.normalization, self.epsilon)
        flat = ops.reshape(pixels, (-1, pixels.shape[1] * pixels.shape[2], pixels.shape[3]))
        logits = ops.matmul(flat, ops.transpose(slots * factor, (0, 2, 1))) + shift
        return ops.reshape(logits, (-1, *pixels.shape[1:3], slots.shape[1]))

    def compute_output_spec(self, pixels: keras.KerasTensor, slots: keras.KerasTensor) -> keras.KerasTensor:
        """[B, h, w, N]."""
        return keras.KerasTensor((*pixels.shape[:3], slots.shape[1]), self.compute_dtype)

    def multiply_adds(self) -> int:
        """Returns how often its product multiplies and adds for one image."""
        pixels, _ = self.input
        return int(math.prod(self.output.shape[1:]) * pixels.shape[3])

    def get_config(self) -> dict[str, Any]:
        """The epsilon, beside the base class's entries."""
        return {**super().get_config(), "epsilon": self.epsilon}


@_serializable
class ClassLogits(Projection):
    """A projection to classes, the last of which, void, has the prior probability `_VOID_PRIOR`."""

    def call(self, features: Tensor) -> Tensor:
        """Projects `features` [B, N, C] to [B, N, classes]."""
        return super().call(features) + ops.array(self.prior(), self.compute_dtype)

    def prior(self) -> np.ndarray:
        """Returns what the prior adds to the logit of each class, [classes] float32."""
        others = self.units - 1
        void = math.log(_VOID_PRIOR / (1.0 - _VOID_PRIOR) * others)
        return np.array([0.0] * others + [void], np.float32)


def predictor(
    pixels: Features,
    class_memory: Features,
    mask_memory: Features,
    options: PredictorOptions,
    style: Style,
    place: str = "",
) -> Predicted:
    """Appends a predictor.

    Args:
      pixels: [B, h, w, C].
      class_memory: [B, slots, C], for the classes.
      mask_memory: the same for the masks.
      options: of its heads.
      style: of its layers.
      place: what the layers' names start with: nothing, or the place of a k-means layer's own and a dot.
    """
    head = options.pixel_space_head
    features = CONVOLUTIONS[head.head_conv_type](
        pixels,
        head.head_channels,
        Kernel(5),
        style,
        f"{place}pixel_space_head.conv_block.conv1_bn_act",
        style.activation,
    )
    settings: dict[str, Any] = {"kernel_initializer": style.kernel_initializer, "dtype": style.policy}
    name = f"{place}pixel_space_head.final_conv"
    features = Conv2D(head.output_channels, 1, name=name, **settings)(features)
    features = normalize(features, style, f"{place}pixel_space_feature_batch_norm")
    features = UnitLength(dtype=style.policy, name=f"{place}pixel_features")(features)
    slots = projection_bn(mask_memory, head.output_channels, style, f"{place}transformer_mask_head")
    masks = MaskLogits(
        style.batch_norm.epsilon, dtype=style.policy, name=f"{place}pixel_space_mask_batch_norm"
    )
    channels, name = options.transformer_class_head.output_channels, f"{place}transformer_class_head.conv"
    class_logits = ClassLogits(channels, name=name, **settings)(class_memory)
    return Predicted(features, masks(features, slots), class_logits)
