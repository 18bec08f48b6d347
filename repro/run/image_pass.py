"""The pass over the images of a run: predict or read, score, write; few images are in memory at a time."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import DataError, EvaluationError
from zoo.files.atomic import write_atomically
from zoo.files.locks import scratch_folder
from zoo.files.progress import Progress
from zoo.network.stream import StageTimes
from zoo.repro.datasets.predicted_instances import mask_folder
from zoo.repro.datasets.predictions import INSTANCE, prediction_files, write_predictions
from zoo.repro.records.claim_words import metric_title
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.pictures import read_panoptic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from zoo.model.postprocess.result import ThingMap
    from zoo.repro.cluster.crew import Crew
    from zoo.repro.datasets.dataset import Dataset, Sample
    from zoo.repro.predictions.finding import Finding
    from zoo.repro.predictions.predictions import PredictedImage
    from zoo.repro.run.scores import InternalScores

Measured = tuple[str, "dict[str, np.ndarray]"]
"""An image and its statistics."""
Result = tuple["list[Finding]", "Measured | None"]
"""What is wrong with the prediction of an image; the image where it could be evaluated."""


class ImagePass(ABC):
    """Evaluates images into per-image statistics and prediction files.

    Attributes:
      scores: the sum of all images evaluated, and of those that were done before.
      qualities: of each image evaluated; see `InternalScores.quality`.
      about: what the record says of what made the predictions.
      workers: what the record says of the processes that did; None for this one.
      given_up: why images could not be evaluated, by name.
      sends: takes the files of each image once they are complete; None where nothing has to.
    """

    about: Mapping[str, Any] = MappingProxyType({})
    workers: Mapping[str, Any] | None = None
    given_up: Mapping[str, str] = MappingProxyType({})
    sends: Callable[[list[Path]], None] | None = None

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

    def resume(self, image_ids: Iterable[str]) -> set[str]:
        """Takes in the images whose statistics are there and intact, and returns them."""
        done = set()
        for image_id in image_ids:
            arrays = self._folder.find_statistics(image_id)
            if arrays is not None:
                self._add(image_id, arrays)
                done.add(image_id)
        return done

    def run(self, image_ids: Sequence[str], done: Collection[str] = ()) -> None:
        """Evaluates those of `image_ids` not in `done`; then all statistics and predictions are on disk."""
        waiting = (self.positions[image_id] for image_id in image_ids if image_id not in done)
        measured = self._measure(waiting)
        progress = Progress("images", len(image_ids), done=len(done), note=self._so_far)
        # Closed however it ends: no thread writes afterwards.
        with progress, closing(measured):
            for image_id, arrays in measured:
                self._add(image_id, arrays)
                if self.sends is not None:
                    files = prediction_files(self._folder.predictions, image_id)
                    self.sends([*files, self._folder.statistics_path(image_id)])
                progress.advance()

    def _add(self, image_id: str, arrays: dict[str, np.ndarray]) -> None:
        self.scores.add(arrays, self.positions[image_id])
        self.qualities[image_id] = self.scores.quality(arrays)

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Frees what is held for the pass."""

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each image of the data set, by name."""
        return {image_id: position for position, image_id in enumerate(self._dataset.image_ids)}

    @abstractmethod
    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        """Yields each image once its statistics are on disk."""

    def _so_far(self) -> str:
        values = self.scores.so_far().items()
        return ", ".join(f"{metric_title(name)} {value:.1f}" for name, value in values) + " so far"

    def _read(self, index: int, *, picture: bool = True) -> Sample:
        with self._times.of("read_s"):
            try:
                return self._dataset.load(index, picture=picture)
            except DataError as error:
                raise DataError(f"{error}; --keep-going leaves such images out") from None

    def _keep(self, sample: Sample, predicted: PredictedImage, things: ThingMap | None = None) -> Measured:
        """Scores and writes one image's prediction; `things` are written in place of those of its map."""
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
                    instances=scored if things is None else things,
                    info=self._dataset.info,
                )
            self._folder.write_statistics(sample.image_id, arrays)
        return sample.image_id, arrays


