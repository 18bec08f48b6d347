"""COCOeval on counted overlaps of masks, without the masks themselves."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from zoo.files.machine_code import compiled


class ImageThings(NamedTuple):
    """Thing segments of one image in order of first appearance, and the overlaps within each class."""

    gt_category: np.ndarray  # [G]
    gt_area: np.ndarray
    gt_is_crowd: np.ndarray
    dt_category: np.ndarray  # [D]
    dt_area: np.ndarray
    dt_score: np.ndarray
    overlap_gt: np.ndarray  # [N], position in the G segments
    overlap_dt: np.ndarray  # [N], position in the D segments
    overlap_area: np.ndarray


class OverlapEvaluation(COCOeval):
    """COCOeval whose matches come from counted overlaps instead of run-length masks.

    Accumulation and averages are COCOeval's own.
    """

    def __init__(self, images: list[ImageThings]) -> None:
        # The type "segm" would convert masks, of which there are none; nothing else depends on it.
        super().__init__(iouType="bbox")
        self._images = images
        self.params.imgIds = list(range(len(images)))
        self.params.catIds = sorted({int(c) for image in images for c in _categories(image)})

    def evaluate(self) -> None:
        """Matches the segments of each image, class by class, for each range of areas."""
        params = self.params
        ranges = np.array(params.areaRng, np.float64)
        thresholds = np.minimum(params.iouThrs, 1 - 1e-10)
        shape = (len(params.catIds), len(ranges), len(self._images))
        self.evalImgs: list[dict[str, Any] | None] = [None] * int(np.prod(shape))
        position = {category: i for i, category in enumerate(params.catIds)}
        for image_id, image in enumerate(self._images):
            iou = _intersections_over_unions(image)
            for category in _categories(image).tolist():
                gt = np.flatnonzero(image.gt_category == category)
                dt = np.flatnonzero(image.dt_category == category)
                dt = dt[np.argsort(-image.dt_score[dt], kind="mergesort")[: params.maxDets[-1]]]
                found = _match(
                    iou[np.ix_(dt, gt)],
                    image.gt_area[gt],
                    image.gt_is_crowd[gt],
                    image.dt_area[dt],
                    ranges,
                    thresholds,
                )
                scores = image.dt_score[dt].tolist()
                for area, (matched, ignored, gt_ignored) in enumerate(zip(*found, strict=True)):
                    place = np.ravel_multi_index((position[category], area, image_id), shape)
                    self.evalImgs[place] = {
                        "dtScores": scores,
                        "dtMatches": matched,
                        "dtIgnore": ignored,
                        "gtIgnore": gt_ignored,
                    }
        self._paramsEval = copy.deepcopy(params)


def _categories(image: ImageThings) -> np.ndarray:
    return np.union1d(image.gt_category, image.dt_category)


def _intersections_over_unions(image: ImageThings) -> np.ndarray:
    """Returns the IoU of each detection with each segment of its class; of a crowd, over its own area."""
    intersections = np.zeros((image.dt_area.size, image.gt_area.size), np.int64)
    intersections[image.overlap_dt, image.overlap_gt] = image.overlap_area
    dt_areas, gt_areas = image.dt_area[:, None], image.gt_area[None]
    unions = np.where(image.gt_is_crowd, dt_areas, dt_areas + gt_areas - intersections)
    # A mask without a pixel matches no crowd either.
    return np.divide(intersections, unions, out=np.zeros(unions.shape), where=unions > 0)


@compiled
def _match(iou, gt_area, gt_is_crowd, dt_area, ranges, thresholds):  # type: ignore[no-untyped-def]
    """Matches detections by falling score with segments of the ground truth, as `COCOeval.evaluateImg` does.

    Returns for each range of areas: which detections match and which are ignored, [T, D] bool each, and which
    segments of the ground truth are ignored, [G] bool.
    """
    shape = (len(ranges), len(thresholds), dt_area.size)
    matched, ignored = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    gt_ignored = np.zeros((len(ranges), gt_area.size), np.bool_)
    for a in range(len(ranges)):
        low, high = ranges[a]
        for g in range(gt_area.size):
            gt_ignored[a, g] = gt_is_crowd[g] or gt_area[g] < low or gt_area[g] > high
        for t in range(len(thresholds)):
            taken = np.zeros(gt_area.size, np.bool_)
            for d in range(dt_area.size):
                best = -1
                # Segments that are ignored come last: where another one fits, they do not count.
                for is_ignored in (False, True):
                    least = thresholds[t] if best < 0 else np.inf
                    for g in range(gt_area.size):
                        if gt_ignored[a, g] != is_ignored or (taken[g] and not gt_is_crowd[g]):
                            continue
                        if iou[d, g] >= least:
                            least, best = iou[d, g], g
                if best >= 0:
                    taken[best] = matched[a, t, d] = True
                    ignored[a, t, d] = gt_ignored[a, best]
                else:
                    ignored[a, t, d] = dt_area[d] < low or dt_area[d] > high
    return matched, ignored, gt_ignored
