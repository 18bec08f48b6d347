"""The streaming pass: read, predict, post-process, score, write; few images are in memory at a time."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError
from zoo.files.progress import Progress
from zoo.network.loading import load_entry
from zoo.network.stream import StageTimes, stream
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from zoo.fetch.fetcher import Fetched
    from zoo.model.postprocess.result import Maps
    from zoo.registry import Entry
    from zoo.repro.datasets.dataset import Dataset, Sample
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.settings import RunSettings


class Pipeline:
    """Evaluates images into per-image statistics and prediction files.

    Reading runs ahead of the network in one thread, post-processing and scoring follow behind it in another.
    """

    def __init__(
        self, entry: Entry, dataset: Dataset, checkpoint: Fetched, settings: RunSettings, folder: RunFolder
    ) -> None:
        self._dataset = dataset
        self._folder = folder
        self._settings = settings
        self._network = load_entry(
            entry,
            checkpoint,
            classes=dataset.info,
            precision=settings.precision,
            optimize=True,
            scales=settings.scales,
            flip=settings.flip,
            device=settings.device,
        )
        self.options: dict[str, Any] = asdict(self._network.options)
        assert self._network.receipt is not None
        self.receipt: dict[str, Any] = self._network.receipt.to_json()
        self.device: dict[str, Any] = self._network.device
        self._scores = InternalScores(dataset.info)
        self._times = StageTimes()

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
                self._scores.add(arrays)
        waiting = (index[image_id] for image_id in image_ids if image_id not in done)
        samples = map(self._read, waiting)
        finished = stream(samples, self._maps, self._finish, batch=self._network.replicas)
        progress = Progress("images", len(image_ids), done=len(done), note=self._so_far)
        # Closed however it ends: no thread writes afterwards.
        with progress, closing(finished):
            for _ in finished:
                progress.advance()

    def _so_far(self) -> str:
        pq, miou = self._scores.so_far()
        return f"PQ {pq:.1f}, mIoU {miou:.1f} so far"

    def _read(self, index: int) -> Sample:
        with self._times.of("read_s"):
            try:
                return self._dataset.load(index)
            except DataError as error:
                raise DataError(f"{error}; --keep-going leaves such images out") from None

    def _maps(self, samples: Sequence[Sample]) -> list[Maps]:
        # The first call traces the network.
        with self._times.of("network_s", first="network_first_s"):
            return self._network.maps([sample.image for sample in samples])

    def _finish(self, sample: Sample, maps: Maps) -> None:
        with self._times.of("post_processing_s"):
            height, width = sample.image.shape[:2]
            prediction = self._network.postprocess(maps, (height, width))
            panoptic, semantic, instances = prediction.panoptic, prediction.semantic, prediction.instances
        with self._times.of("statistics_s"):
            arrays = self._scores.measure(sample, panoptic, semantic, instances)
        with self._times.of("write_s"):
            write_predictions(
                self._folder.predictions,
                sample.image_id,
                panoptic=panoptic,
                semantic=semantic,
                instances=instances,
                info=self._dataset.info,
            )
            self._folder.write_statistics(sample.image_id, arrays)
        self._scores.add(arrays)
