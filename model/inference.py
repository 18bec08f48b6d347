"""A network as it is called for many images: at another size, or as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras

from zoo.model.backend import compiled
from zoo.model.folding import fold_batch_norm
from zoo.model.layers import WindowAverage


def at_size(network: keras.Model, input_size: tuple[int, int], aspp_window: tuple[int, int]) -> keras.Model:
    """Returns `network`, folded or not, for images of another size (height, width), with the same variables.

    `aspp_window` is the (height, width) of the pooling window in px of the last level.
    """

    def share(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, WindowAverage):
            return WindowAverage.from_config({**layer.get_config(), "window": aspp_window})
        return layer

    images = keras.Input((*input_size, 3), name="images")
    return keras.models.clone_model(network, input_tensors=images, clone_function=share)


def with_maps(network: keras.Model, names: Collection[str]) -> keras.Model:
    """Returns `network` with these of its maps, and without the layers that none of them depends on."""
    if set(names) == set(network.output):
        return network
    return keras.Model(network.input, {name: network.output[name] for name in names}, name=network.name)


def aspp_window(network: keras.Model) -> tuple[int, int]:
    """Returns the (height, width) of a network's pooling window in px of the last level, (1, 1) for none."""
    return next((layer.window for layer in network.layers if isinstance(layer, WindowAverage)), (1, 1))


def compile_inference(network: keras.Model, *, fold: bool = True) -> Callable[[Any], dict[str, Any]]:
    """Returns `network` as one compiled graph, for many images of one size.

    Args:
      network: of `zoo.model.build`, loaded: if it is folded, later changes of its variables do not show.
      fold: whether batch normalisation is folded into the convolutions first; equal up to float32 rounding.

    Returns:
      A function of images [B, H, W, 3], uint8 or float32, to the network's dict of maps.
    """
    inference_form = fold_batch_norm(network) if fold else network
    return compiled(lambda images: inference_form(images, training=False), inference_form)
