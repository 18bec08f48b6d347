"""The pass over predictions on disk: read, check, score, write."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from zoo.files.processes import available_cores
from zoo.repro.datasets.dataset import reading_ahead
from zoo.repro.predictions.predictions import open_predictions
from zoo.repro.run.image_pass import LocalPass, Measured, WorkerPass
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.predictions.finding import Finding
    from zoo.repro.predictions.predictions import PredictedImage, Predictions
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.image_pass import CrewPass, Result
    from zoo.repro.run.settings import ScoreSettings

# Images under way for each thread.
_AHEAD = 3


class FolderPass(LocalPass):
    """Evaluates predictions on disk, several images at a time.

    Where something is wrong with the predictions of an image, that one and all after it are only checked;
    where images may be left out, it is given up, and what blocks nothing is passed over.

    Attributes:
      findings: what is wrong, in the order of the images.
    """

    def __init__(
        self,
        dataset: Dataset,
        folder: RunFolder,
        scores: InternalScores,
        predictions: Predictions,
        *,
        writes: bool,
        keep_going: bool,
        shared: CrewPass | None = None,
    ) -> None:
        """Takes what is evaluated.

        Args:
          dataset, folder, scores: as for `ImagePass`.
          predictions: what is read.
          writes: whether files are written for the official scripts.
          keep_going: whether images that cannot be scored are left out.
          shared: whose workers evaluate the images; None for this process.
        """
        super().__init__(dataset, folder, scores, writes=writes)
        self._predictions = predictions
        self._keep_going = keep_going
        self.findings: list[Finding] = []
        self.given_up: dict[str, str] = {} if shared is None else shared.given_up
        self._shared = shared

    def predicted_map(self, image_id: str) -> np.ndarray:
        """Returns the panoptic map of an image, or its semantic map as labels; [H, W] int32."""
        predicted, _ = self._predictions.read(image_id)
        if predicted.panoptic is not None:
            return predicted.panoptic
        assert predicted.semantic is not None
        return predicted.semantic.astype(np.int32) * self._dataset.info.label_divisor

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent in each stage, summed over images."""
        return super().timings if self._shared is None else self._shared.timings

    def close(self) -> None:
        """Ends the workers, if there are any."""
        if self._shared is not None:
            self._shared.close()

    def evaluate(self, index: int) -> list[Finding]:
        """Evaluates one image, and returns what is wrong with it."""
        return self._evaluate(index)[0]

    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        with closing((self._shared or self).results(indices)) as results:
            for findings, measured in results:
                self.findings += findings
                if measured is not None:
                    yield measured
                elif self._keep_going and (blocking := [each for each in findings if each.blocks]):
                    self.given_up[blocking[0].image_id] = str(blocking[0])
        if self._shared is not None:
            self.workers = self._shared.workers
            self.findings.sort(key=lambda finding: self.positions[finding.image_id])

    def results(self, indices: Iterator[int]) -> Generator[Result, None, None]:
        """Yields of each image what is wrong with it, and its statistics where it could be evaluated."""
        threads = available_cores()
        under_way: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="score") as pool:
            try:
                for index in reading_ahead(self._dataset, indices):
                    under_way.append(pool.submit(self._evaluate, index))
                    if len(under_way) >= threads * _AHEAD:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()

    def _evaluate(self, index: int) -> Result:
        with self._times.of("check_s"):
            predicted, findings = self._predictions.read(self._dataset.image_ids[index])
        if self._keep_going:
            is_sound = not any(finding.blocks for finding in findings)
        else:
            is_sound = not (findings or self.findings)
        if not is_sound:
            return findings, None
        sample = self._read(index, picture=False)
        return findings, self._keep(sample, self._complete(predicted))

    def _complete(self, predicted: PredictedImage) -> PredictedImage:
        """Returns a prediction with what the official scripts read in the place of what it does not hold.

        A panoptic map implies a semantic one. Where the predictions hold instances, an image without any has
        an empty list.
        """
        if self._writes and predicted.semantic is None and predicted.panoptic is not None:
            semantic = (predicted.panoptic // self._dataset.info.label_divisor).astype(np.uint8)
            predicted = replace(predicted, semantic=semantic)
        if "instances" in self._predictions.holds and predicted.instances is None and predicted.masks is None:
            predicted = replace(predicted, masks=[])
        return predicted


@dataclass(frozen=True)
class MakeFolderPass:
    """Makes the worker of a `Crew` that scores images of a run; it finds data and predictions there.

    Attributes:
      predictions: where the predictions lie.
      settings: how they are read, and what is measured.
      open_dataset: opens the data set of the run.
      holds: what is predicted for each image.
    """

    predictions: Path
    settings: ScoreSettings
    open_dataset: Callable[[], Dataset]
    holds: frozenset[str]

    def __call__(self) -> WorkerPass:
        """Opens the predictions; raises a ZooError where data or predictions are not here."""
        dataset, settings = self.open_dataset(), self.settings
        found = open_predictions(
            self.predictions, dataset, form=settings.form, divisor=settings.divisor, ids=settings.ids
        )
        return WorkerPass(
            partial(
                FolderPass,
                dataset,
                scores=InternalScores(dataset.info, self.holds, boundary="boundary" in settings.metrics),
                predictions=found,
                writes="official" in settings.evaluators,
                keep_going=settings.keep_going,
            )
        )
