"""Panoptic quality (PQ), equal to the reference's internal metric.

Sources: "Panoptic Segmentation" (Kirillov et al., CVPR 2019), section 4; deeplab2
`evaluation/panoptic_quality.py`. It differs from the official scripts: crowd segments count like any other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zoo.metrics.metric import Metric, check_segment_classes
from zoo.metrics.overlap import LabelOverlaps

# An IoU above 0.5 in float64 is a whole number of 2**-53; kept as integers (two words), sums are exact.
_UNIT_BITS = 53
_LOW_WORD_BITS = 32


@dataclass(frozen=True)
class QualityMeans:
    """PQ, SQ and RQ in percent, each a mean over classes; NaN where no class occurs."""

    pq: float
    sq: float
    rq: float
    num_classes: int  # that were averaged: those with at least one TP, FP or FN


@dataclass(frozen=True, eq=False)
class PanopticQualityResult:
    """Panoptic quality of a set of images, in percent, unrounded; per class and averaged."""

    pq: float
    sq: float
    rq: float
    things: QualityMeans | None  # None where `compute` was not told which classes are things
    stuff: QualityMeans | None
    pq_per_class: np.ndarray  # [C] float64, percent; NaN for a class that does not occur
    sq_per_class: np.ndarray  # likewise
    rq_per_class: np.ndarray  # likewise
    iou: np.ndarray  # [C] float64, sum of the IoU of the matched segments, not in percent
    tp: np.ndarray  # [C] int64, matched segments
    fp: np.ndarray  # [C] int64, predictions without a match
    fn: np.ndarray  # [C] int64, ground truth without a match


def quality_per_class(
    iou: np.ndarray, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns PQ, SQ and RQ per class in percent, [C] float64 each; NaN where TP, FP and FN are all 0."""
    denominator = tp + 0.5 * fp + 0.5 * fn
    occurs = denominator > 0
    undefined = np.where(occurs, 0.0, np.nan)
    sq = 100 * np.divide(iou, tp, out=undefined.copy(), where=tp > 0)
    rq = 100 * np.divide(tp, denominator, out=undefined.copy(), where=occurs)
    return sq * rq / 100, sq, rq


class QualitySums(Metric):
    """Sums of IoU and counts of true positives, false positives and false negatives per class.

    All are kept as integers, so the totals do not depend on the order or grouping of images, to the last bit.
    """

    setting_names: ClassVar[tuple[str, ...]] = ("num_classes", "ignore_label", "label_divisor")

    def __init__(self, num_classes: int, ignore_label: int, label_divisor: int) -> None:
        super().__init__(num_classes, ignore_label)
        if label_divisor < 1:
            raise ValueError(f"label_divisor must be at least 1, found {label_divisor}")
        self.label_divisor = int(label_divisor)
        self._iou_units = np.zeros((2, self.num_classes), np.int64)
        self._tp = np.zeros(self.num_classes, np.int64)
        self._fp = np.zeros(self.num_classes, np.int64)
        self._fn = np.zeros(self.num_classes, np.int64)

    @property
    def iou(self) -> np.ndarray:
        """Sum of the IoU of the matched segments per class, [C] float64, rounded once."""
        high, low = self._iou_units.tolist()
        return np.array([((h << _LOW_WORD_BITS) + w) / 2**_UNIT_BITS for h, w in zip(high, low, strict=True)])

    @property
    def tp(self) -> np.ndarray:
        """Matched segments per class, [C] int64."""
        return self._tp.copy()

    @property
    def fp(self) -> np.ndarray:
        """Predicted segments without a match per class, [C] int64."""
        return self._fp.copy()

    @property
    def fn(self) -> np.ndarray:
        """Ground-truth segments without a match per class, [C] int64."""
        return self._fn.copy()

    def _add_image(
        self, match_classes: np.ndarray, match_ious: np.ndarray, fp: np.ndarray, fn: np.ndarray
    ) -> None:
        """Adds an image's matches, each IoU above 0.5, in their order, and its counts per class, [C]."""
        image_iou = np.bincount(match_classes, match_ious, self.num_classes)
        high = np.floor(image_iou * 2.0 ** (_UNIT_BITS - _LOW_WORD_BITS))
        low = (image_iou * 2.0 ** (_UNIT_BITS - _LOW_WORD_BITS) - high) * 2.0**_LOW_WORD_BITS
        self._iou_units += np.stack([high, low]).astype(np.int64)
        self._carry()
        self._tp += np.bincount(match_classes, minlength=self.num_classes)
        self._fp += fp
        self._fn += fn

    def _quality(self, thing_class_ids: Collection[int] | None) -> PanopticQualityResult:
        """Returns PQ, SQ and RQ in percent; things and stuff are averaged too where the things are known."""
        iou = self.iou
        pq, sq, rq = quality_per_class(iou, self._tp, self._fp, self._fn)
        occurs = ~np.isnan(rq)

        def means(chosen: np.ndarray) -> QualityMeans:
            chosen = chosen & occurs
            if not chosen.any():
                return QualityMeans(float("nan"), float("nan"), float("nan"), 0)
            pq_mean, sq_mean, rq_mean = (float(values[chosen].mean()) for values in (pq, sq, rq))
            return QualityMeans(pq_mean, sq_mean, rq_mean, int(chosen.sum()))

        overall = means(np.ones(self.num_classes, bool))
        things = stuff = None
        if thing_class_ids is not None:
            is_thing = np.isin(np.arange(self.num_classes), list(thing_class_ids))
            things, stuff = means(is_thing), means(~is_thing)
        return PanopticQualityResult(
            overall.pq, overall.sq, overall.rq, things, stuff, pq, sq, rq, iou, self.tp, self.fp, self.fn
        )

    def _carry(self) -> None:
        """Carries from the low words to the high ones, so that equal sums are equal arrays."""
        self._iou_units[0] += self._iou_units[1] >> _LOW_WORD_BITS
        self._iou_units[1] &= 2**_LOW_WORD_BITS - 1

    def _add(self, other: Any) -> None:
        super()._add(other)
        self._carry()

    def _state(self) -> dict[str, np.ndarray]:
        return {"iou_units": self._iou_units, "tp": self._tp, "fp": self._fp, "fn": self._fn}


