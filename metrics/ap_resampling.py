"""Mask AP of many weighted copies of one set of images, from matches that are made once.

Which detection matches which segment depends on one image alone. For a set of images, in which each may occur
any number of times, it then suffices to go once through the detections by falling score. The result equals
pycocotools' `COCOeval.accumulate` on the same images, repeated as often, up to the order of equal scores.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np

from zoo.files.machine_code import compiled
from zoo.metrics.mask_ap import MaskAP

_FALSE_POSITIVE, _TRUE_POSITIVE, _IGNORED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """Detections of all I images by class and falling score, matched at each IoU threshold."""

    num_images: int
    image: np.ndarray  # [D] int32, the image of each detection
    outcome: np.ndarray  # [D, T] uint8, at each of the T thresholds: false positive, true positive, ignored
    class_offsets: np.ndarray  # [K + 1] int64, where the detections of each of the K classes begin
    gt_counts: np.ndarray  # [K, I] int64, segments of the ground truth that count, by class and image
    recall_thresholds: np.ndarray  # [R] float64, where precision is read

    @classmethod
    def match(cls, metric: MaskAP) -> MatchedDetections:
        """Matches each image's detections of all sizes, at most 100 of a class, as COCOeval does."""
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = metric.evaluation()
            evaluation.params.areaRng = evaluation.params.areaRng[:1]
            evaluation.evaluate()
        num_images, num_classes = metric.num_images, len(evaluation.params.catIds)
        no_outcome = np.zeros((0, len(evaluation.params.iouThrs)), np.uint8)
        gt_counts = np.zeros((num_classes, num_images), np.int64)
        images, outcomes, sizes = [], [], [0]
        for position in range(num_classes):
            found = evaluation.evalImgs[position * num_images : (position + 1) * num_images]
            scores, image, outcome = [], [], []
            for image_id, one in enumerate(found):
                if one is None:
                    continue
                gt_counts[position, image_id] = np.count_nonzero(one["gtIgnore"] == 0)
                scores += one["dtScores"]
                image += [image_id] * len(one["dtScores"])
                is_match = one["dtMatches"] > 0
                outcome.append(np.where(one["dtIgnore"], _IGNORED, is_match).T.astype(np.uint8))
            order = np.argsort(-np.array(scores), kind="stable")
            images.append(np.array(image, np.int32)[order])
            outcomes.append(np.concatenate([no_outcome, *outcome])[order])
            sizes.append(len(scores))
        return cls(
            num_images=num_images,
            image=np.concatenate([np.zeros(0, np.int32), *images]),
            outcome=np.concatenate([no_outcome, *outcomes]),
            class_offsets=np.cumsum(sizes),
            gt_counts=gt_counts,
            recall_thresholds=np.asarray(evaluation.params.recThrs, np.float64),
        )

    def average_precision(self, counts: np.ndarray) -> np.ndarray:
        """Returns AP for each set of images, [B] float64 in percent; NaN where it has nothing to find.

        `counts` is [B, I] integer: how often each image occurs in each set.
        """
        counts = np.ascontiguousarray(counts, np.int64)
        if counts.ndim != 2 or counts.shape[1] != self.num_images:
            raise ValueError(f"counts: expected [B, {self.num_images}], found {counts.shape}")
        # In float64, where whole numbers are exact too, the product is faster.
        gt_totals = counts.astype(np.float64) @ self.gt_counts.T
        return _average_precision(
            counts, self.image, self.outcome, self.class_offsets, gt_totals, self.recall_thresholds
        )


@compiled
def _average_precision(counts, image, outcome, class_offsets, gt_totals, recall_thresholds):  # type: ignore[no-untyped-def]
    num_sets, num_thresholds, num_recalls = counts.shape[0], outcome.shape[1], recall_thresholds.size
    result = np.empty(num_sets)
    epsilon = np.spacing(1.0)  # as COCOeval, for an empty denominator
    tp, fp = np.empty(num_thresholds, np.int64), np.empty(num_thresholds, np.int64)
    highest, next_recall = np.empty(num_thresholds), np.empty(num_thresholds, np.int64)
    for row in range(num_sets):
        weight_of = counts[row]
        total, num_classes, any_detection = 0.0, 0, False
        for class_position in range(class_offsets.size - 1):
            first, end = class_offsets[class_position], class_offsets[class_position + 1]
            num_gt = gt_totals[row, class_position]
            tp[:] = fp[:] = 0
            for detection in range(first, end):
                weight = weight_of[image[detection]]
                if weight == 0:
                    continue
                any_detection = True
                for threshold in range(num_thresholds):
                    tp[threshold] += weight * (outcome[detection, threshold] == _TRUE_POSITIVE)
                    fp[threshold] += weight * (outcome[detection, threshold] == _FALSE_POSITIVE)
            if num_gt == 0.0:
                continue
            num_classes += 1
            highest[:] = 0.0
            next_recall[:] = num_recalls - 1
            # Backwards: the precision at a recall is the highest at that recall or a larger one.
            for threshold in range(num_thresholds):
                while next_recall[threshold] >= 0 and (
                    tp[threshold] / num_gt < recall_thresholds[next_recall[threshold]]
                ):
                    next_recall[threshold] -= 1
            for detection in range(end - 1, first - 1, -1):
                weight = weight_of[image[detection]]
                if weight == 0:
                    continue
                for threshold in range(num_thresholds):
                    kind = outcome[detection, threshold]
                    if kind == _FALSE_POSITIVE:
                        fp[threshold] -= weight
                    elif kind == _TRUE_POSITIVE:
                        # Of the copies of a match, the last has the highest precision.
                        precision = tp[threshold] / (fp[threshold] + tp[threshold] + epsilon)
                        highest[threshold] = max(highest[threshold], precision)
                        tp[threshold] -= weight
                        while next_recall[threshold] >= 0 and (
                            tp[threshold] / num_gt < recall_thresholds[next_recall[threshold]]
                        ):
                            total += highest[threshold]
                            next_recall[threshold] -= 1
            # Recall 0 is reached by the first detection, whatever it is.
            for threshold in range(num_thresholds):
                if next_recall[threshold] == 0:
                    total += highest[threshold]
        if any_detection and num_classes:
            result[row] = 100.0 * total / (num_classes * num_thresholds * num_recalls)
        else:
            # COCO-style evaluation of nothing reports zeros.
            result[row] = np.nan if any_detection else 0.0
    return result
