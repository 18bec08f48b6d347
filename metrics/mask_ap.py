"""COCO-style mask AP of panoptic maps, equal to the reference's internal metric.

Sources: deeplab2 `evaluation/coco_instance_ap.py`; matching, accumulation and averages are pycocotools'
own `COCOeval`. Only the intersections over union come from elsewhere: segments of one label map are disjoint,
so the counts of `label_overlaps` give the same values as run-length masks, without encoding any.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from zoo.errors import DataError
from zoo.metrics.mask_overlaps import Mask, mask_overlaps
from zoo.metrics.metric import Metric, check_segment_classes
from zoo.metrics.overlap import LabelOverlaps
from zoo.metrics.overlap_evaluation import ImageThings, OverlapEvaluation


@dataclass(frozen=True)
class MaskAPMeans:
    """The twelve numbers of COCOeval in their order, in percent, unrounded.

    NaN where no ground truth of that size exists (COCOeval's -1); all 0 where nothing was detected at all.
    Areas in pixels: small up to 32^2, medium 32^2 to 96^2, large from 96^2.
    """

    ap: float  # average precision, mean over IoU thresholds 0.50 to 0.95 and classes; at most 100 detections
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float  # average recall with at most 1 detection per class and image; likewise the next two
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float


@dataclass(frozen=True, eq=False)
class MaskAPResult:
    """Mask AP of a set of images."""

    means: MaskAPMeans
    ap_per_class: np.ndarray  # [C] float64, percent; NaN for a class without (non-crowd) ground truth

    @property
    def ap(self) -> float:
        """Average precision in percent, `means.ap`."""
        return self.means.ap


_DTYPES = (np.int32, np.int64, np.bool_, np.int32, np.int64, np.float32, np.int32, np.int32, np.int64)
"""Of the fields of `ImageThings`, in their order."""
_GROUPS = ("gt", "dt", "overlap")


class MaskAP(Metric):
    """COCO-style average precision of the thing segments of panoptic maps.

    State: per image, class, area and crowd flag of the ground-truth segments, class, area and score of the
    predicted ones, and their intersections. `merge` appends images. COCOeval ranks equal scores by the order
    of images, so merge shards in the order of their images to get the same result to the last bit.

    Args:
        num_classes: number of classes, C.
        ignore_label: class whose segments are dropped; may lie outside 0..C-1.
        label_divisor: factor between class and instance in a label.
        thing_class_ids: classes that have instances; segments of the others are dropped.

    >>> import numpy as np
    >>> from zoo.metrics.overlap import label_overlaps
    >>> truth = np.array([[0, 0, 1001, 1002]], np.int32)
    >>> prediction = np.array([[0, 0, 1001, 0]], np.int32)
    >>> metric = MaskAP(num_classes=2, ignore_label=255, label_divisor=1000, thing_class_ids=[1])
    >>> metric.update(label_overlaps(truth, prediction), pred_labels=[0, 1001], pred_scores=[0.0, 0.9])
    >>> result = metric.compute()
    >>> round(result.ap, 2), round(result.means.ar_100, 2), result.means.ap_large
    (50.5, 50.0, nan)
    """

    setting_names = ("num_classes", "ignore_label", "label_divisor", "thing_class_ids")

    def __init__(
        self, num_classes: int, ignore_label: int, label_divisor: int, thing_class_ids: Collection[int]
    ) -> None:
        super().__init__(num_classes, ignore_label)
        if label_divisor < 1:
            raise ValueError(f"label_divisor must be at least 1, found {label_divisor}")
        self.label_divisor = int(label_divisor)
        self.thing_class_ids = tuple(sorted({int(class_id) for class_id in thing_class_ids}))
        if not all(0 <= class_id < self.num_classes for class_id in self.thing_class_ids):
            raise ValueError(
                f"thing_class_ids: expected classes of 0..{self.num_classes - 1}, "
                f"found {self.thing_class_ids}"
            )
        # By class, which is one of the C or the ignore label, which may lie outside of them.
        self._is_kept = np.zeros(self.num_classes + abs(self.ignore_label) + 1, np.bool_)
        self._is_kept[list(self.thing_class_ids)] = True
        self._is_kept[self.ignore_label] = False
        self._images: list[ImageThings] = []

    @property
    def num_images(self) -> int:
        """How many images the state holds."""
        return len(self._images)

    def evaluation(self) -> COCOeval:
        """Returns COCOeval on the images added up to now, not evaluated yet; it prints as it works."""
        return OverlapEvaluation(self._images)

    def crowd_labels(self, gt_labels: np.ndarray) -> np.ndarray:
        """Returns those of `gt_labels` that are crowd: a thing class with instance number 0.

        Source: deeplab2 `data/dataset_utils.py`.
        """
        gt_labels = np.asarray(gt_labels)
        is_thing = np.isin(gt_labels // self.label_divisor, self.thing_class_ids)
        return gt_labels[is_thing & (gt_labels % self.label_divisor == 0)]

    def update(
        self,
        overlaps: LabelOverlaps,
        pred_labels: Collection[int] | np.ndarray,
        pred_scores: Collection[float] | np.ndarray,
        crowd_labels: Collection[int] | np.ndarray = (),
    ) -> None:
        """Adds one image.

        Args:
            overlaps: `label_overlaps` of the ground-truth and the predicted panoptic map, both cropped to the
                image.
            pred_labels: [S] predicted labels that have a score, in any order; stuff may be among them.
            pred_scores: [S] their scores, kept as float32.
            crowd_labels: ground-truth labels that are crowd; those not in the image have no effect.

        Raises:
            ValueError: `pred_labels` and `pred_scores` differ in length, a label is given twice or is not in
                the predicted map, or a predicted thing segment has no score or one that is NaN.
            DataError: a label's class is neither one of the C classes nor the ignore label.
        """
        dt_classes = overlaps.pred_labels // self.label_divisor
        dt_kept = self._kept(overlaps.pred_labels, dt_classes, "predicted")
        scores = self._scores_of(overlaps.pred_labels, dt_kept, pred_labels, pred_scores)
        self._append(overlaps, dt_kept, dt_classes, scores, crowd_labels)

    def update_masks(
        self,
        ground_truth: np.ndarray,
        masks: Sequence[Mask],
        class_ids: Collection[int] | np.ndarray,
        pred_scores: Collection[float] | np.ndarray,
        crowd_labels: Collection[int] | np.ndarray = (),
    ) -> None:
        """Adds one image whose detections are masks of their own, which may overlap each other.

        Masks of the segments of a panoptic map, in the order of their first pixels, give what `update` gives.
        As for COCOeval, a mask without a pixel is a detection that matches nothing.

        Args:
            ground_truth: [H, W] int32, the ground-truth panoptic map with its crowd labels.
            masks: the detections, arrays or run lengths, as `mask_overlaps` takes them.
            class_ids: the class of each; masks of classes without instances are dropped.
            pred_scores: the score of each, kept as float32.
            crowd_labels: ground-truth labels that are crowd; those not in the image have no effect.

        Raises:
            ValueError: `masks`, `class_ids` and `pred_scores` differ in length.
            DataError: a mask is not of the size of the ground truth, a score is NaN, or a class is neither
                one of the C classes nor the ignore label.
        """
        classes, scores = np.asarray(class_ids, np.int32), np.asarray(pred_scores, np.float32)
        if not classes.shape == scores.shape == (len(masks),):
            raise ValueError(
                f"masks, class_ids and pred_scores: expected three lists of one length, "
                f"found {len(masks)} masks and shapes {classes.shape} and {scores.shape}"
            )
        of_class = (classes >= 0) & (classes < self.num_classes) | (classes == self.ignore_label)
        for position in np.flatnonzero(np.isnan(scores) | ~of_class).tolist():
            expected = f"expected a number as its score and a class of 0..{self.num_classes - 1}"
            found = f"found score {scores[position]} and class {classes[position]}"
            raise DataError(f"mask {position}: {expected}, {found}; classes are train ids")
        kept = np.isin(classes, self.thing_class_ids) & (classes != self.ignore_label)
        self._append(mask_overlaps(ground_truth, masks), kept, classes, scores, crowd_labels)

    def _append(
        self,
        overlaps: LabelOverlaps,
        dt_kept: np.ndarray,
        dt_classes: np.ndarray,
        scores: np.ndarray,
        crowd_labels: Collection[int] | np.ndarray,
    ) -> None:
        """Appends an image; of its detections, those that are kept."""
        gt_classes = overlaps.gt_labels // self.label_divisor
        gt_kept = self._kept(overlaps.gt_labels, gt_classes, "ground-truth")
        pair_kept = (
            gt_kept[overlaps.gt_index]
            & dt_kept[overlaps.pred_index]
            & (gt_classes[overlaps.gt_index] == dt_classes[overlaps.pred_index])
        )
        gt_position = (np.cumsum(gt_kept) - 1).astype(np.int32)
        dt_position = (np.cumsum(dt_kept) - 1).astype(np.int32)
        self._images.append(
            ImageThings(
                gt_category=gt_classes[gt_kept],
                gt_area=overlaps.gt_areas[gt_kept],
                gt_is_crowd=np.isin(overlaps.gt_labels[gt_kept], np.asarray(crowd_labels, np.int64)),
                dt_category=dt_classes[dt_kept],
                dt_area=overlaps.pred_areas[dt_kept],
                dt_score=scores[dt_kept],
                overlap_gt=gt_position[overlaps.gt_index[pair_kept]],
                overlap_dt=dt_position[overlaps.pred_index[pair_kept]],
                overlap_area=overlaps.area[pair_kept],
            )
        )

    def compute(self) -> MaskAPResult:
        """Returns the twelve COCO numbers and AP per class."""
        per_class = np.full(self.num_classes, np.nan)
        if not any(image.dt_score.size for image in self._images):
            # The reference reports zeros, whatever the ground truth.
            return MaskAPResult(MaskAPMeans(*[0.0] * 12), per_class)
        # COCOeval and COCO report their progress on standard output, which belongs to the caller's data.
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = self.evaluation()
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        # [threshold, recall, class, area range, detections]: all areas, at most 100 detections.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        for position, category in enumerate(evaluation.params.catIds):
            defined = precision[:, :, position]
            defined = defined[defined > -1]
            if defined.size:
                per_class[category] = 100 * float(defined.mean())
        stats = [100 * float(value) if value > -1 else float("nan") for value in evaluation.stats]
        return MaskAPResult(MaskAPMeans(*stats), per_class)

    def _kept(self, labels: np.ndarray, classes: np.ndarray, of: str) -> np.ndarray:
        check_segment_classes(labels, classes, self.num_classes, self.ignore_label, of)
        return self._is_kept[classes]

    @staticmethod
    def _scores_of(
        segment_labels: np.ndarray,
        needed: np.ndarray,
        pred_labels: Collection[int] | np.ndarray,
        pred_scores: Collection[float] | np.ndarray,
    ) -> np.ndarray:
        labels, scores = np.asarray(pred_labels, np.int64), np.asarray(pred_scores, np.float32)
        if labels.ndim != 1 or labels.shape != scores.shape:
            raise ValueError(
                f"pred_labels and pred_scores: expected two lists of one length, "
                f"found shapes {labels.shape} and {scores.shape}"
            )
        score_of = dict(zip(labels.tolist(), scores, strict=True))
        if len(score_of) != labels.size:
            raise ValueError("pred_labels: expected each label once, found one twice")
        absent = score_of.keys() - set(segment_labels.tolist())
        if absent:
            raise ValueError(
                f"pred_labels: label {min(absent)} has a score but no pixel in the predicted map; "
                "score the map that was cropped to the image"
            )
        found = np.array([score_of.get(label, np.nan) for label in segment_labels.tolist()], np.float32)
        if np.isnan(found[needed]).any():
            label = int(segment_labels[needed & np.isnan(found)][0])
            raise ValueError(
                f"pred_scores: expected a number for the thing segment {label}, found none or NaN"
            )
        return found

    def _add(self, other: Any) -> None:
        self._images.extend(other._images)

    def _state(self) -> dict[str, np.ndarray]:
        state = {
            name: np.concatenate(
                [getattr(image, name) for image in self._images] or [np.empty(0, dtype)]
            ).astype(dtype)
            for name, dtype in zip(ImageThings._fields, _DTYPES, strict=True)
        }
        for group in _GROUPS:
            sizes = [getattr(image, _fields_of(group)[0]).size for image in self._images]
            state[f"{group}_offsets"] = np.cumsum([0, *sizes], dtype=np.int64)
        return state

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        num_offsets = max(state["gt_offsets"].size, 1)
        parts = []
        for group in _GROUPS:
            offsets = state[f"{group}_offsets"]
            self._check_shape(f"{group}_offsets", offsets, (num_offsets,))
            for name in _fields_of(group):
                self._check_shape(name, state[name], (int(offsets[-1]),))
                parts.append(np.split(state[name], offsets)[1:-1])
        self._images = [ImageThings(*arrays) for arrays in zip(*parts, strict=True)]


def _fields_of(group: str) -> list[str]:
    return [name for name in ImageThings._fields if name.startswith(f"{group}_")]