class PanopticQuality(QualitySums):
    """Panoptic quality of label maps `class * label_divisor + instance`.

    Void is the label `ignore_label * label_divisor`; predicted pixels on it do not count in a union, and a
    prediction that lies mostly on it is not a false positive.

    Args:
        num_classes: number of classes, C.
        ignore_label: class that is not scored; may lie outside 0..C-1.
        label_divisor: factor between class and instance in a label.

    >>> import numpy as np
    >>> from zoo.metrics.overlap import label_overlaps
    >>> truth = np.array([[0, 0, 0, 1001], [0, 0, 0, 1001]], np.int32)
    >>> prediction = np.array([[0, 0, 1001, 1001], [0, 0, 0, 1001]], np.int32)
    >>> metric = PanopticQuality(num_classes=3, ignore_label=255, label_divisor=1000)
    >>> metric.update(label_overlaps(truth, prediction))
    >>> result = metric.compute(thing_class_ids=[1])
    >>> [round(value, 2) for value in (result.pq, result.things.pq, result.stuff.pq)]
    [75.0, 66.67, 83.33]
    """

    def compute(self, thing_class_ids: Collection[int] | None = None) -> PanopticQualityResult:
        """Returns PQ, SQ and RQ in percent; classes without TP, FP and FN are left out of every mean.

        Args:
            thing_class_ids: classes that have instances; where given, things and stuff are averaged too.
        """
        return self._quality(thing_class_ids)

    def update(self, overlaps: LabelOverlaps) -> None:
        """Adds one image.

        Args:
            overlaps: `label_overlaps` of the ground-truth and the predicted panoptic map, both cropped to the
                image; the ground truth with its crowd labels.

        Raises:
            DataError: a label's class is neither one of the C classes nor the ignore label.
        """
        gt_classes = overlaps.gt_labels // self.label_divisor
        pred_classes = overlaps.pred_labels // self.label_divisor
        for of, labels, classes in (
            ("ground-truth", overlaps.gt_labels, gt_classes),
            ("predicted", overlaps.pred_labels, pred_classes),
        ):
            check_segment_classes(labels, classes, self.num_classes, self.ignore_label, of)

        on_void = overlaps.gt_labels[overlaps.gt_index] == self.ignore_label * self.label_divisor
        void_areas = np.zeros(overlaps.pred_labels.size, np.int64)
        void_areas[overlaps.pred_index[on_void]] = overlaps.area[on_void]

        gt_index, pred_index = overlaps.gt_index, overlaps.pred_index
        unions = (
            overlaps.gt_areas[gt_index]
            + overlaps.pred_areas[pred_index]
            - overlaps.area
            - void_areas[pred_index]
        )
        comparable = (gt_classes[gt_index] == pred_classes[pred_index]) & (
            gt_classes[gt_index] != self.ignore_label
        )
        ious = np.divide(overlaps.area, unions, out=np.zeros(unions.size), where=comparable)
        matches = np.flatnonzero(ious > 0.5)
        # The reference adds in order of ground-truth label; float64 sums within an image keep that order.
        matches = matches[np.argsort(overlaps.gt_labels[gt_index[matches]], kind="stable")]
        match_classes = gt_classes[gt_index[matches]]

        missed = gt_classes != self.ignore_label
        missed[gt_index[matches]] = False
        spurious = (pred_classes != self.ignore_label) & ~(void_areas / overlaps.pred_areas > 0.5)
        spurious[pred_index[matches]] = False

        self._add_image(
            match_classes,
            ious[matches],
            fp=np.bincount(pred_classes[spurious], minlength=self.num_classes),
            fn=np.bincount(gt_classes[missed], minlength=self.num_classes),
        )
