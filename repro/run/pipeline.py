"""The pass through a network: read, predict, post-process, score, write."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from zoo.errors import VerificationError
from zoo.fetch.fetcher import Fetcher
from zoo.files.keras_backend import BACKENDS, choose_backend
from zoo.network.loading import load_entry, model_file_of, weights_of
from zoo.network.stream import stream
from zoo.repro.datasets.dataset import reading_ahead
from zoo.repro.predictions.predictions import PredictedImage, ScoredSegments
from zoo.repro.run.image_pass import LocalPass, Measured, WorkerPass
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from zoo.model.postprocess.result import Maps
    from zoo.network.loading import Weights
    from zoo.registry import Entry
    from zoo.repro.datasets.dataset import Dataset, Sample
    from zoo.repro.predictions.finding import Finding
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.settings import RunSettings
    from zoo.runtimes.model_file import ModelFile


class Pipeline(LocalPass):
    """Evaluates images into per-image statistics and prediction files.

    Reading runs ahead of the network in one thread, post-processing and scoring follow behind it in another.
    """

    def __init__(
        self, entry: Entry, dataset: Dataset, checkpoint: Weights, settings: RunSettings, folder: RunFolder
    ) -> None:
        super().__init__(dataset, folder, InternalScores(dataset.info))
        self._network = load_entry(
            entry,
            checkpoint,
            classes=dataset.info,
            precision=settings.precision,
            optimize=True,
            scales=settings.scales,
            flip=settings.flip,
            device=settings.device,
            runtime=settings.runtime,
            model=settings.model,
        )
        assert self._network.receipt is not None
        self.about = {
            "post_processing": asdict(self._network.options),
            "device": self._network.device,
            "receipt": self._network.receipt.to_json(),
        }
        self._computing, self._finishing = Lock(), Lock()

    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        samples = map(self._read, reading_ahead(self._dataset, indices))
        return stream(samples, self._maps, self._finish, batch=self._network.replicas)

    def evaluate(self, index: int) -> list[Finding]:
        """Evaluates one image; of several threads one reads, one computes, and one finishes at a time."""
        sample = self._read(index)
        with self._computing:
            (maps,) = self._maps([sample])
        with self._finishing:
            self._finish(sample, maps)
        return []

    def _maps(self, samples: Sequence[Sample]) -> list[Maps]:
        # The first call traces the network.
        with self._times.of("network_s", first="network_first_s"):
            return self._network.maps([sample.image for sample in samples])

    def _finish(self, sample: Sample, maps: Maps) -> Measured:
        with self._times.of("post_processing_s"):
            height, width = sample.image.shape[:2]
            found = self._network.postprocess(maps, (height, width))
            scored = ScoredSegments(found.instances.labels, found.instances.score)
            cuts_masks = self._dataset.info.instance_results == "masks"
            things = found.official_things() if cuts_masks else None
        predicted = PredictedImage(sample.image_id, found.panoptic, found.semantic, scored, None)
        return self._keep(sample, predicted, things)


def find_weights(entry: Entry, settings: RunSettings, fetcher: Fetcher) -> tuple[Weights, ModelFile | None]:
    """Returns what a run's network is restored from, and the model file that holds it, if it is one."""
    model = model_file_of(entry, settings.runtime, settings.model)
    if model is None:
        return weights_of(entry, settings.model, fetcher), None
    model.require_size(entry.evaluation.crop_size)
    return model.about.checkpoint, model


@dataclass(frozen=True)
class MakePipeline:
    """Makes the worker of a `Crew` that evaluates images of a run; it finds data and checkpoint there.

    Attributes:
      entry, settings: as for `Pipeline`.
      open_dataset: opens the data set of the run.
      checkpoint_sha256: of what the run's network is restored from.
    """

    entry: Entry
    settings: RunSettings
    open_dataset: Callable[[], Dataset]
    checkpoint_sha256: str | None

    def __call__(self) -> WorkerPass:
        """Restores the network.

        Raises:
          ZooError: data or checkpoint are not here, or are not the same.
        """
        if self.settings.runtime in BACKENDS:
            choose_backend(self.settings.runtime)
        dataset = self.open_dataset()
        weights, _ = find_weights(self.entry, self.settings, Fetcher())
        if weights.sha256 != self.checkpoint_sha256:
            raise VerificationError(
                f"{self.entry.name}: expected a checkpoint with sha256 {self.checkpoint_sha256}, "
                f"found {weights.sha256}; fetch it again"
            )
        return WorkerPass(partial(Pipeline, self.entry, dataset, weights, self.settings))
