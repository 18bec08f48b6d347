"""The pass through a network: read, predict, post-process, score, write."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.network.loading import load_entry
from zoo.network.stream import stream
from zoo.repro.predictions.predictions import PredictedImage, ScoredSegments
from zoo.repro.run.image_pass import ImagePass, Measured
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from zoo.model.postprocess.result import Maps
    from zoo.network.loading import Weights
    from zoo.registry import Entry
    from zoo.repro.datasets.dataset import Dataset, Sample
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.settings import RunSettings


class Pipeline(ImagePass):
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
        self.options: dict[str, Any] = asdict(self._network.options)
        assert self._network.receipt is not None
        self.receipt: dict[str, Any] = self._network.receipt.to_json()
        self.device: dict[str, Any] = self._network.device

    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        samples = map(self._read, indices)
        return stream(samples, self._maps, self._finish, batch=self._network.replicas)

    def _maps(self, samples: Sequence[Sample]) -> list[Maps]:
        # The first call traces the network.
        with self._times.of("network_s", first="network_first_s"):
            return self._network.maps([sample.image for sample in samples])

    def _finish(self, sample: Sample, maps: Maps) -> Measured:
        with self._times.of("post_processing_s"):
            height, width = sample.image.shape[:2]
            found = self._network.postprocess(maps, (height, width))
            scored = ScoredSegments(found.instances.labels, found.instances.score)
        predicted = PredictedImage(sample.image_id, found.panoptic, found.semantic, scored, None)
        return self._keep(sample, predicted)
