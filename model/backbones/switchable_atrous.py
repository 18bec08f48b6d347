"""Switchable atrous convolution: Qiao et al., DetectoRS (CVPR 2021), section 3.2 and figure 4.

Each position mixes the same kernel at two atrous rates, one three times the other. The global mean, through a
1 x 1 convolution, is added to the features before and to those after. Where a convolution has a stride, the
published networks do not switch: there it is a plain one between the two global contexts.
"""

from __future__ import annotations

import keras

from zoo.model.backend import conv2d
from zoo.model.blocks import Activation, Features, Kernel, Style, normalize_and_activate
from zoo.model.layers import Conv2D, Tensor

LARGE_RATE = 3
"""The large atrous rate, relative to the small one."""

_serializable = keras.saving.register_keras_serializable(package="zoo")


@_serializable
class SwitchableAtrousConv2D(keras.layers.Conv2D):
    """`switch * conv(x, kernel, 3 * rate) + (1 - switch) * conv(x, kernel, rate)`, without bias.

    Linear in the kernel, which both convolutions share.
    """

    def build(self, features_shape: tuple[int, ...], switch_shape: tuple[int, ...]) -> None:
        """Makes the kernel."""
        super().build(features_shape)

    def call(self, features: Tensor, switch: Tensor) -> Tensor:
        """Convolves `features` [B, h, w, C] as `switch` [B, h, w, 1] says, 0 for the small rate."""
        small, large = (
            conv2d(features, self.kernel, 1, "same", [rate * n for n in self.dilation_rate])
            for rate in (1, LARGE_RATE)
        )
        return switch * large + (1 - switch) * small

    def compute_output_spec(
        self, features: keras.KerasTensor, switch: keras.KerasTensor
    ) -> keras.KerasTensor:
        """[B, h, w, filters]."""
        return keras.KerasTensor((*features.shape[:3], self.filters), self.compute_dtype)


def switchable_conv_bn(
    features: Features, channels: int, kernel: Kernel, style: Style, name: str, activation: Activation = None
) -> Features:
    """Like `conv_bn`, with global context before and after, and a switch where there is no stride."""
    features = _global_context(features, style, f"{name}.pre_global_context")
    settings = kernel.layer_settings(style, f"{name}.conv")
    settings["kernel_initializer"] = style.kernel_initializer
    if kernel.strides == 1:
        switch = _switch(features, style, f"{name}.conv")
        features = SwitchableAtrousConv2D(channels, **settings)(features, switch)
    else:
        features = Conv2D(channels, **settings)(features)
    features = _global_context(features, style, f"{name}.post_global_context")
    return normalize_and_activate(features, style, name, activation)


def _switch(features: Features, style: Style, name: str) -> Features:
    """Returns a weight per position, from the mean of its 5 x 5 neighbours inside the map: [B, h, w, 1]."""
    # The mean of a 1 x 1 convolution is the convolution of the mean, and has one channel to average.
    switch = keras.layers.Conv2D(
        1, 1, kernel_initializer=style.zeros, dtype=style.policy, name=f"{name}.switch"
    )(features)
    return keras.layers.AveragePooling2D(
        5, strides=1, padding="same", dtype=style.policy, name=f"{name}.switch_average"
    )(switch)


def _global_context(features: Features, style: Style, name: str) -> Features:
    """Adds a 1 x 1 convolution of the global mean to every position."""
    settings = {"dtype": style.policy}
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean", **settings)(features)
    context = keras.layers.Conv2D(
        features.shape[3], 1, kernel_initializer=style.zeros, name=f"{name}.convolution", **settings
    )(mean)
    return keras.layers.Add(name=f"{name}.add", **settings)([features, context])
