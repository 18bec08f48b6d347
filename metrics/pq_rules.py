"""Panoptic quality from counted segments, under the rules of an evaluator in use, or a mixture of them.

The evaluators differ in what they make of crowd regions, of several segments of one stuff class, of what a
prediction leaves void, and in how they add up. Each difference is a choice in `Rules`, so that its worth can
be measured alone. Everything else is the same in all: segments match where their classes are equal and their
IoU exceeds 0.5; a ground truth segment without a match is a false negative unless it is excused; a prediction
without a match is a false positive unless more than half of it is excused; classes without any of these are
left out of the mean.

Sources: deeplab2 `evaluation/panoptic_quality.py` (internal), cityscapesscripts
`evaluation/evalPanopticSemanticLabeling.py` and panopticapi `evaluation.py` (official, the same code),
torchmetrics `functional/detection/_panoptic_quality_common.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.metrics.panoptic_quality import quality_per_class
from zoo.metrics.segments import ImageSegments

PixelsOfPredictions = Callable[[ImageSegments], np.ndarray]
"""A function that gives a number of pixels for each predicted segment, [P] int64."""


# ---- rules: which pixels of a prediction count ----


def on_void(segments: ImageSegments) -> np.ndarray:
    """Returns each prediction's pixels on void, [P] int64."""
    return segments.pred_void_area.copy()


def on_void_or_crowd(segments: ImageSegments) -> np.ndarray:
    """Returns each prediction's pixels on void or on a crowd of any class, [P] int64."""
    return on_void(segments) + _pixels(segments, segments.gt_is_crowd[segments.overlap_gt])


def on_void_or_own_crowd(segments: ImageSegments) -> np.ndarray:
    """Returns each prediction's pixels on void or on a crowd of its own class, [P] int64."""
    is_own = segments.gt_class[segments.overlap_gt] == segments.pred_class[segments.overlap_pred]
    return on_void(segments) + _pixels(segments, segments.gt_is_crowd[segments.overlap_gt] & is_own)


def on_void_or_last_own_crowd(segments: ImageSegments) -> np.ndarray:
    """Returns each prediction's pixels on void or on the last crowd of its own class, [P] int64.

    The official script keeps one crowd for each class of an image, the last that it is told of. The segments
    are in the order of their ids here, which is the script's order for Cityscapes.
    """
    last = np.zeros(segments.gt_class.size, np.bool_)
    crowds = np.flatnonzero(segments.gt_is_crowd)
    last[list({int(segments.gt_class[crowd]): int(crowd) for crowd in crowds}.values())] = True
    return on_void_or_own_crowd(dataclasses.replace(segments, gt_is_crowd=last))


def _pixels(segments: ImageSegments, counted: np.ndarray) -> np.ndarray:
    return _summed(segments.overlap_area[counted], segments.overlap_pred[counted], segments.pred_label.size)


