"""Calls the panoptic script, in the separate process of `zoo.repro.official.process`."""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

PANOPTIC_JOB = {
    "script": "cityscapesscripts.evaluation.evalPanopticSemanticLabeling",
    "run": f"{__name__}:evaluate_panoptic",
}


def evaluate_panoptic(job: dict[str, Any]) -> list[str]:
    """Runs the panoptic script of `cityscapesscripts`; see `zoo.repro.official.process.main`."""
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as script

    # The script starts as many processes as it is told that there are cores.
    processes = job["processes"]
    multiprocessing.cpu_count = lambda: processes  # type: ignore[assignment]
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
