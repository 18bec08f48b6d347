"""Panoptic quality from counted segments, under the internal metric's rules, the official ones, or a mixture.

The two implementations differ in what they make of crowd regions, of several segments of one stuff class, and
in how they add up. Each difference is a function here, so that its worth can be measured alone. Everything
else is the same in both: segments match where their classes are equal and their IoU exceeds 0.5; a ground
truth segment without a match is a false negative unless it is a crowd; a prediction without a match is a
false positive unless more than half of it is excused; classes without any of these are left out of the mean.

Sources: deeplab2 `evaluation/panoptic_quality.py` (internal), cityscapesscripts
`evaluation/evalPanopticSemanticLabeling.py` and panopticapi `evaluation.py` (official, the same code).
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
    pixels = np.zeros(segments.pred_label.size, np.int64)
    np.add.at(pixels, segments.overlap_pred[counted], segments.overlap_area[counted])
    return pixels


# ---- rules: which segments the ground truth has ----


def join_stuff(segments: ImageSegments, thing_class_ids: Collection[int]) -> ImageSegments:
    """Returns the segments with one segment for each stuff class of the ground truth.

    The internal ground truth has no instance numbers for stuff, so its segments of one class are one.
    """
    keys = segments.gt_class.astype(np.int64)
    # Things and crowds stay as they are: they get keys of their own.
    stays = np.isin(segments.gt_class, list(thing_class_ids)) | segments.gt_is_crowd
    keys[stays] = -1 - np.flatnonzero(stays)
    _, first, joined = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty(order.size, np.int64)
    position[order] = np.arange(order.size)
    joined, first = position[joined.reshape(-1)], first[order]
    if first.size == keys.size:
        return segments
    areas = np.zeros(first.size, np.int64)
    np.add.at(areas, joined, segments.gt_area)
    pairs, pair_of = np.unique(
        joined[segments.overlap_gt] * segments.pred_label.size + segments.overlap_pred, return_inverse=True
    )
    overlap_area = np.zeros(pairs.size, np.int64)
    np.add.at(overlap_area, pair_of.reshape(-1), segments.overlap_area)
    return dataclasses.replace(
        segments,
        gt_id=segments.gt_id[first],
        gt_class=segments.gt_class[first],
        gt_is_crowd=segments.gt_is_crowd[first],
        gt_area=areas,
        overlap_gt=(pairs // segments.pred_label.size).astype(np.int32),
        overlap_pred=(pairs % segments.pred_label.size).astype(np.int32),
        overlap_area=overlap_area,
    )


@dataclass(frozen=True)
class Rules:
    """One choice for each rule in which the two implementations differ."""

    joins_stuff: bool  # whether segments of one stuff class of the ground truth are one segment
    outside_union: PixelsOfPredictions  # pixels that are left out of every union
    excuses: PixelsOfPredictions  # pixels that, where more than half, excuse one without a match


INTERNAL = Rules(joins_stuff=True, outside_union=on_void_or_crowd, excuses=on_void_or_crowd)
OFFICIAL = Rules(joins_stuff=False, outside_union=on_void, excuses=on_void_or_last_own_crowd)


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
    if rules.joins_stuff:
        segments = join_stuff(segments, thing_class_ids)
    gt, pred, area = segments.overlap_gt, segments.overlap_pred, segments.overlap_area
    unions = segments.gt_area[gt] + segments.pred_area[pred] - area - rules.outside_union(segments)[pred]
    comparable = (segments.gt_class[gt] == segments.pred_class[pred]) & ~segments.gt_is_crowd[gt]
    ious = np.divide(area, unions, out=np.zeros(area.size), where=comparable)
    matches = np.flatnonzero(ious > 0.5)
    missed = ~segments.gt_is_crowd
    missed[gt[matches]] = False
    spurious = ~(rules.excuses(segments) / segments.pred_area > 0.5)
    spurious[pred[matches]] = False
    return ImageCounts(
        match_class=segments.gt_class[gt[matches]],
        match_iou=ious[matches],
        fp=np.bincount(segments.pred_class[spurious], minlength=num_classes),
        fn=np.bincount(segments.gt_class[missed], minlength=num_classes),
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


def mean_in_order(values: Iterable[float]) -> float:
    """Returns the mean of the values that are not NaN, added one after the other; NaN if there are none."""
    present = [float(value) for value in values if not math.isnan(value)]
    # `sum` of Python 3.12 compensates rounding; the official scripts add plainly.
    total = 0.0
    for value in present:
        total += value
    return total / len(present) if present else math.nan
