"""A restored network on its devices: raw images in, stride-4 maps out, predictions at the raw size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.model.postprocess.center_offset import postprocess, postprocess_full_resolution
from zoo.model.postprocess.result import ImagePrediction
from zoo.model.preprocess import entry_resized_size, network_input
from zoo.network.devices import describe, strategy_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.fetch.fetcher import Fetched
    from zoo.model.postprocess.options import PostprocessOptions
    from zoo.registry import Entry
    from zoo.repro.run.reproduce import RunSettings

Maps = dict[str, np.ndarray]


class Predictor:
    """Runs a network on one image per replica, as the reference evaluates: resized, padded to the crop."""

    def __init__(
        self,
        entry: Entry,
        checkpoint: Fetched,
        settings: RunSettings,
        options: PostprocessOptions,
    ) -> None:
        import tensorflow as tf

        from zoo.model.decoders.panoptic_deeplab import compile_inference
        from zoo.model.multiscale import MultiScaleNetwork
        from zoo.network.loading import load_entry

        self._evaluation = entry.evaluation
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

        def forward(image: Any, size: Any) -> dict[str, Any]:
            outputs = predict(network_input(image, size, self._crop)[None])
            return {name: value[0] for name, value in outputs.items()}

        signature = [tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((2,), tf.int32)]
        self._forward = tf.function(forward, input_signature=signature, autograph=False)

        @tf.function(reduce_retracing=True, autograph=False)
        def on_replicas(images: Any, sizes: Any) -> Any:
            # Not `self._forward`: a signature of tensors does not take one value for each replica.
            return self._strategy.run(forward, args=(images, sizes))

        self._on_replicas = on_replicas

    def maps(self, images: Sequence[np.ndarray]) -> list[Maps]:
        """Returns the network's maps for each image.

        Args:
          images: at most `replicas` images, `[H, W, 3]` uint8, of any size.

        Returns:
          For each image the stride-4 maps `semantic_logits` `[h, w, C]`, `center_heatmap` `[h, w, 1]` and
          `offset_map` `[h, w, 2]`, float32; with scales or flipping the averages at crop size instead, with
          `semantic_probs` in place of the logits.
        """
        inputs = [(image, np.array(self._resized_size(image.shape[:2]), np.int32)) for image in images]
        if self.replicas == 1:
            outputs = [self._forward(*inputs[0])]
        else:
            # Every replica needs an image; the last batch repeats one and drops its maps.
            filled = [*inputs, *[inputs[-1]] * (self.replicas - len(inputs))]
            values = [
                self._strategy.experimental_distribute_values_from_function(
                    lambda context, part=part: filled[context.replica_id_in_sync_group][part]
                )
                for part in (0, 1)
            ]
            result = self._on_replicas(*values)
            local = {name: self._strategy.experimental_local_results(value) for name, value in result.items()}
            outputs = [{name: parts[i] for name, parts in local.items()} for i in range(len(inputs))]
        return [{name: value.numpy() for name, value in maps.items()} for maps in outputs]

    def postprocess(self, maps: Maps, raw_size: tuple[int, int]) -> ImagePrediction:
        """Returns the prediction for an image of `raw_size` (height, width), at that size."""
        if self._averaged:
            result = postprocess_full_resolution(
                maps["semantic_probs"], maps["center_heatmap"], maps["offset_map"], self._options
            )
        else:
            result = postprocess(
                maps["semantic_logits"],
                maps["center_heatmap"],
                maps["offset_map"],
                size=self._crop,
                options=self._options,
            )
        return result.restored(self._resized_size(raw_size), raw_size)

    def _resized_size(self, raw_size: tuple[int, ...]) -> tuple[int, int]:
        return entry_resized_size((raw_size[0], raw_size[1]), self._evaluation)