class LocalPass(ImagePass):
    """A pass whose images are evaluated in this process; single ones too, for `WorkerPass`."""

    @abstractmethod
    def evaluate(self, index: int) -> list[Finding]:
        """Evaluates one image, and returns what is wrong with it; may be called from several threads."""

    def take_times(self) -> dict[str, float]:
        """Returns the seconds of each stage since the last call."""
        return self._times.take()


class Evaluated(NamedTuple):
    """An image that was evaluated elsewhere."""

    files: dict[str, bytes]  # by name in the run's folder: predictions, and the statistics last
    seconds: dict[str, float]  # spent in each stage
    findings: list[Finding]  # what is wrong with its prediction


class WorkerPass:
    """A pass on a worker of a `Crew`: evaluates single images, and hands over their files.

    Attributes:
      about: that of the pass.
    """

    def __init__(self, start: Callable[[RunFolder], LocalPass]) -> None:
        """Starts the pass with a folder of its own for the files of the images under way."""
        self._scratch = ExitStack()
        self._folder = RunFolder(self._scratch.enter_context(scratch_folder("zoo-worker-")))
        self._pass = start(self._folder)
        self.about = self._pass.about

    def __call__(self, image_id: str) -> Evaluated:
        """Evaluates an image."""
        folder = self._folder
        findings = self._pass.evaluate(self._pass.positions[image_id])
        paths = prediction_files(folder.predictions, image_id)
        if (statistics := folder.statistics_path(image_id)).exists():
            paths.append(statistics)
        files = {path.relative_to(folder.root).as_posix(): path.read_bytes() for path in paths}
        for path in paths:
            path.unlink()
        shutil.rmtree(folder.predictions / INSTANCE / mask_folder(image_id)[0], ignore_errors=True)
        return Evaluated(files, self._pass.take_times(), findings)

    def close(self) -> None:
        """Removes the folder."""
        self._scratch.close()


class CrewPass(ImagePass):
    """Evaluates images on the workers of a crew, each a `WorkerPass`; all files are written here."""

    def __init__(
        self,
        dataset: Dataset,
        folder: RunFolder,
        scores: InternalScores,
        crew: Crew[str, Evaluated],
        *,
        keep_going: bool,
    ) -> None:
        """Takes what is evaluated, by whom, and whether images that cannot be evaluated are left out."""
        super().__init__(dataset, folder, scores)
        self._crew = crew
        self._keep_going = keep_going
        self.about = crew.about
        self.given_up: dict[str, str] = {}

    def close(self) -> None:
        """Ends the workers."""
        self._crew.close()

    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        for _, measured in self.results(indices):
            if measured is not None:
                yield measured

    def results(self, indices: Iterator[int]) -> Generator[Result, None, None]:
        """Yields of each image what is wrong with it, and its statistics where it was evaluated."""
        with self._crew:
            for dealt in self._crew.deal([self._dataset.image_ids[i] for i in indices]):
                if dealt.result is not None:
                    measured = self._taken(dealt.item, dealt.result) if dealt.result.files else None
                    yield dealt.result.findings, measured
                elif self._keep_going:
                    self.given_up[dealt.item] = str(dealt.failure)
                else:
                    raise EvaluationError(f"{dealt.failure}; --keep-going leaves such images out")
            self.workers = self._crew.recorded()

    def _taken(self, image_id: str, evaluated: Evaluated) -> Measured:
        """Writes the files of an image, the statistics last."""
        with self._times.of("write_s"):
            for name, content in evaluated.files.items():
                write_atomically(self._folder.root / name, content, durable=False)
        self._times.add(evaluated.seconds)
        arrays = self._folder.find_statistics(image_id)
        assert arrays is not None, image_id
        return image_id, arrays
