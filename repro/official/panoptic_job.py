"""Calls the panoptic script, in the separate process of `zoo.repro.official.process`."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from multiprocessing.pool import ThreadPool
from typing import Any

from zoo.repro.official.per_image import Addends, found_in_images

PANOPTIC_JOB = {
    "script": "cityscapesscripts.evaluation.evalPanopticSemanticLabeling",
    "run": f"{__name__}:evaluate_panoptic",
}


def evaluate_panoptic(job: dict[str, Any]) -> list[str]:
    """Runs the panoptic script of `cityscapesscripts`; see `zoo.repro.official.process.main`."""
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as script

    share_images(script, job)
    handled: list[str] = []
    average = script.PQStat.pq_average

    def average_or_nan(pq_stat: Any, categories: Any, isthing: bool | None) -> Any:
        try:
            return average(pq_stat, categories, isthing)
        except ZeroDivisionError:
            group = {None: "All", True: "Things", False: "Stuff"}[isthing]
            handled.append(f"panoptic: {group}: no class of this group occurs")
            nothing = dict.fromkeys(("pq", "sq", "rq"), float("nan"))
            return {**nothing, "n": 0}, {label: dict.fromkeys(nothing, 0.0) for label in categories}

    script.PQStat.pq_average = average_or_nan
    sys.argv += ["--gt-json-file", job["gt_json"], "--gt-folder", job["gt_folder"]]
    sys.argv += ["--prediction-json-file", job["prediction_json"]]
    sys.argv += ["--prediction-folder", job["prediction_folder"], "--results_file", job["result"]]
    script.main()
    return handled


def share_images(script: Any, job: dict[str, Any]) -> None:
    """Lets a panoptic script add up, in its parts and order, what was found in each image.

    It makes as many parts as it is told that there are cores; the last bits of its sums depend on them.
    """
    add_up, parts = script.pq_compute_multi_core, job["parts"]

    def compute(annotations: list[Any], gt_folder: str, pred_folder: str, categories: Any) -> Any:
        images = {
            truth["image_id"]: (script.__name__, truth, predicted, gt_folder, pred_folder, categories)
            for truth, predicted in annotations
        }
        found = found_in_images(job, _look, images)

        def replay(_: int, part: Any, *__: Any) -> Any:
            pq_stat = script.PQStat()
            for truth, _ in part:
                for category, (ious, *counts) in found[truth["image_id"]].items():
                    total = pq_stat[category]
                    for iou in ious:
                        total.iou += iou
                    for name, count in zip(("tp", "fp", "fn"), counts, strict=True):
                        setattr(total, name, getattr(total, name) + count)
            return pq_stat

        script.pq_compute_single_core = replay
        multiprocessing.cpu_count = lambda: parts
        multiprocessing.Pool = ThreadPool  # type: ignore[assignment]
        return add_up(annotations, gt_folder, pred_folder, categories)

    script.pq_compute_multi_core = compute


def _look(module: str, truth: Any, predicted: Any, *options: Any) -> dict[int, tuple[Any, ...]]:
    script: Any = importlib.import_module(module)
    kept = script.PQStatCat

    class Apart(kept):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.iou = Addends()

    script.PQStatCat = Apart
    try:
        pq_stat = script.pq_compute_single_core(0, [(truth, predicted)], *options)
    finally:
        script.PQStatCat = kept
    return {
        category: (found.iou.values, found.tp, found.fp, found.fn)
        for category, found in pq_stat.pq_per_cat.items()
    }
