"""A restored network on its devices: raw images in, stride-4 maps out, post-processing options at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import DataError
from zoo.model.postprocess import PanopticResult, postprocess, postprocess_full_resolution
from zoo.repro.devices import describe, strategy_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.fetching import FetchedCheckpoint
    from zoo.model.postprocess import PostprocessOptions
    from zoo.registry import Entry
    from zoo.repro.run import RunSettings

Maps = dict[str, np.ndarray]

# The reference pads images with the pixel that its normalisation turns into zero.
MEAN_PIXEL = 127.5


class Predictor:
    """Runs a network on one image per replica, as the reference evaluates: padded to the crop size."""

    def __init__(
        self,
        entry: Entry,
        checkpoint: FetchedCheckpoint,
        settings: RunSettings,
        options: PostprocessOptions,
    ) -> None:
        import tensorflow as tf

        from zoo.loading import load_entry
        from zoo.model.multiscale import MultiScaleNetwork
        from zoo.model.panoptic_deeplab import compile_inference

        self._name = entry.name
        height, width = entry.evaluation.crop_size
        self._crop = (height, width)
        self._options = options
        self._strategy = strategy_for(settings.device)
        self.replicas: int = self._strategy.num_replicas_in_sync
        self.device: dict[str, Any] = describe(self._strategy)
        self._averaged = settings.scales != (1.0,) or settings.flip
        with self._strategy.scope():
            network = load_entry(
                entry, checkpoint, input_size=self._crop, precision=settings.precision, optimize=True
            )
            if self._averaged:
                predict: Any = MultiScaleNetwork(network, settings.scales, settings.flip)
            else:
                predict = compile_inference(network, fold=False)
        self.receipt: dict[str, Any] = network.receipt.to_json()
        # A compiled graph does not keep its variables alive.
        self._network = network
        crop_height, crop_width = self._crop

        def forward(image: Any) -> dict[str, Any]:
            height, width = tf.shape(image)[0], tf.shape(image)[1]
            padding = [[0, crop_height - height], [0, crop_width - width], [0, 0]]
            padded = tf.pad(tf.cast(image, tf.float32), padding, constant_values=MEAN_PIXEL)
            outputs = predict(tf.ensure_shape(padded, (crop_height, crop_width, 3))[None])
            return {name: value[0] for name, value in outputs.items()}

        signature = [tf.TensorSpec((None, None, 3), tf.uint8)]
        self._forward = tf.function(forward, input_signature=signature, autograph=False)

        @tf.function(reduce_retracing=True, autograph=False)
        def on_replicas(images: Any) -> Any:
            # Not `self._forward`: a signature of tensors does not take one value for each replica.
            return self._strategy.run(forward, args=(images,))

        self._on_replicas = on_replicas

    def maps(self, images: Sequence[np.ndarray]) -> list[Maps]:
        """Returns the network's maps for each image.

        Args:
          images: at most `replicas` images, `[H, W, 3]` uint8, each no larger than the crop size.

        Returns:
          For each image the stride-4 maps `semantic_logits` `[h, w, C]`, `center_heatmap` `[h, w, 1]` and
          `offset_map` `[h, w, 2]`, float32; with scales or flipping the averages at crop size instead, with
          `semantic_probs` in place of the logits.
        """
        for image in images:
            if image.shape[0] > self._crop[0] or image.shape[1] > self._crop[1]:
                raise DataError(
                    f"{self._name}: image of {image.shape[0]} x {image.shape[1]} pixels, expected at most "
                    f"{self._crop[0]} x {self._crop[1]}; is this the right data set?"
                )
        if self.replicas == 1:
            outputs = [self._forward(images[0])]
        else:
            # Every replica needs an image; the last batch repeats one and drops its maps.
            filled = [*images, *[images[-1]] * (self.replicas - len(images))]
            values = self._strategy.experimental_distribute_values_from_function(
                lambda context: filled[context.replica_id_in_sync_group]
            )
            result = self._on_replicas(values)
            local = {name: self._strategy.experimental_local_results(value) for name, value in result.items()}
            outputs = [{name: parts[i] for name, parts in local.items()} for i in range(len(images))]
        return [{name: value.numpy() for name, value in maps.items()} for maps in outputs]

    def postprocess(self, maps: Maps) -> PanopticResult:
        """Returns the panoptic result at crop size."""
        if self._averaged:
            return postprocess_full_resolution(
                maps["semantic_probs"], maps["center_heatmap"], maps["offset_map"], self._options
            )
        return postprocess(
            maps["semantic_logits"],
            maps["center_heatmap"],
            maps["offset_map"],
            size=self._crop,
            options=self._options,
        )