def _summed(areas: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    totals = np.zeros(num_groups, np.int64)
    np.add.at(totals, group, areas)
    return totals


# ---- rules: which segments the ground truth has ----


def join_stuff(segments: ImageSegments, thing_class_ids: Collection[int]) -> ImageSegments:
    """Returns the segments with one segment for each stuff class of the ground truth.

    The internal ground truth has no instance numbers for stuff, so its segments of one class are one.
    """
    stays = np.isin(segments.gt_class, list(thing_class_ids)) | segments.gt_is_crowd
    first, joined = _groups(segments.gt_class, stays)
    if first.size == segments.gt_class.size:
        return segments
    return dataclasses.replace(
        segments,
        gt_id=segments.gt_id[first],
        gt_class=segments.gt_class[first],
        gt_is_crowd=segments.gt_is_crowd[first],
        gt_area=_summed(segments.gt_area, joined, first.size),
        **_joined_overlaps(segments, joined[segments.overlap_gt], segments.overlap_pred),
    )


def join_predicted_stuff(segments: ImageSegments, thing_class_ids: Collection[int]) -> ImageSegments:
    """Returns the segments with one segment for each stuff class of the prediction."""
    first, joined = _groups(segments.pred_class, np.isin(segments.pred_class, list(thing_class_ids)))
    if first.size == segments.pred_class.size:
        return segments
    return dataclasses.replace(
        segments,
        pred_label=segments.pred_label[first],
        pred_class=segments.pred_class[first],
        pred_area=_summed(segments.pred_area, joined, first.size),
        pred_void_area=_summed(segments.pred_void_area, joined, first.size),
        **_joined_overlaps(segments, segments.overlap_gt, joined[segments.overlap_pred]),
    )


def _groups(classes: np.ndarray, stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins the segments of one class, except those that stay.

    Returns:
        The first segment of each group, rising, and the group of each segment.
    """
    keys = classes.astype(np.int64)
    keys[stays] = -1 - np.flatnonzero(stays)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty(order.size, np.int64)
    position[order] = np.arange(order.size)
    return first[order], position[group.reshape(-1)]


def _joined_overlaps(segments: ImageSegments, gt: np.ndarray, pred: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the arrays `overlap_...` once the segments of each intersection have other positions."""
    num_pred = segments.pred_label.size
    pairs, pair_of = np.unique(gt.astype(np.int64) * num_pred + pred, return_inverse=True)
    return {
        "overlap_gt": (pairs // max(1, num_pred)).astype(np.int32),
        "overlap_pred": (pairs % max(1, num_pred)).astype(np.int32),
        "overlap_area": _summed(segments.overlap_area, pair_of.reshape(-1), pairs.size),
    }


def gt_void_area(segments: ImageSegments) -> np.ndarray:
    """Returns each ground-truth segment's pixels that are void in the prediction, [G] int64."""
    return segments.gt_area - _summed(segments.overlap_area, segments.overlap_gt, segments.gt_area.size)


@dataclass(frozen=True)
class Rules:
    """One choice for each rule in which the implementations differ."""

    joins_stuff: bool  # whether segments of one stuff class of the ground truth are one segment
    outside_union: PixelsOfPredictions  # pixels that are left out of every union
    excuses: PixelsOfPredictions  # pixels that, where more than half, excuse a prediction without a match
    joins_predicted_stuff: bool = False  # whether segments of one stuff class of the prediction are one
    counts_crowds: bool = False  # whether crowds are segments like any other
    leaves_out_predicted_void: bool = False  # out of every union; else it counts as missed
    excuses_half_void: bool = (
        False  # whether a segment that is more than half void in the prediction is not missed
    )
    precision: type[np.floating] = np.float64  # of every quotient of areas


INTERNAL = Rules(joins_stuff=True, outside_union=on_void_or_crowd, excuses=on_void_or_crowd)
OFFICIAL = Rules(joins_stuff=False, outside_union=on_void, excuses=on_void_or_last_own_crowd)
TORCHMETRICS = Rules(
    joins_stuff=True,
    outside_union=on_void,
    excuses=on_void,
    joins_predicted_stuff=True,
    counts_crowds=True,
    leaves_out_predicted_void=True,
    excuses_half_void=True,
    precision=np.float32,
)
"""`torchmetrics.detection.PanopticQuality` on a class and a segment id for each pixel, as it asks for.

It knows no crowds. Classes that it was not told of are void, everything else is a segment; so a crowd, which
the annotation files list with a class and an id, is a segment like any other. PyTorch divides integers
in single precision.
"""


# ---- counting ----


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """What one image adds to panoptic quality."""

    match_class: np.ndarray  # [M] int32, class of each match, in the order of the ground truth's segments
    match_iou: np.ndarray  # [M] float64
    fp: np.ndarray  # [C] int64, predictions without a match that nothing excuses
    fn: np.ndarray  # [C] int64, ground-truth segments without a match


def count_image(
    segments: ImageSegments, rules: Rules, *, num_classes: int, thing_class_ids: Collection[int]
) -> ImageCounts:
    """Returns what an image, given with its crowd regions, adds to panoptic quality under `rules`."""
    if rules.counts_crowds:
        segments = dataclasses.replace(segments, gt_is_crowd=np.zeros_like(segments.gt_is_crowd))
    if rules.joins_stuff:
        segments = join_stuff(segments, thing_class_ids)
    if rules.joins_predicted_stuff:
        segments = join_predicted_stuff(segments, thing_class_ids)
    return count_matches(segments, overlap_ious(segments, rules), rules, num_classes)


def overlap_ious(segments: ImageSegments, rules: Rules) -> np.ndarray:
    """Returns the IoU of each intersection, [N]; 0 of segments that cannot match. Joins nothing."""
    gt, pred, area = segments.overlap_gt, segments.overlap_pred, segments.overlap_area
    unions = segments.gt_area[gt] + segments.pred_area[pred] - area - rules.outside_union(segments)[pred]
    if rules.leaves_out_predicted_void:
        unions -= gt_void_area(segments)[gt]
    comparable = (segments.gt_class[gt] == segments.pred_class[pred]) & ~segments.gt_is_crowd[gt]
    return _quotients(np.where(comparable, area, 0), unions, rules.precision)


def count_matches(segments: ImageSegments, ious: np.ndarray, rules: Rules, num_classes: int) -> ImageCounts:
    """Returns what an image adds, from the IoU of each intersection. Joins nothing."""
    gt, pred = segments.overlap_gt, segments.overlap_pred
    matches = np.flatnonzero(ious > 0.5)
    missed = ~segments.gt_is_crowd
    if rules.excuses_half_void:
        missed &= ~(_quotients(gt_void_area(segments), segments.gt_area, rules.precision) > 0.5)
    missed[gt[matches]] = False
    spurious = ~(_quotients(rules.excuses(segments), segments.pred_area, rules.precision) > 0.5)
    spurious[pred[matches]] = False
    return ImageCounts(
        match_class=segments.gt_class[gt[matches]],
        match_iou=ious[matches].astype(np.float64),
        fp=np.bincount(segments.pred_class[spurious], minlength=num_classes),
        fn=np.bincount(segments.gt_class[missed], minlength=num_classes),
    )


def _quotients(numerator: np.ndarray, denominator: np.ndarray, precision: type[np.floating]) -> np.ndarray:
    return np.divide(
        numerator.astype(precision),
        denominator.astype(precision),
        out=np.zeros(numerator.shape, precision),
        where=numerator > 0,
    )


@dataclass(frozen=True, eq=False)
class ClassSums:
    """Sums over images, [C] each: `iou` float64 of the matches, `tp`, `fp` and `fn` int64."""

    iou: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    @property
    def occurs(self) -> np.ndarray:
        """[C] bool: the classes that enter a mean."""
        return self.tp + self.fp + self.fn > 0


def sum_exactly(images: Sequence[ImageCounts]) -> ClassSums:
    """Returns the sums as the internal metric makes them: exact over images, rounded once."""
    num_classes = images[0].fp.size
    per_image = [np.bincount(image.match_class, image.match_iou, num_classes) for image in images]
    iou = np.array([math.fsum(column) for column in zip(*(row.tolist() for row in per_image), strict=True)])
    return _sums(iou, images)


def sum_in_order(images: Sequence[ImageCounts], processes: int = 1) -> ClassSums:
    """Returns the sums as the official script makes them: match by match, in each of its processes.

    At least one image is needed, and their order is the one in which the script was given them.
    """
    num_classes = images[0].fp.size
    iou = np.zeros(num_classes)
    for part in np.array_split(np.arange(len(images)), processes):
        if part.size:
            own = images[part[0] : part[-1] + 1]
            classes = np.concatenate([image.match_class for image in own])
            # `bincount` adds one after the other.
            iou += np.bincount(classes, np.concatenate([image.match_iou for image in own]), num_classes)
    return _sums(iou, images)


def _sums(iou: np.ndarray, images: Sequence[ImageCounts]) -> ClassSums:
    num_classes = iou.size
    return ClassSums(
        iou=iou,
        tp=np.sum([np.bincount(image.match_class, minlength=num_classes) for image in images], axis=0),
        fp=np.sum([image.fp for image in images], axis=0),
        fn=np.sum([image.fn for image in images], axis=0),
    )


# ---- averaging ----


def product_of_means(sums: ClassSums) -> np.ndarray:
    """Returns PQ per class in percent as the internal metric computes it, SQ times RQ; NaN where absent."""
    return quality_per_class(sums.iou, sums.tp, sums.fp, sums.fn)[0]


def quotient_of_sums(sums: ClassSums) -> np.ndarray:
    """Returns PQ per class, not in percent, as the official script computes it; NaN where absent."""
    denominator = sums.tp + 0.5 * sums.fp + 0.5 * sums.fn
    return np.divide(sums.iou, denominator, out=np.full(sums.iou.size, np.nan), where=sums.occurs)


def quotients_in_single_precision(sums: ClassSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns PQ, SQ and RQ per class as torchmetrics computes them, not in percent; NaN where absent.

    The sums of IoU are double precision there, and so are SQ and PQ; RQ is a quotient of counts, and single.
    """
    absent = np.where(sums.occurs, 0.0, np.nan)
    sq = np.divide(sums.iou, sums.tp, out=absent.copy(), where=sums.tp > 0)
    weight = (sums.tp + 0.5 * sums.fp + 0.5 * sums.fn).astype(np.float32)
    rq = np.divide(sums.tp.astype(np.float32), weight, out=absent.astype(np.float32), where=sums.occurs)
    return sq * rq, sq, rq.astype(np.float64)


def mean_in_order(values: Iterable[float]) -> float:
    """Returns the mean of the values that are not NaN, added one after the other; NaN if there are none."""
    present = [float(value) for value in values if not math.isnan(value)]
    # `sum` of Python 3.12 compensates rounding; the official scripts add plainly.
    total = 0.0
    for value in present:
        total += value
    return total / len(present) if present else math.nan
