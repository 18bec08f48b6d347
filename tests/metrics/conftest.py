"""What tests of mask AP compare with."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

LABEL_DIVISOR = 1000


@pytest.fixture(scope="session")
def cocoeval_means() -> Callable[..., np.ndarray]:
    """Returns a function that gives COCOeval's twelve numbers, in percent, of run-length masks.

    An image is its panoptic map, the labels of its crowds, and its detections: mask, class and score.
    """

    def means(
        images: Sequence[tuple[np.ndarray, Collection[int], Iterable[tuple[np.ndarray, int, float]]]],
        things: Collection[int],
    ) -> np.ndarray:
        annotations: list[dict[str, Any]] = []
        detections: list[dict[str, Any]] = []
        for image_id, (truth, crowds, detected) in enumerate(images):
            for label in dict.fromkeys(truth.ravel().tolist()):
                if label // LABEL_DIVISOR in things:
                    rle = coco_mask.encode(np.asfortranarray(truth == label))
                    annotation = {"id": len(annotations) + 1, "image_id": image_id, "segmentation": rle}
                    annotation |= {"category_id": label // LABEL_DIVISOR, "area": coco_mask.area(rle)}
                    annotations.append({**annotation, "iscrowd": int(label in crowds)})
            for mask, class_id, score in detected:
                if class_id in things:
                    rle = coco_mask.encode(np.asfortranarray(mask))
                    detection = {"image_id": image_id, "category_id": class_id, "segmentation": rle}
                    detections.append({**detection, "score": score})
        if not detections:
            return np.zeros(12)
        data = COCO()
        data.dataset = {
            "images": [
                {"id": number, "height": truth.shape[0], "width": truth.shape[1]}
                for number, (truth, *_) in enumerate(images)
            ],
            "categories": [{"id": c} for c in {a["category_id"] for a in annotations + detections}],
            "annotations": annotations,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            data.createIndex()
            evaluation = COCOeval(data, data.loadRes(detections), iouType="segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return np.where(evaluation.stats < 0, np.nan, 100 * evaluation.stats)

    return means
