"""COCOeval on counted overlaps of masks, without the masks themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


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
    """COCOeval whose intersections over union come from counted overlaps instead of run-length masks."""

    def __init__(self, images: list[ImageThings]) -> None:
        self._images = images
        categories = sorted(
            {int(c) for image in images for c in np.union1d(image.gt_category, image.dt_category)}
        )
        dataset = {
            "images": [{"id": image_id} for image_id in range(len(images))],
            "categories": [{"id": category} for category in categories],
        }
        ground_truth, detections = COCO(), COCO()
        ground_truth.dataset = {**dataset, "annotations": self._annotations("gt")}
        detections.dataset = {**dataset, "annotations": self._annotations("dt")}
        ground_truth.createIndex()
        detections.createIndex()
        # The type "segm" would convert masks, which the annotations do not have; nothing else depends on it.
        super().__init__(ground_truth, detections, iouType="bbox")

    def _annotations(self, group: str) -> list[dict[str, Any]]:
        annotations: list[dict[str, Any]] = []
        for image_id, image in enumerate(self._images):
            categories, areas = getattr(image, f"{group}_category"), getattr(image, f"{group}_area")
            for segment, (category, area) in enumerate(zip(categories.tolist(), areas.tolist(), strict=True)):
                annotation = {
                    "id": len(annotations) + 1,  # COCOeval takes 0 for "not matched"
                    "image_id": image_id,
                    "category_id": category,
                    "area": area,
                    "segment": segment,
                    "iscrowd": int(image.gt_is_crowd[segment]) if group == "gt" else 0,
                }
                if group == "dt":
                    annotation["score"] = float(image.dt_score[segment])
                annotations.append(annotation)
        return annotations

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """Returns IoU [detections by falling score, ground truth]; of crowd, over the detection's area."""
        gts, dts = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gts or not dts:
            return []
        order = np.argsort([-dt["score"] for dt in dts], kind="mergesort")[: self.params.maxDets[-1]]
        image = self._images[imgId]
        intersections = np.zeros((image.dt_area.size, image.gt_area.size), np.int64)
        intersections[image.overlap_dt, image.overlap_gt] = image.overlap_area
        dt_segments = np.array([dts[i]["segment"] for i in order])
        gt_segments = np.array([gt["segment"] for gt in gts])
        intersections = intersections[np.ix_(dt_segments, gt_segments)]
        dt_areas, gt_areas = image.dt_area[dt_segments][:, None], image.gt_area[gt_segments][None]
        unions = np.where(image.gt_is_crowd[gt_segments], dt_areas, dt_areas + gt_areas - intersections)
        # A mask without a pixel matches no crowd either.
        return np.divide(intersections, unions, out=np.zeros(unions.shape), where=unions > 0)
