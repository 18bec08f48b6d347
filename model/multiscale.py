"""Inference at several scales and mirrored, averaged: maps at the size of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import keras
from keras import ops

from zoo.errors import UsageError
from zoo.model.backend import after, compiled
from zoo.model.images import check_images
from zoo.model.inference import aspp_window, at_size
from zoo.model.layers import Tensor, resize_bilinear, scale_size

TensorMaps = dict[str, Tensor]


class MultiScaleNetwork:
    """Averages a network's predictions over scaled and mirrored images.

    Every pass shares the network's variables; the pooling window of ASPP is scaled with the images, whose
    corner pixels stay on corner pixels. With `flip` each scale is run on the mirrored images as well.

    Source: multi-scale evaluation of google-research/deeplab2, `model/deeplab.py`.
    """

    def __init__(self, network: keras.Model, scales: Sequence[float] = (1.0,), flip: bool = False) -> None:
        """Prepares a network of `zoo.model.build` for each scale.

        Raises:
          UsageError: no scales, or one that is not positive.
        """
        if not scales or min(scales) <= 0:
            raise UsageError(f"scales: expected at least one, all positive, found {list(scales)}")
        self.network = network
        self.scales = tuple(scales)
        self.flip = flip
        self._size: tuple[int, int] = tuple(network.input_shape[1:3])
        window = aspp_window(network)
        self._scaled_networks = [
            network if s == 1.0 else at_size(network, scale_size(self._size, s), scale_size(window, s))
            for s in self.scales
        ]

    def __call__(self, images: Any) -> TensorMaps:
        """Returns the averaged maps of a batch.

        Args:
          images: [B, H, W, 3] uint8 or float32, RGB 0..255, of the network's input size.

        Returns:
          float32 maps at that size: `semantic_probs` [B, H, W, classes], summing to 1; `center_heatmap`
          [B, H, W, 1]; `offset_map` [B, H, W, 2], (y, x) in px of the images.

        Raises:
          UsageError: something that is not a batch of images of that size.
        """
        check_images(images, self.network.input_shape, self.network.name)
        return self._average(images)

    @cached_property
    def _average(self) -> Callable[[Any], TensorMaps]:
        return compiled(self._average_passes, self.network)

    def _average_passes(self, images: Tensor) -> TensorMaps:
        total: TensorMaps = {}
        for network in self._scaled_networks:
            for mirrored in (False, True) if self.flip else (False,):
                # One pass after the other, so that the memory of one is free before the next begins.
                maps = self._predict(network, after(list(total.values()), images), mirrored)
                total = {name: total[name] + maps[name] for name in maps} if total else maps
        passes = len(self._scaled_networks) * (2 if self.flip else 1)
        return {name: values / passes for name, values in total.items()}

    def _predict(self, network: keras.Model, images: Tensor, mirrored: bool) -> TensorMaps:
        images = resize_bilinear(images, network.input_shape[1:3])
        if mirrored:
            maps = _mirror(network(ops.flip(images, axis=2), training=False))
        else:
            maps = network(images, training=False)
        return _at_size_of_images(maps, self._size)


def _mirror(maps: TensorMaps) -> TensorMaps:
    """Mirrors maps left to right; an offset along x then points the other way."""
    mirrored = {name: ops.flip(values, axis=2) for name, values in maps.items()}
    return {**mirrored, "offset_map": mirrored["offset_map"] * ops.array((1.0, -1.0), "float32")}


def _at_size_of_images(maps: TensorMaps, size: tuple[int, int]) -> TensorMaps:
    """Resizes maps to `size`, then turns logits into probabilities; offsets become px of `size`."""
    height, width = maps["offset_map"].shape[1:3]
    px_per_position = ((size[0] - 1) / (height - 1), (size[1] - 1) / (width - 1))
    return {
        "semantic_probs": ops.softmax(resize_bilinear(maps["semantic_logits"], size)),
        "center_heatmap": resize_bilinear(maps["center_heatmap"], size),
        "offset_map": resize_bilinear(maps["offset_map"] * ops.array(px_per_position, "float32"), size),
    }
