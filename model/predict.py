"""From one image of any size to its panoptic map, as the reference implementation evaluates."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.model.decoders.panoptic_deeplab import aspp_window, at_size, compile_inference
from zoo.model.multiscale import MultiScaleNetwork
from zoo.model.postprocess.center_offset import postprocess, postprocess_full_resolution
from zoo.model.postprocess.options import PostprocessOptions
from zoo.model.preprocess import network_input, resized_size

# ruff: noqa: D102 (the members of a data set's classes are described in `zoo.repro.datasets.dataset`)

_Graph = Callable[[np.ndarray, tuple[int, int]], dict[str, np.ndarray]]

# Compiled graphs are kept for so many different padded sizes and options.
_KEPT_GRAPHS = 4

VALUE_TOLERANCE = 0.5
"""How far values of an image may lie outside 0..255, by rounding."""


class Classes(Protocol):
    """What is read of a data set's classes."""

    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def label_divisor(self) -> int: ...
    @property
    def ignore_label(self) -> int: ...


@dataclass(frozen=True)
class PredictedInstance:
    """One instance of a panoptic map.

    Attributes:
      label: its value in the map, `class_id * label_divisor + number`.
      class_id: train id of its class.
      class_name: name of its class.
      area_px: number of its pixels.
      score: mean probability of its class times the heatmap value of its center: 0 to about 1, as a heatmap
        is not bounded.
    """

    label: int
    class_id: int
    class_name: str
    area_px: int
    score: float


