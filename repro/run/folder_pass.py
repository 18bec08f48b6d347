"""The pass over predictions on disk: read, check, score, write."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo.files.processes import available_cores
from zoo.repro.datasets.dataset import reading_ahead
from zoo.repro.run.image_pass import ImagePass, Measured

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.predictions.finding import Finding
    from zoo.repro.predictions.predictions import PredictedImage, Predictions
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.scores import InternalScores

# Images under way for each thread.
_AHEAD = 3


class FolderPass(ImagePass):
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
    ) -> None:
        """Takes what is evaluated.

        Args:
          dataset, folder, scores: as for `ImagePass`.
          predictions: what is read.
          writes: whether files are written for the official scripts.
          keep_going: whether images that cannot be scored are left out.
        """
        super().__init__(dataset, folder, scores, writes=writes)
        self._predictions = predictions
        self._keep_going = keep_going
        self.findings: list[Finding] = []
        self.given_up: dict[str, str] = {}

    def predicted_map(self, image_id: str) -> np.ndarray:
        """Returns the panoptic map of an image, or its semantic map as labels; [H, W] int32."""
        predicted, _ = self._predictions.read(image_id)
        if predicted.panoptic is not None:
            return predicted.panoptic
        assert predicted.semantic is not None
        return predicted.semantic.astype(np.int32) * self._dataset.info.label_divisor

    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        threads = available_cores()
        under_way: deque[Future[tuple[list[Finding], Measured | None]]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="score") as pool:
            try:
                for index in reading_ahead(self._dataset, indices):
                    under_way.append(pool.submit(self._evaluate, index))
                    if len(under_way) >= threads * _AHEAD:
                        yield from self._result(under_way.popleft())
                while under_way:
                    yield from self._result(under_way.popleft())
            finally:
                for future in under_way:
                    future.cancel()

    def _result(self, future: Future[tuple[list[Finding], Measured | None]]) -> Iterator[Measured]:
        findings, measured = future.result()
        self.findings += findings
        if measured is not None:
            yield measured
        elif self._keep_going:
            blocking = next(finding for finding in findings if finding.blocks)
            self.given_up[blocking.image_id] = str(blocking)

    def _evaluate(self, index: int) -> tuple[list[Finding], Measured | None]:
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
