"""A Keras network on its devices: raw images in, maps out, then predictions at the images' own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property, lru_cache
from typing import Any

import keras
import numpy as np

from zoo.model.backend import as_array, compiled_per_image
from zoo.model.families import Options, family_of
from zoo.model.images import check_images, checked_image
from zoo.model.inference import aspp_window, at_size, compile_inference
from zoo.model.multiscale import MultiScaleNetwork
from zoo.model.postprocess.result import ImagePrediction, Maps
from zoo.model.preprocess import entry_resized_size, network_input, padded_size
from zoo.network.devices import KerasDevice, describe
from zoo.registry import Backbone, Entry

_KEPT_SIZES = 4
"""So many runtimes of other sizes, scales or mirroring are kept, with their compiled graphs."""


class KerasRuntime:
    """Runs a Keras network on one image per replica, resized and padded as the reference evaluates.

    A graph is compiled at the first image. The network's variables are read at every call.

    `input_shape`, `replicas` and `device` are those of `Network`.
    """

    def __init__(
        self,
        keras_model: keras.Model,
        entry: Entry | Backbone,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        strategy: Any = None,
    ) -> None:
        """Prepares a network of `zoo.model.build`; nothing is compiled yet.

        Args:
          keras_model: folded or not.
          entry: its evaluation says how images are resized.
          scales, flip: the factors of the image size, and the mirroring, whose maps are averaged.
          strategy: of `strategy_for`, in whose scope the network was made; None outside of one.

        Raises:
          UsageError: scales or mirroring, which the entry's family does not average.
        """
        self._family: Any = family_of(entry) if entry.kind == "panoptic" else None
        if self._family:
            self._family.refuse_averages(entry.name, scales, flip)
        self.keras_model = keras_model
        self.input_shape: tuple[int | None, ...] = keras_model.input_shape
        self.replicas: int = strategy.num_replicas_in_sync if strategy else 1
        self.device: dict[str, Any] = describe(strategy) if strategy else {}
        self._entry: Any = entry
        self._input_size: tuple[int, int] = (keras_model.input_shape[1], keras_model.input_shape[2])
        self._scales = tuple(float(scale) for scale in scales)
        self._flip = flip
        self._strategy = strategy
        self._other = lru_cache(_KEPT_SIZES)(self._of_size)
        self._graphs: dict[np.dtype[Any], Callable[..., dict[str, Any]]] = {}

    def __call__(self, images: Any) -> dict[str, Any]:
        """Runs the network once, as Keras does, on a batch of images of its input size."""
        is_panoptic = self._entry.kind == "panoptic"
        remedies = ["use `predict_panoptic`, which takes one image of any size"] * is_panoptic
        check_images(images, self.input_shape, self._entry.name, *remedies)
        with self._on_device():
            return self.keras_model(images)

    checked = staticmethod(checked_image)

    def keeping_size(self, raw_size: tuple[int, int], scales: Sequence[float], flip: bool) -> KerasRuntime:
        """Returns the runtime whose input holds an image without shrinking it, unless the entry resizes all.

        Its networks share this one's variables; the pooling window of ASPP slides over what is larger.
        """
        size, scales = self._input_size, tuple(float(scale) for scale in scales)
        if not any(self._entry.evaluation.min_resize_value):
            size = padded_size(raw_size, size, self._entry.output_stride)
        if (size, scales, bool(flip)) == (self._input_size, self._scales, self._flip):
            return self
        return self._other(size, scales, bool(flip))

    def _of_size(self, size: tuple[int, int], scales: tuple[float, ...], flip: bool) -> KerasRuntime:
        model = self.keras_model
        if size != self._input_size:
            with self._on_device():
                model = at_size(model, size, aspp_window(model))
        return KerasRuntime(model, self._entry, scales=scales, flip=flip, strategy=self._strategy)

    def maps(self, images: Sequence[np.ndarray]) -> list[Maps]:
        """Returns the network's maps for each of at most `replicas` images; see `Network.maps`."""
        inputs = [
            (
                image if image.dtype == np.uint8 else image.astype(np.float32),
                np.array(self._resized_size(image.shape[:2]), np.int32),
            )
            for image in images
        ]
        if self.replicas > 1:
            outputs = self._on_all_replicas(inputs)
        else:
            with self._on_device():
                outputs = [self._graph(image.dtype)(image, size) for image, size in inputs]
        return [{name: as_array(values) for name, values in maps.items()} for maps in outputs]

    def postprocess(self, maps: Maps, raw_size: tuple[int, int], options: Options) -> ImagePrediction:
        """Returns the prediction for an image of `raw_size` (height, width), at that size."""
        result = self._family.merged(maps, self._input_size, options, averaged=self._averages)
        return result.restored(self._resized_size(raw_size), raw_size)

    @property
    def _averages(self) -> bool:
        return self._scales != (1.0,) or self._flip

    def _resized_size(self, raw_size: tuple[int, ...]) -> tuple[int, int]:
        return entry_resized_size((raw_size[0], raw_size[1]), self._entry.evaluation, self._input_size)

    def _scope(self) -> Any:
        return self._strategy.scope() if self._strategy else nullcontext()

    def _on_device(self) -> Any:
        """Returns the context of a call; TensorFlow's graphs know their device by themselves."""
        return self._strategy.scope() if isinstance(self._strategy, KerasDevice) else nullcontext()

    @cached_property
    def _predict(self) -> Callable[[Any], dict[str, Any]]:
        """Of a batch of one image of the network's input size, its maps."""
        with self._scope():
            if self._averages:
                predict: Any = MultiScaleNetwork(self.keras_model, self._scales, self._flip)
            else:
                predict = compile_inference(self.keras_model, fold=False)
        # A compiled graph leaves out what nothing reads.
        read = self._family.averages.maps if self._averages else self._family.maps
        return lambda batch: {name: values[0] for name, values in predict(batch).items() if name in read}

    def _resize(self, image: Any, size: Any) -> Any:
        return network_input(image, size, self._input_size)[None]

    def _graph(self, dtype: np.dtype[Any]) -> Callable[..., dict[str, Any]]:
        if dtype not in self._graphs:
            predict = self._predict
            with self._scope():
                self._graphs[dtype] = compiled_per_image(self._resize, dtype, predict)
        return self._graphs[dtype]

    @cached_property
    def _replicated(self) -> Callable[..., Any]:
        import tensorflow as tf

        # Made here, as a replica must not enter the strategy's scope.
        predict = self._predict

        def on_replicas(images: Any, sizes: Any) -> Any:
            return self._strategy.run(lambda *given: predict(self._resize(*given)), args=(images, sizes))

        return tf.function(on_replicas, reduce_retracing=True, autograph=False)

    def _on_all_replicas(self, inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[dict[str, Any]]:
        # Every replica needs an image; the last batch repeats one and drops its maps.
        filled = [*inputs, *[inputs[-1]] * (self.replicas - len(inputs))]
        values = [
            self._strategy.experimental_distribute_values_from_function(
                lambda context, part=part: filled[context.replica_id_in_sync_group][part]
            )
            for part in (0, 1)
        ]
        result = self._replicated(*values)
        local = {name: self._strategy.experimental_local_results(value) for name, value in result.items()}
        return [{name: parts[i] for name, parts in local.items()} for i in range(len(inputs))]