@dataclass(frozen=True, eq=False)
class PanopticPrediction:
    """What a network sees in one image, at the size of that image.

    Attributes:
      panoptic: [H, W] int32, class * label_divisor + instance number (0 for stuff), or `void_label`.
      semantic: [H, W] uint8, the class of the largest probability, void nowhere.
      instances: the instances in `panoptic`, in the order in which they first appear, row by row.
      class_names: names of the classes, by train id.
      label_divisor: of the labels in `panoptic`.
      void_label: the label of pixels without a class, such as stuff of too small an area.
    """

    panoptic: np.ndarray = field(repr=False)
    semantic: np.ndarray = field(repr=False)
    instances: tuple[PredictedInstance, ...]
    class_names: tuple[str, ...]
    label_divisor: int
    void_label: int

    def class_name(self, label: int) -> str:
        """Returns the name of a panoptic label's class, "void" for pixels without one."""
        return "void" if label == self.void_label else self.class_names[label // self.label_divisor]


def make_prediction(
    panoptic: np.ndarray,
    semantic: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    areas_px: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    classes: Classes,
) -> PanopticPrediction:
    """Returns maps and instances with the names of a data set's classes.

    Args:
      panoptic: [H, W] int32.
      semantic: [H, W] uint8.
      labels: of the instances, in order.
      areas_px: their numbers of pixels.
      scores: their scores.
      classes: of the data set.
    """
    names = tuple(classes.class_names)
    instances = tuple(
        PredictedInstance(
            label=int(label),
            class_id=int(label) // classes.label_divisor,
            class_name=names[int(label) // classes.label_divisor],
            area_px=int(area),
            score=float(score),
        )
        for label, area, score in zip(labels, areas_px, scores, strict=True)
    )
    void_label = classes.ignore_label * classes.label_divisor
    return PanopticPrediction(panoptic, semantic, instances, names, classes.label_divisor, void_label)


def padded_size(
    image_size: tuple[int, int], input_size: tuple[int, int], output_stride: int
) -> tuple[int, int]:
    """Returns the (height, width) that an image is padded to.

    A side that fits the network's input is padded to that: the reference evaluates at one crop size. A longer
    one is padded to the next `k * output_stride + 1`, where pixels and positions of all maps align.
    """
    height, width = (
        fixed if side <= fixed else -(-(side - 1) // output_stride) * output_stride + 1
        for side, fixed in zip(image_size, input_size, strict=True)
    )
    return height, width


def checked_image(image: Any) -> np.ndarray:
    """Returns an image as an array.

    Warns where all values of an image of floating point lie in 0..1: that is a black image, or one of another
    range.

    Args:
      image: [H, W, 3], RGB 0..255, uint8 or of floating point; an array or a tensor.

    Raises:
      UsageError: it is something else, or holds values that are not finite or not in 0..255.
    """
    array = np.asarray(image)
    is_number = array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape or not is_number:
        raise UsageError(
            "predict_panoptic: expected one RGB image [height, width, 3], uint8 or floating point 0..255, "
            f"found {array.dtype} {list(array.shape)}"
        )
    if array.dtype != np.uint8:
        check_range(array)
    return array


def check_range(image: np.ndarray) -> None:
    """Checks that the values of an image are in 0..255; warns where all of them are in 0..1.

    Raises:
      UsageError: they are not.
    """
    least, most = float(image.min()), float(image.max())
    if not -VALUE_TOLERANCE <= least <= most <= 255 + VALUE_TOLERANCE:
        if not np.isfinite(image).all():
            found = f"{np.count_nonzero(~np.isfinite(image))} values that are NaN or infinite"
            remedy = "repair the image"
        else:
            found, remedy = f"{least:g} to {most:g}", "scale it, or cut it with np.clip(image, 0, 255)"
        raise UsageError(f"predict_panoptic: expected an image of values 0..255, found {found}; {remedy}")
    if 0 < most <= 1:
        warnings.warn(
            f"predict_panoptic: expected an image of values 0..255, found {least:g} to {most:g}, which is "
            "all but black; multiply an image of the range 0..1 by 255",
            stacklevel=2,
        )


class PanopticPredictor:
    """Calls a network on images of any size and post-processes its maps.

    The graph of a padded size is compiled at its first image; images that are padded to the same size share
    it. The network's variables are read at every call.
    """

    def __init__(
        self,
        network: keras.Model,
        classes: Classes,
        options: PostprocessOptions,
        output_stride: int,
        *,
        resizes: bool = False,
    ) -> None:
        """Prepares a network.

        Args:
          network: of `zoo.model.decoders.panoptic_deeplab`, folded or not.
          classes: of the data set that it was trained on.
          options: of its post-processing.
          output_stride: of its encoder.
          resizes: whether images are resized to fit the network's input, as the reference does for COCO,
            instead of padded at their own size.
        """
        self._network = network
        self._classes = classes
        self._options = options
        self._output_stride = output_stride
        self._resizes = resizes
        self._graphs: OrderedDict[Any, _Graph] = OrderedDict()

    def __call__(
        self, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> PanopticPrediction:
        """Predicts one image.

        Args:
          image: [H, W, 3], RGB 0..255, uint8 or of floating point, of any size.
          scales: factors of the image size whose predictions are averaged.
          flip: whether to average with the predictions for the mirrored image too.

        Raises:
          UsageError: something that is no image of values 0..255, or scales that are not positive.
        """
        array = checked_image(image)
        raw_size = (array.shape[0], array.shape[1])
        valid_size, size = self._sizes(raw_size)
        scales = tuple(float(scale) for scale in scales)
        maps = self._graph(size, scales, flip)(array, valid_size)
        if "semantic_probs" in maps:
            result = postprocess_full_resolution(
                maps["semantic_probs"], maps["center_heatmap"], maps["offset_map"], self._options
            )
        else:
            result = postprocess(
                maps["semantic_logits"], maps["center_heatmap"], maps["offset_map"], size, self._options
            )
        prediction = result.restored(valid_size, raw_size)
        instances = prediction.instances
        return make_prediction(
            np.ascontiguousarray(prediction.panoptic),
            np.ascontiguousarray(prediction.semantic),
            instances.labels,
            instances.areas,
            instances.score,
            self._classes,
        )

    def _sizes(self, raw_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Returns the (height, width) that an image is resized to, and that it is then padded to."""
        input_size = (self._network.input_shape[1], self._network.input_shape[2])
        if self._resizes:
            return resized_size(raw_size, input_size, (min(input_size),)), input_size
        return raw_size, padded_size(raw_size, input_size, self._output_stride)

    def _graph(self, size: tuple[int, int], scales: tuple[float, ...], flip: bool) -> _Graph:
        key = (size, scales, flip)
        if key not in self._graphs:
            self._graphs[key] = self._compile(size, scales, flip)
            while len(self._graphs) > _KEPT_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key]

    def _compile(self, size: tuple[int, int], scales: tuple[float, ...], flip: bool) -> _Graph:
        network = self._network
        if size != tuple(network.input_shape[1:3]):
            network = at_size(network, size, aspp_window(network))
        if scales != (1.0,) or flip:
            predict: Callable[..., dict[str, tf.Tensor]] = MultiScaleNetwork(network, scales, flip)
        else:
            predict = compile_inference(network, fold=False)

        def forward(image: tf.Tensor, valid_size: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = predict(network_input(image, valid_size, size)[None])
            return {name: values[0] for name, values in outputs.items()}

        signature = [tf.TensorSpec((None, None, 3), tf.float32), tf.TensorSpec((2,), tf.int32)]
        # Concrete, as TensorFlow warns of a function that is made again and again, here for each size.
        graph = tf.function(forward, input_signature=signature, autograph=False).get_concrete_function()
        return lambda image, valid_size: {
            name: values.numpy()
            for name, values in graph(
                tf.constant(image, tf.float32), tf.constant(valid_size, tf.int32)
            ).items()
        }
