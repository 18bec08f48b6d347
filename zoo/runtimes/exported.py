"""Runs a network from a file of `zoo export`: raw images in, maps out, as a network that was built here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from zoo.errors import UsageError
from zoo.model.backend import as_array, compiled_per_image
from zoo.model.families import Options, family_of
from zoo.model.images import check_images, checked_image
from zoo.model.postprocess.result import ImagePrediction, Maps
from zoo.model.preprocess import entry_resized_size, network_input
from zoo.registry import Entry
from zoo.runtimes.model_file import ModelFile


class ExportedRuntime:
    """Runs a file of `zoo export` on the CPU, one image after the other.

    Images are resized and padded, and maps post-processed, by the code that does it for a network built here.

    `input_shape`, `replicas` and `device` are those of `Network`.
    """

    replicas = 1

    def __init__(self, entry: Entry, file: ModelFile, device: dict[str, Any]) -> None:
        """Loads a file that is `entry`'s.

        Raises:
          ArchiveError: the runtime refuses it.
        """
        self.file = file
        self.device = device
        self._entry = entry
        self._session = file.load()
        self._size = file.about.input_size
        self.input_shape: tuple[int | None, ...] = (None, *self._size, 3)
        self._input_of = lru_cache(None)(self._input)

    def __call__(self, images: Any) -> Maps:
        """Returns the stride-4 maps of a batch [B, H, W, 3] of the file's size, one image after the other."""
        check_images(images, self.input_shape, self._entry.name, "export it with another --size")
        each = [self._session(image[None]) for image in np.asarray(images, np.float32)]
        return {name: np.concatenate([maps[name] for maps in each]) for name in each[0]}

    @property
    def keras_model(self) -> NoReturn:
        """Raises a `UsageError`: a file has none."""
        raise UsageError(
            f"{self._entry.name}: an exported file has no Keras model; load the network without `model` for "
            "its layers and variables"
        )

    checked = staticmethod(checked_image)

    def keeping_size(self, raw_size: tuple[int, int], scales: Sequence[float], flip: bool) -> ExportedRuntime:
        """Returns this runtime for an image that fits its input; it has one scale and no mirrored images."""
        fits = all(side <= own for side, own in zip(raw_size, self._size, strict=True))
        if tuple(scales) != (1.0,) or flip or not (fits or any(self._entry.evaluation.min_resize_value)):
            raise UsageError(
                f"{self._entry.name}: an exported file takes images of at most {self._size[0]} x "
                f"{self._size[1]} pixels, at one scale and not mirrored; load the network without `model`"
            )
        return self

    def maps(self, images: Sequence[np.ndarray]) -> list[Maps]:
        """Returns the network's maps for each of the images; see `Network.maps`."""
        found = []
        for image in images:
            pixels = image if image.dtype == np.uint8 else image.astype(np.float32)
            size = np.array(self._resized_size(image.shape[:2]), np.int32)
            maps = self._session(as_array(self._input_of(pixels.dtype)(pixels, size)))
            found.append({name: values[0] for name, values in maps.items()})
        return found

    def postprocess(self, maps: Maps, raw_size: tuple[int, int], options: Options) -> ImagePrediction:
        """Returns the prediction for an image of `raw_size` (height, width), at that size."""
        result = family_of(self._entry).merged(maps, self._size, options)
        return result.restored(self._resized_size(raw_size), raw_size)

    def _resized_size(self, raw_size: tuple[int, ...]) -> tuple[int, int]:
        return entry_resized_size((raw_size[0], raw_size[1]), self._entry.evaluation, self._size)

    def _input(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        return compiled_per_image(lambda image, size: network_input(image, size, self._size)[None], dtype)
