"""The pass over the images of a run: predict or read, score, write; few images are in memory at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING

from zoo.errors import DataError
from zoo.files.progress import Progress
from zoo.network.stream import StageTimes
from zoo.repro.datasets.dataset import reading_ahead
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.records.claim_words import metric_title
from zoo.repro.run.pictures import read_panoptic

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence

    import numpy as np

    from zoo.repro.datasets.dataset import Dataset, Sample
    from zoo.repro.predictions.predictions import PredictedImage
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.scores import InternalScores

Measured = tuple[str, "dict[str, np.ndarray]"]
"""An image and its statistics."""


class ImagePass(ABC):
    """Evaluates images into per-image statistics and prediction files.

    Attributes:
      scores: the sum of all images evaluated, and of those that were done before.
      qualities: of each image evaluated, in the order of the images; see `InternalScores.quality`.
    """

    def __init__(
        self, dataset: Dataset, folder: RunFolder, scores: InternalScores, *, writes: bool = True
    ) -> None:
        """Takes what is evaluated, and whether predictions are written for the official scripts."""
        self._dataset = dataset
        self._folder = folder
        self._writes = writes
        self.scores = scores
        self.qualities: dict[str, float] = {}
        self._times = StageTimes()

    def predicted_map(self, image_id: str) -> np.ndarray:
        """Returns the panoptic map that was predicted for an image, [H, W] int32."""
        return read_panoptic(self._folder.predictions, image_id, self._dataset.info)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent in each stage, summed over images; stages overlap in time."""
        return self._times.to_json()

    def run(self, image_ids: Sequence[str], done: Collection[str] = ()) -> None:
        """Evaluates those of `image_ids` not in `done`; then all statistics and predictions are on disk."""
        index = {image_id: i for i, image_id in enumerate(self._dataset.image_ids)}
        for image_id in done:
            arrays = self._folder.find_statistics(image_id)
            if arrays is not None:
                self.scores.add(arrays)
        waiting = reading_ahead(
            self._dataset, (index[image_id] for image_id in image_ids if image_id not in done)
        )
        measured = self._measure(waiting)
        progress = Progress("images", len(image_ids), done=len(done), note=self._so_far)
        # Closed however it ends: no thread writes afterwards.
        with progress, closing(measured):
            for image_id, arrays in measured:
                self.scores.add(arrays)
                self.qualities[image_id] = self.scores.quality(arrays)
                progress.advance()

    @abstractmethod
    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        """Yields each image, in the order given, once its statistics are on disk."""

    def _so_far(self) -> str:
        values = self.scores.so_far().items()
        return ", ".join(f"{metric_title(name)} {value:.1f}" for name, value in values) + " so far"

    def _read(self, index: int, *, picture: bool = True) -> Sample:
        with self._times.of("read_s"):
            try:
                return self._dataset.load(index, picture=picture)
            except DataError as error:
                raise DataError(f"{error}; --keep-going leaves such images out") from None

    def _keep(self, sample: Sample, predicted: PredictedImage) -> Measured:
        """Scores and writes one image's prediction."""
        with self._times.of("statistics_s"):
            scored = predicted.masks if predicted.instances is None else predicted.instances
            arrays = self.scores.measure(sample, predicted.panoptic, predicted.semantic, scored)
        with self._times.of("write_s"):
            if self._writes:
                write_predictions(
                    self._folder.predictions,
                    sample.image_id,
                    panoptic=predicted.panoptic,
                    semantic=predicted.semantic,
                    instances=scored,
                    info=self._dataset.info,
                )
            self._folder.write_statistics(sample.image_id, arrays)
        return sample.image_id, arrays
