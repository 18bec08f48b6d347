"""The SavedModels that were published beside the checkpoints, as runtimes of the same interface."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from zoo.errors import ArchiveError, UsageError
from zoo.files.tensorflow import import_tensorflow
from zoo.model.families import Options, family_of
from zoo.model.images import checked_image
from zoo.model.postprocess.instances import Instances
from zoo.model.postprocess.result import ImagePrediction, Maps
from zoo.registry import Entry

MAP_STRIDE = 4
"""Pixels of the input per position of a network's maps."""

_CHANNELS = ("semantic_probs", "semantic_logits", "offset_map", "pixel_space_mask_logits")


class SavedModelRuntime:
    """Runs a published SavedModel, called like a Keras network.

    It holds the whole pipeline for one image: padding to the crop size, network, up-sampling,
    post-processing. `network(images)` gives the same stride-4 maps as the built network: up-sampling puts
    corner pixels on corner pixels, so every fourth pixel of what the SavedModel gives is one position of its
    maps, unchanged. `outputs(image)` has everything, at full size. Predictions come from the SavedModel's own
    merge, which may number instances otherwise than the built network's.

    `input_shape`, `replicas` and `device` are those of `Network`, of the largest images not scaled down.
    """

    def __init__(
        self, entry: Entry, folder: Path, input_size: tuple[int, int] | None = None, device: Any = None
    ) -> None:
        """Loads an entry's SavedModel from the folder of its `saved_model.pb`.

        `input_size` (height, width) is that of the network inside, None for the entry's crop.

        Raises:
          ArchiveError: it cannot be loaded, or is not of a network of the entry's family.
        """
        self.folder = folder
        self._crop_size = input_size or entry.evaluation.crop_size
        self.input_shape = (None, *self._crop_size, 3)
        self.replicas = 1
        self.device: dict[str, Any] = device or {}
        self._entry = entry
        # What was loaded owns the variables of its function.
        self._loaded = _load(entry, folder)
        self._function = _serving_function(entry, folder, self._loaded)
        ((self._argument, _),) = self._function.structured_input_signature[1].items()

    def outputs(self, image: Any) -> Maps:
        """Returns everything that the SavedModel gives for one image, without the dimension of a batch.

        Args:
          image: [H, W, 3] uint8, RGB. One that is larger than the crop size is scaled down to it inside.

        Returns:
          Of Panoptic-DeepLab, at the size of the image: `panoptic_pred`, `semantic_pred`, `instance_pred`
          int32, `instance_center_pred` and `instance_scores` float32, all [H, W]; `semantic_probs` [H, W,
          classes], `center_heatmap` [H, W], `offset_map` [H, W, 2] in px of the crop. At crop size:
          `semantic_logits` [crop height, crop width, classes].
          Of kMaX-DeepLab, at the size of the image: `panoptic_pred`, `semantic_pred`, `instance_pred` int32,
          `instance_scores`, `semantic_scores` float32, all [H, W]. As the network gives them:
          `pixel_space_mask_logits` [h, w, slots], `transformer_class_logits` [slots, classes + 1].

        Raises:
          UsageError: something that is not an image of whole numbers 0 to 255.
        """
        import tensorflow as tf

        found = self._function(**{self._argument: tf.constant(self.checked(image, self._entry.name))})
        return {name: _without_batch(name, found[name].numpy()) for name in family_of(self._entry).published}

    def __call__(self, images: Any) -> Maps:
        """Returns maps of a batch as a built network does, one image after the other.

        Args:
          images: [B, H, W, 3], RGB, whole numbers 0..255; padded inside where smaller than the crop size.

        Raises:
          UsageError: images of another form, or larger than the crop size.
        """
        array = np.asarray(images)
        if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape or array.dtype.kind in "OSU":
            raise UsageError(
                f"{self._entry.name}: expected RGB images [batch, height, width, 3], found "
                f"{array.dtype.name} {list(array.shape)}; predict takes one image"
            )
        crop = self._crop_size
        size: tuple[int, int] = array.shape[1:3]
        if size[0] > crop[0] or size[1] > crop[1]:
            raise UsageError(
                f"{self._entry.name}: expected images of at most {crop[0]} x {crop[1]} pixels, found "
                f"{size[0]} x {size[1]}, which the SavedModel would scale down, as its predict does"
            )
        if any((side - 1) % MAP_STRIDE for side in crop):
            raise UsageError(
                f"{self._entry.name}: expected a crop size of sides 4 * k + 1, found {crop[0]} x {crop[1]}; "
                "`maps([image])` gives its maps at full size"
            )
        each = [_stride_4_maps(self.outputs(image), size) for image in array]
        return {name: np.stack([maps[name] for maps in each]) for name in each[0]}

    @property
    def keras_model(self) -> NoReturn:
        """Raises a `UsageError`: a SavedModel has none."""
        raise UsageError(
            f"{self._entry.name}: a SavedModel has no Keras model; load the network with "
            'source="checkpoint" for its layers and variables'
        )

    checked = staticmethod(partial(checked_image, whole_numbers=True))

    def keeping_size(
        self, raw_size: tuple[int, int], scales: Sequence[float], flip: bool
    ) -> SavedModelRuntime:
        """Returns this runtime, which takes images of any size but has one scale and no mirrored images."""
        if tuple(scales) != (1.0,) or flip:
            raise UsageError(
                f"{self._entry.name}: a SavedModel has one scale and no mirrored images; "
                'load the network with source="checkpoint" for others'
            )
        return self

    def maps(self, images: Sequence[np.ndarray]) -> list[Maps]:
        """Returns all outputs for each raw image."""
        return [self.outputs(image) for image in images]

    def postprocess(self, maps: Maps, raw_size: tuple[int, int], options: Options) -> ImagePrediction:
        """Returns what was merged inside the SavedModel, with the score of each instance."""
        panoptic = maps["panoptic_pred"].astype(np.int32)
        labels, first, areas = np.unique(panoptic, return_index=True, return_counts=True)
        is_thing = np.isin(labels // options.label_divisor, options.thing_class_ids)
        things = np.flatnonzero(is_thing)[np.argsort(first[is_thing])]

        def mean(values: np.ndarray, label: int) -> float:
            return float(values[panoptic == label].mean(dtype=np.float64))

        found = labels[things].tolist()

        def of_class(label: int) -> np.ndarray:
            """Returns how sure each pixel's class is: of masks, or from the probabilities of all classes."""
            if "semantic_scores" in maps:
                return maps["semantic_scores"]
            return maps["semantic_probs"][..., label // options.label_divisor]

        semantic = np.array([mean(of_class(label), label) for label in found])
        instance = np.array([mean(maps["instance_scores"], k) for k in found])
        return ImagePrediction(
            panoptic,
            maps["semantic_pred"].astype(np.uint8),
            Instances(labels[things], areas[things], semantic, instance, semantic * instance),
        )


def _load(entry: Entry, folder: Path) -> Any:
    tf = import_tensorflow()
    try:
        return tf.saved_model.load(str(folder))
    except (tf.errors.OpError, ValueError, KeyError, RuntimeError, OSError) as error:
        message = " ".join(str(error).split())
        unknown = re.search(r"Op type not registered '([^']+)'", message)
        if unknown:
            raise ArchiveError(
                f"{entry.name}: {folder}: the SavedModel needs the operation {unknown.group(1)}, which "
                f"TensorFlow {tf.__version__} does not have; load its library with tf.load_op_library first, "
                'or use the checkpoint: source="checkpoint"'
            ) from error
        raise ArchiveError(
            f"{entry.name}: {folder}: expected a SavedModel that TensorFlow {tf.__version__} can load, "
            f"found {message[:300]}"
        ) from error


def _serving_function(entry: Entry, folder: Path, loaded: Any) -> Any:
    """Returns the function of a SavedModel, if it is one of an image to the outputs of its family."""
    import tensorflow as tf

    function = getattr(loaded, "signatures", {}).get("serving_default")
    found = "no signature serving_default"
    if function is not None:
        inputs = list(function.structured_input_signature[1].values())
        outputs = function.structured_outputs
        missing = [name for name in family_of(entry).published if name not in outputs]
        takes = ", ".join(f"{spec.dtype.name} {spec.shape}" for spec in inputs)
        is_image = len(inputs) == 1 and tf.TensorSpec((1, 1, 3), tf.uint8).is_compatible_with(
            tf.TensorSpec([1 if n is None else n for n in inputs[0].shape], inputs[0].dtype)
        )
        if is_image and not missing:
            return function
        found = f"without {', '.join(missing)}" if missing else f"a function of {takes}"
    raise ArchiveError(
        f"{entry.name}: {folder}: expected the SavedModel of a function of one uint8 [height, width, 3] "
        f"image, found {found}; check what the registry names"
    )


def _without_batch(name: str, values: np.ndarray) -> np.ndarray:
    dimensions = 3 if name in _CHANNELS else 2
    if name not in _CHANNELS and values.shape[-1] == 1 and values.ndim > dimensions:
        values = values[..., 0]
    return values[0] if values.ndim == dimensions + 1 else values


def _stride_4_maps(found: Maps, size: tuple[int, int]) -> Maps:
    """Takes every fourth pixel of an image's part of the maps; offsets become px of these.

    kMaX-DeepLab's maps are there as the network gives them.
    """
    if "pixel_space_mask_logits" in found:
        names = {"mask_logits": "pixel_space_mask_logits", "class_logits": "transformer_class_logits"}
        return {name: found[output] for name, output in names.items()}
    height, width = (math.ceil(side / MAP_STRIDE) for side in size)
    maps = {
        "semantic_logits": found["semantic_logits"],
        "center_heatmap": found["center_heatmap"][..., None],
        "offset_map": found["offset_map"] / np.float32(MAP_STRIDE),
    }
    return {name: values[::MAP_STRIDE, ::MAP_STRIDE][:height, :width] for name, values in maps.items()}
