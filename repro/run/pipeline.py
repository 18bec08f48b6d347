"""The streaming pass: read, predict, post-process, score, write; few images are in memory at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError
from zoo.files.progress import Progress
from zoo.network.loading import load_entry
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from zoo.fetch.fetcher import Fetched
    from zoo.model.prediction import Maps
    from zoo.registry import Entry
    from zoo.repro.datasets.dataset import Dataset, Sample
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.settings import RunSettings

# Images read ahead of the network, and images waiting behind it, for each replica.
_AHEAD = 2
_BEHIND = 2


class Pipeline:
    """Evaluates images into per-image statistics and prediction files.

    Reading runs ahead of the network in one thread, post-processing and scoring follow behind it in another,
    so that the network's thread does nothing but call the network.
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
        self._times: dict[str, float] = {}
        self._times_lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        # One thread only: post-processing itself uses all cores, and images stay in order.
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="finish")

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        for executor in (self._reader, self._finisher):
            executor.shutdown(wait=True, cancel_futures=True)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent in each stage, summed over images; stages overlap in time."""
        with self._times_lock:
            return dict(self._times)

    def run(self, image_ids: Sequence[str], done: Collection[str] = ()) -> None:
        """Evaluates those of `image_ids` not in `done`; then all statistics and predictions are on disk."""
        index = {image_id: i for i, image_id in enumerate(self._dataset.image_ids)}
        waiting = deque(image_id for image_id in image_ids if image_id not in done)
        for image_id in done:
            arrays = self._folder.find_statistics(image_id)
            if arrays is not None:
                self._scores.add(arrays)
        reading: deque[Future[Sample]] = deque()
        finishing: deque[Future[None]] = deque()
        replicas = self._network.replicas

        def read_ahead() -> None:
            while waiting and len(reading) < replicas * _AHEAD:
                reading.append(self._reader.submit(self._read, index[waiting.popleft()]))

        with Progress("images", len(image_ids), done=len(done), note=self._so_far) as progress:
            while waiting or reading or finishing:
                read_ahead()
                batch = [reading.popleft().result() for _ in range(min(replicas, len(reading)))]
                # Keep the reader busy while the network runs.
                read_ahead()
                if batch:
                    with self._timed("network_s"):
                        outputs = self._network.maps([sample.image for sample in batch])
                    for sample, maps in zip(batch, outputs, strict=True):
                        finishing.append(self._finisher.submit(self._finish, sample, maps))
                while finishing and (
                    len(finishing) > replicas * _BEHIND or not (batch or reading or waiting)
                ):
                    finishing.popleft().result()
                    progress.advance()

    def _so_far(self) -> str:
        pq, miou = self._scores.so_far()
        return f"PQ {pq:.1f}, mIoU {miou:.1f} so far"

    def _read(self, index: int) -> Sample:
        with self._timed("read_s"):
            try:
                return self._dataset.load(index)
            except DataError as error:
                raise DataError(f"{error}; --keep-going leaves such images out") from None

    def _finish(self, sample: Sample, maps: Maps) -> None:
        with self._timed("post_processing_s"):
            height, width = sample.image.shape[:2]
            prediction = self._network.postprocess(maps, (height, width))
            panoptic, semantic, instances = prediction.panoptic, prediction.semantic, prediction.instances
        with self._timed("statistics_s"):
            arrays = self._scores.measure(sample, panoptic, semantic, instances)
        with self._timed("write_s"):
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

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._times_lock:
                self._times[stage] = self._times.get(stage, 0.0) + time.perf_counter() - start
