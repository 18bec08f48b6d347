"""Calls COCO's official scripts, in the separate processes of `zoo.repro.official.process`."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np

from zoo.repro.official.panoptic_job import PANOPTIC_JOB

PANOPTICAPI = {"script": "panopticapi.evaluation", "run": f"{__name__}:evaluate_panopticapi"}
MASK_AP = {"script": "pycocotools.cocoeval", "run": f"{__name__}:evaluate_coco_instances"}


def panoptic_script() -> dict[str, str]:
    """Returns `panopticapi`'s job where it is installed, else that of the copy in `cityscapesscripts`."""
    return PANOPTICAPI if importlib.util.find_spec("panopticapi") is not None else PANOPTIC_JOB


def evaluate_panopticapi(job: dict[str, Any]) -> list[str]:
    """Runs the panoptic script of `panopticapi`."""
    from panopticapi import evaluation as script

    processes = job["processes"]
    multiprocessing.cpu_count = lambda: processes  # type: ignore[assignment]
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
    if not detections:
        handled.append("instance: nothing was detected, AP is 0")
        nothing = {str(category): 0.0 for category in categories}
        result = {"ap": 0.0, "ap50": 0.0, "ap_per_category": nothing, "ap50_per_category": nothing}
    else:
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(detections), "segm")
        evaluation.params.imgIds = images
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
