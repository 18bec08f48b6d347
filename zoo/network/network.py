"""A network of a registry entry, ready to predict: the one way from an image to its panoptic map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from zoo.model.checkpoint import Receipt
    from zoo.model.postprocess.options import PostprocessOptions
    from zoo.model.postprocess.result import ImagePrediction
    from zoo.model.prediction import Maps, Prediction
    from zoo.network.keras_runtime import KerasRuntime
    from zoo.network.saved_model import SavedModelRuntime
    from zoo.registry import Backbone, Entry
    from zoo.registry.dataset_info import DatasetInfo

    Runtime = KerasRuntime | SavedModelRuntime


@dataclass(eq=False, repr=False)
class Network:
    """A network of a registry entry; made by `zoo.load` and `zoo.build`.

    Attributes:
      entry: the registry's entry, or ImageNet backbone.
      runtime: what computes: a Keras network on its devices, or a published SavedModel.
      receipt: what its checkpoint gave; None where nothing was loaded, and for a SavedModel.
      backbone_receipt: what `backbone_weights` gave to the encoder, where `zoo.build` restored it.
      own_classes: the classes that it predicts, where they are not those of the entry's evaluation.
      input_shape: (None, height, width, 3) of the images that `network(images)` takes.
      replicas: how many images `maps` runs at once, one on each device.
      device: kind, replicas and names of the devices; empty where TensorFlow chooses.
    """

    entry: Entry | Backbone
    runtime: Runtime
    receipt: Receipt | None = None
    backbone_receipt: Receipt | None = None
    own_classes: DatasetInfo | None = None

    def __post_init__(self) -> None:
        self.input_shape = self.runtime.input_shape
        self.replicas = self.runtime.replicas
        self.device = self.runtime.device

    def __repr__(self) -> str:
        return f"<Network {self.entry.name}, input {self.input_shape}>"

    @property
    def keras_model(self) -> keras.Model:
        """The Keras network, for its layers, variables, `summary()`, `save()` or training.

        Raises:
          UsageError: a SavedModel, which has none.
        """
        return self.runtime.keras_model

    def __call__(self, images: Any) -> Any:
        """Returns the stride-4 maps of a batch as `build_network` describes them, or a backbone's end points.

        Args:
          images: [B, H, W, 3] uint8 or float32, RGB 0..255, of the network's input size; for a SavedModel, no
            larger than that.

        Raises:
          UsageError: something that is not such a batch.
        """
        return self.runtime(images)

    def maps(self, images: Sequence[np.ndarray]) -> list[Maps]:
        """Resizes and pads raw images as the published numbers were measured, and runs the network.

        Args:
          images: at most `replicas` images, [H, W, 3] uint8 or floating point 0..255, of any size.

        Returns:
          For each image the stride-4 maps `semantic_logits` [h, w, C], `center_heatmap` [h, w, 1] and
          `offset_map` [h, w, 2], float32, of the network's input. With scales or mirroring these are averages
          at the input's size instead, and from a SavedModel all its outputs at the image's size:
          `semantic_probs` then takes the place of the logits.
        """
        self._panoptic_entry()
        return self.runtime.maps(images)

    def postprocess(self, maps: Maps, raw_size: tuple[int, int]) -> ImagePrediction:
        """Returns the label maps and scored instances of an image of `raw_size` (height, width)."""
        return self.runtime.postprocess(maps, raw_size, self.options)

    def predict(self, image: Any) -> Prediction:
        """Predicts the panoptic map of one image, pixel for pixel as `zoo reproduce` scores and writes it.

        One that is larger than the network's input is shrunk to fit it, as where the published numbers were
        measured. Scales and mirroring are those that the network was loaded with. `zoo reproduce` loads with
        `optimize=True`; without it, maps differ by rounding.

        Args:
          image: [H, W, 3], RGB 0..255, uint8 or floating point, of any size; for a SavedModel, whole numbers.

        Raises:
          UsageError: something that is not an image of values 0..255, or classes that are not known.
        """
        _, image = self.options, self.runtime.checked(image, "predict")
        return self._predict(self.runtime, image)

    def predict_panoptic(
        self, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> Prediction:
        """Predicts the panoptic map of one image of any size, without shrinking it to the network's input.

        For Cityscapes the image is padded with the mean pixel, bottom and right: to the network's input size
        where it fits, and else to the next size `k * output_stride + 1`; the pooling window of ASPP stays the
        published one and slides over what is larger. For COCO it is resized to fit the network's input, as
        `predict` does.

        The first image of each padded size compiles a graph, which takes seconds. A SavedModel pads, shrinks
        and merges by itself; its instances may be numbered otherwise than those of the network built here.

        Args:
          image: as for `predict`.
          scales: factors of the image size whose predictions are averaged.
          flip: whether to average with the predictions for the mirrored image too.

        Raises:
          UsageError: as for `predict`; or scales or mirroring with a SavedModel, which has neither.
        """
        _, image = self.options, self.runtime.checked(image, "predict_panoptic")
        return self._predict(self.runtime.keeping_size(image.shape[:2], scales, flip), image)

    @cached_property
    def classes(self) -> DatasetInfo:
        """The classes that the network predicts; a `UsageError` where they are not known."""
        return self.own_classes or classes_of(self._panoptic_entry())

    @cached_property
    def options(self) -> PostprocessOptions:
        """How the maps are post-processed where the published numbers are measured."""
        from zoo.model.postprocess.options import PostprocessOptions

        return PostprocessOptions.from_entry(self._panoptic_entry().evaluation, self.classes)

    def _predict(self, runtime: Runtime, image: np.ndarray) -> Prediction:
        from zoo.model.prediction import make_prediction

        (maps,) = runtime.maps([image])
        return make_prediction(runtime.postprocess(maps, image.shape[:2], self.options), self.classes)

    def _panoptic_entry(self) -> Entry:
        if self.entry.kind == "backbone":
            raise UsageError(
                f"{self.entry.name}: expected a panoptic network, found an ImageNet backbone; "
                "`network(images)` gives its end points"
            )
        return self.entry


def predict_panoptic(
    network: Any, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> Prediction:
    """Predicts the panoptic map of one image: `network.predict_panoptic`, which see.

    Raises:
      UsageError: as there; or `network` is not of `zoo.load` or `zoo.build`.
    """
    if not isinstance(network, Network):
        raise UsageError(
            "predict_panoptic: expected a network with a registry entry, found "
            f"{type(network).__name__}; make it with zoo.load or zoo.build"
        )
    return network.predict_panoptic(image, scales=scales, flip=flip)


def classes_of(entry: Entry) -> DatasetInfo:
    """Returns the classes that an entry's network predicts.

    Raises:
      UsageError: they are not known, or not as many as the network has outputs.
    """
    from zoo.registry.formats import classes_by_upstream_name

    known = classes_by_upstream_name()
    classes = known.get(entry.evaluation.dataset)
    if classes is None:
        raise UsageError(
            f"{entry.name}: predict: expected the classes of {' or '.join(known)}, found "
            f"{entry.evaluation.dataset}, which is not supported yet; `network(images)` gives its maps"
        )
    outputs = entry.network.semantic_head.output_channels
    if outputs != classes.num_classes:
        raise UsageError(
            f"{entry.name}: predict: expected {classes.num_classes} classes, as "
            f"{entry.evaluation.dataset} has, found {outputs} output_channels of the semantic head"
        )
    return classes
