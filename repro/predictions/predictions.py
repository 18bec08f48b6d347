"""Predictions of any model on disk, image by image, in whatever forms a folder or archive holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from zoo.repro.predictions.finding import Finding
from zoo.repro.predictions.recognition import Parts, recognise
from zoo.repro.predictions.scored_masks import scores_of_segments
from zoo.repro.predictions.storage import Storage, open_storage

if TYPE_CHECKING:
    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.predictions.naming import Ids
    from zoo.repro.predictions.panoptic_maps import ReadPanoptic
    from zoo.repro.predictions.scored_masks import ScoredMask


@dataclass(frozen=True, eq=False)
class ScoredSegments:
    """The thing segments of a panoptic map with their scores."""

    labels: np.ndarray  # [T] int32, panoptic labels, each once
    score: np.ndarray  # [T] float32


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """What a model predicted for one image; None is what its files do not hold."""

    image_id: str
    panoptic: np.ndarray | None = field(repr=False)  # [H, W] int32, labels of the data set's classes
    semantic: np.ndarray | None = field(repr=False)  # [H, W] uint8, train ids; void is the ignore label
    # Only where every thing segment has a score, and masks, if there are any, are these segments.
    instances: ScoredSegments | None
    # Only where the files hold masks: they may overlap each other, and need not be segments.
    masks: list[ScoredMask] | None = field(repr=False)


class ReadingKeywords(TypedDict, total=False):
    """The options of `open_predictions`, for editors."""

    form: str | None
    divisor: int | None
    ids: Ids | None


def open_predictions(
    path: Path,
    dataset: Dataset,
    *,
    form: str | None = None,
    divisor: int | None = None,
    ids: Ids | None = None,
) -> Predictions:
    """Opens predictions of any model; looks at names and lists, and decodes no picture.

    Args:
      path: a folder, a run's folder, a .zip, or a JSON file beside its folder.
      dataset: whose images were predicted.
      form: one of "coco", "label_ids", "divisor", "instances" to read that alone; None for all that is there.
      divisor: of maps of class * divisor + instance.
      ids: by which numbers classes are called. By default original ids, and train ids in maps with a divisor.

    Raises:
      DataError: nothing is there that can be read, or it is about no image of the data set.
      UsageError: there is no such form, or the divisor is not 2 or more.
    """
    storage = open_storage(Path(path))
    return Predictions(
        Path(path), dataset, storage, recognise(storage, dataset, form=form, divisor=divisor, ids=ids)
    )


class Predictions:
    """Predictions for the images of a data set.

    Attributes:
      path: where they lie.
      form: what they are in words, such as "coco + label_ids".
      holds: which of "panoptic", "semantic" and "instances" there is.
      image_ids: the images that every form has, in the order of the data set.
      problems: what is wrong as a whole: images that are missing or there twice, classes, scores.
    """

    def __init__(self, path: Path, dataset: Dataset, storage: Storage, parts: Parts) -> None:
        self.path = path
        self.dataset = dataset
        self.storage = storage
        self.parts = parts
        self.form = parts.form
        self.holds = parts.holds
        self.problems: tuple[Finding, ...] = tuple(parts.findings)
        self.image_ids = tuple(image_id for image_id in dataset.image_ids if parts.has(image_id))
        self._index = {image_id: index for index, image_id in enumerate(dataset.image_ids)}

    def size_of(self, image_id: str) -> tuple[int, int]:
        """Returns height and width of an image of the data set."""
        return self.dataset.image_size(self._index[image_id])

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over names, sizes and contents of all files."""
        return self.storage.digest()

    def read(self, image_id: str) -> tuple[PredictedImage, list[Finding]]:
        """Returns what was predicted for an image, and what is wrong with its files; in many threads."""
        parts, size = self.parts, self.size_of(image_id)
        findings: list[Finding] = []
        panoptic: ReadPanoptic | None = None
        semantic = instances = masks = None
        if parts.panoptic is not None and image_id in parts.panoptic.image_ids:
            panoptic, wrong = parts.panoptic.panoptic(image_id, size)
            findings += wrong
        if parts.semantic is not None and image_id in parts.semantic.image_ids:
            semantic, wrong = parts.semantic.semantic(image_id, size)
            findings += wrong
        labels = None if panoptic is None else panoptic.labels
        scores = None if panoptic is None else panoptic.scores
        if parts.masks is not None and image_id in parts.masks.image_ids:
            read, wrong = parts.masks.read(image_id, size, labels)
            findings += wrong
            masks = read.masks
            if panoptic is not None:
                # What is given with masks of its own is scored by these.
                scores = scores_of_segments(panoptic.things, read, self.dataset.info.label_divisor)
        if panoptic is not None and scores is not None:
            instances = ScoredSegments(panoptic.things, scores)
        return PredictedImage(image_id, labels, semantic, instances, masks), findings
