"""A network of a registry entry, ready to predict: the one way from an image to its panoptic map."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from zoo.errors import UsageError

if TYPE_CHECKING:
    from typing import TypeAlias

    import keras
    import numpy as np

    from zoo.model.checkpoint import Receipt
    from zoo.model.families import Options
    from zoo.model.postprocess.result import ImagePrediction, Maps
    from zoo.network.keras_runtime import KerasRuntime
    from zoo.network.saved_model import SavedModelRuntime
    from zoo.prediction.prediction import Prediction
    from zoo.registry import Backbone, Entry
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.registry.schema import DatasetDeclaration
    from zoo.runtimes.exported import ExportedRuntime

    Runtime = KerasRuntime | SavedModelRuntime | ExportedRuntime
    # An array or a tensor, or the path of a picture.
    Image: TypeAlias = Any


class _Picture(NamedTuple):
    """An image that is checked, and its name where it was read from a file."""

    image: np.ndarray
    name: str | None = None


@dataclass(eq=False, repr=False)
class Network:
    """A network of a registry entry; made by `zoo.load` and `zoo.build`.

    Attributes:
      entry: the registry's entry, or ImageNet backbone.
      runtime: what computes: a Keras network on its devices, a published SavedModel, or an exported file.
      receipt: what its checkpoint gave; None where nothing was loaded, and for a SavedModel.
      backbone_receipt: what `backbone_weights` gave to the encoder, where `zoo.build` restored it.
      own_classes: the classes that it predicts, where they are not those of the entry's evaluation.
      dataset: the declaration of its entry's data set, which may have classes of its own.
      input_shape: (None, height, width, 3) of the images that `network(images)` takes.
      replicas: how many images `maps` runs at once, one on each device.
      device: kind, replicas and names of the devices; empty where TensorFlow chooses.
    """

    entry: Entry | Backbone
    runtime: Runtime
    receipt: Receipt | None = None
    backbone_receipt: Receipt | None = None
    own_classes: DatasetInfo | None = None
    dataset: DatasetDeclaration | None = None

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
          For each image what post-processing reads, float32, of the network's input: the stride-4 maps
          `semantic_logits` [h, w, C], `center_heatmap` [h, w, 1] and `offset_map` [h, w, 2]; of kMaX-DeepLab
          `mask_logits` [h, w, slots] and `class_logits` [slots, classes + 1]. With scales or mirroring the
          maps are averages at the input's size, and from a SavedModel all its outputs at the image's size:
          `semantic_probs` then takes the place of the logits.
        """
        self._panoptic_entry()
        return self.runtime.maps(images)

    def postprocess(self, maps: Maps, raw_size: tuple[int, int]) -> ImagePrediction:
        """Returns the label maps and scored instances of an image of `raw_size` (height, width)."""
        return self.runtime.postprocess(maps, raw_size, self.options)

    def prediction(self, maps: Maps, image: np.ndarray, name: str | None = None) -> Prediction:
        """Returns what the maps of an image, of `maps`, say about it, at its size."""
        return self._finish(self.runtime, _Picture(image, name), maps)

    @overload
    def predict(self, images: str | os.PathLike[str] | np.ndarray) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Iterable[Any]) -> list[Prediction]: ...
    def predict(self, images: Image | Iterable[Image]) -> Prediction | list[Prediction]:
        """Predicts panoptic maps, pixel for pixel as `zoo reproduce` scores and writes them.

        An image larger than the network's input is shrunk to fit it, as where the published numbers were
        measured. Scales and mirroring are those that the network was loaded with. `zoo reproduce` loads with
        `optimize=True`; without it, maps differ by rounding.

        Args:
          images: one image, or a list or other iterable of images, which may differ in size. An image is
            [H, W, 3], RGB 0..255, uint8 or floating point, of any size (for a SavedModel, whole numbers), or
            the path of a picture. [B, H, W, 3] is a batch of B images.

        Returns:
          One prediction for one image, and a list in the order of the images for more; `predict_each` keeps
          few of them in memory.

        Raises:
          UsageError: something that is not an image of values 0..255, or classes that are not known.
          DataError: a file that is not there, or is not a picture.
        """
        if not _is_one_image(images):
            return list(self.predict_each(images))
        # What the classes lack is said before anything is read.
        _ = self.options
        picture = self._picture(images, "predict")
        return self._finish(self.runtime, picture, *self.runtime.maps([picture.image]))

    def predict_each(self, images: Iterable[Image]) -> Iterator[Prediction]:
        """Yields the prediction of each image, in order, as `predict` makes it.

        Images are read ahead of the network and post-processed behind it, `replicas` at a time, and few are
        in memory: `images` may be a generator that never ends. Raises as `predict`, at the image's turn.
        """
        from zoo.network.stream import stream

        _ = self.options
        return stream(
            (self._picture(image, "predict_each") for image in images),
            lambda pictures: self.runtime.maps([picture.image for picture in pictures]),
            lambda picture, maps: self._finish(self.runtime, picture, maps),
            batch=self.replicas,
        )

    def predict_panoptic(
        self, image: Image, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> Prediction:
        """Predicts the panoptic map of one image of any size, without shrinking it to the network's input.

        For Cityscapes the image is padded with the mean pixel, bottom and right: to the network's input size
        where it fits, and else to the next size `k * output_stride + 1`; the pooling window of ASPP stays the
        published one and slides over what is larger. For COCO it is resized to fit the network's input, as
        `predict` does.

        The first image of each padded size compiles a graph, which takes seconds. A SavedModel pads, shrinks
        and merges by itself; its instances may be numbered otherwise than those of the network built here.

        Args:
          image: one image, as for `predict`.
          scales: factors of the image size whose predictions are averaged.
          flip: whether to average with the predictions for the mirrored image too.

        Raises:
          UsageError: as for `predict`; or scales or mirroring with a SavedModel, which has neither.
        """
        _ = self.options
        picture = self._picture(image, "predict_panoptic")
        runtime = self.runtime.keeping_size(picture.image.shape[:2], scales, flip)
        return self._finish(runtime, picture, *runtime.maps([picture.image]))

    @cached_property
    def classes(self) -> DatasetInfo:
        """The classes that the network predicts; a `UsageError` where they are not known."""
        return self.own_classes or classes_of(self._panoptic_entry(), self.dataset)

    @cached_property
    def options(self) -> Options:
        """How the maps are post-processed where the published numbers are measured."""
        from zoo.model.families import family_of

        entry = self._panoptic_entry()
        return family_of(entry).options.from_entry(entry.evaluation, self.classes)

    def _picture(self, image: Image, caller: str) -> _Picture:
        if not isinstance(image, str | os.PathLike):
            return _Picture(self.runtime.checked(image, caller))
        from zoo.inputs.picture import read_picture

        path = Path(image)
        return _Picture(self.runtime.checked(read_picture(path), caller), path.stem)

    def _finish(self, runtime: Runtime, picture: _Picture, maps: Maps) -> Prediction:
        import numpy as np

        from zoo.prediction.prediction import Prediction

        result = runtime.postprocess(maps, picture.image.shape[:2], self.options)
        panoptic, semantic = np.ascontiguousarray(result.panoptic), np.ascontiguousarray(result.semantic)
        return Prediction(panoptic, semantic, result.instances, self.classes, *picture)

    def _panoptic_entry(self) -> Entry:
        if self.entry.kind == "backbone":
            raise UsageError(
                f"{self.entry.name}: expected a panoptic network, found an ImageNet backbone; "
                "`network(images)` gives its end points"
            )
        return self.entry


def _is_one_image(images: Any) -> bool:
    """Returns whether it is to be taken as one image, which may not be a proper one, and not as several."""
    if isinstance(images, str | os.PathLike) or not isinstance(images, Iterable):
        return True
    return hasattr(images, "shape") and len(images.shape) != 4


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


def classes_of(entry: Entry, dataset: DatasetDeclaration | None = None) -> DatasetInfo:
    """Returns the classes that an entry's network predicts.

    These are those of its data set where the user declared one with classes, else those of its evaluation.

    Raises:
      UsageError: they are not known, or not as many as the network has outputs.
      DataError: the data set is not where it is declared.
    """
    from zoo.registry.formats import classes_by_upstream_name

    if dataset is not None and dataset.own_place:
        from zoo.repro.datasets.opening import classes_of_dataset

        if own := classes_of_dataset(dataset):
            require_outputs(entry, own)
            return own
    known = classes_by_upstream_name()
    classes = known.get(entry.evaluation.dataset)
    outputs = entry.network.semantic_head.output_channels
    if dataset is not None and dataset.own_place and (classes is None or outputs != classes.num_classes):
        raise UsageError(
            f"{entry.name}: predict: expected the classes of its data set {dataset.name}, found neither "
            f"`path:` nor `classes:` in {dataset.own_place}; give `path:`, the folder whose annotations name "
            "them, or a table `classes:` in the Cityscapes layout"
        )
    if classes is None:
        raise UsageError(
            f"{entry.name}: predict: expected the classes of {' or '.join(known)}, found "
            f"{entry.evaluation.dataset}, which is not supported yet; `network(images)` gives its maps"
        )
    require_outputs(entry, classes)
    return classes


def require_outputs(entry: Entry, classes: DatasetInfo) -> None:
    """Raises a UsageError where an entry's network has not as many outputs as its data set has classes."""
    outputs = entry.network.semantic_head.output_channels
    if outputs != classes.num_classes:
        void = " with void" if classes.ignore_label < classes.num_classes else ""
        raise UsageError(
            f"{entry.name}: expected a network of {classes.num_classes} classes, as its data set "
            f"{entry.dataset} has{void}, found one of {outputs} (output_channels of the semantic head); it "
            "needs a checkpoint that was trained on these classes"
        )
