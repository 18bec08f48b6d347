"""Calls COCO's official scripts, in the separate processes of `zoo.repro.official.process`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from zoo.repro.official.panoptic_job import PANOPTIC_JOB, share_images
from zoo.repro.official.per_image import found_in_images

PANOPTICAPI = {"script": "panopticapi.evaluation", "run": f"{__name__}:evaluate_panopticapi"}
MASK_AP = {"script": "pycocotools.cocoeval", "run": f"{__name__}:evaluate_coco_instances"}


def panoptic_script() -> dict[str, str]:
    """Returns `panopticapi`'s job where it is installed, else that of the copy in `cityscapesscripts`."""
    return PANOPTICAPI if importlib.util.find_spec("panopticapi") is not None else PANOPTIC_JOB


def evaluate_panopticapi(job: dict[str, Any]) -> list[str]:
    """Runs the panoptic script of `panopticapi`."""
    from panopticapi import evaluation as script

    share_images(script, job)
    result = script.pq_compute(
        job["gt_json"], job["prediction_json"], job["gt_folder"], job["prediction_folder"]
    )
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    return []


def evaluate_coco_instances(job: dict[str, Any]) -> list[str]:
    """Runs `pycocotools` on predicted things."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    handled: list[str] = []
    ground_truth = COCO(job["ground_truth"])
    images = json.loads(Path(job["images"]).read_text(encoding="utf-8"))
    detections = json.loads(Path(job["predictions"]).read_text(encoding="utf-8"))
    categories = ground_truth.getCatIds()
    found = _found_matches(job, ground_truth, images, detections)
    if not detections:
        handled.append("instance: nothing was detected, AP is 0")
        nothing = {str(category): 0.0 for category in categories}
        result = {"ap": 0.0, "ap50": 0.0, "ap_per_category": nothing, "ap50_per_category": nothing}
    else:
        evaluation = COCOeval(ground_truth, iouType="segm")
        evaluation.params.imgIds = images
        evaluation._prepare = lambda: None
        evaluation.computeIoU = lambda *_: None
        evaluation.evaluateImg = lambda image, category, area, _: found[image].get((category, tuple(area)))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        # [thresholds, recalls, categories, areas, detections]: all areas, the most detections; -1 is nothing.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]

        def mean(values: np.ndarray) -> float | None:
            known = values[values > -1]
            return float(known.mean()) if known.size else None

        result = {}
        for name, values in (("ap", precision), ("ap50", precision[:1])):
            result[name] = mean(values)
            result[f"{name}_per_category"] = {
                str(category): mean(values[:, :, index])
                for index, category in enumerate(evaluation.params.catIds)
            }
        result["stats"] = [float(value) for value in evaluation.stats]
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    return handled


def _found_matches(job: dict[str, Any], ground_truth: Any, images: list[int], detections: list[Any]) -> Any:
    """Returns what `COCOeval` finds in each image, by category and range of areas."""
    detected: dict[int, list[Any]] = {image: [] for image in images}
    for detection in detections:
        detected[detection["image_id"]].append(detection)
    categories = ground_truth.dataset["categories"]
    return found_in_images(
        job,
        _look,
        {
            image: (ground_truth.imgs[image], ground_truth.imgToAnns[image], detected[image], categories)
            for image in images
        },
    )


def _look(image: Any, annotations: list[Any], detections: list[Any], categories: list[Any]) -> dict[Any, Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground_truth, detected = COCO(), COCO()
    ground_truth.dataset = {"images": [image], "annotations": annotations, "categories": categories}
    ground_truth.createIndex()
    if detections:
        detected = ground_truth.loadRes(detections)
    evaluation = COCOeval(ground_truth, detected, "segm")
    evaluation.evaluate()
    matched = filter(None, evaluation.evalImgs)
    return {(found["category_id"], tuple(found["aRng"])): found for found in matched}
