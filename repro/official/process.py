"""The program of the separate processes in which the official scripts run.

Called as `python -m zoo.repro.official.process JOB.json`, in a working folder of its own. The scripts are
imported from the installed package and called through their `main`, with their own parameters. What is done
around them leaves their arithmetic alone:

- functions of NumPy that later versions removed or changed behave as the scripts expect;
- the instance-level script's cache of ground truth goes to the working folder, not into its package;
- where a script divides by zero or indexes an empty array because there is nothing to score, the value that
  it gives in the neighbouring case is taken, and the event is written to `handled.json`.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.files.processes import end_with_parent

_handled: list[str] = []
_of_the_script: dict[str, Callable[..., Any]] = {}


def main(argv: list[str]) -> int:
    """Does the job that the JSON file `argv[1]` describes; results are files in the working folder."""
    job = json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    end_with_parent(job["parent"])
    if job.get("nice") and hasattr(os, "nice"):
        os.nice(job["nice"])
    restore_numpy()
    # The scripts read the command line, and take everything from it if there are arguments.
    sys.argv = [job["kind"]]
    _JOBS[job["kind"]](job)
    Path("handled.json").write_text(json.dumps(_handled), encoding="utf-8")
    return 0


def restore_numpy() -> None:
    """Gives NumPy back what the scripts rely on."""
    if not hasattr(np, "in1d"):
        # Removed in NumPy 2.4.
        def in1d(ar1: Any, ar2: Any, **options: Any) -> Any:
            return np.isin(np.ravel(ar1), ar2, **options)

        np.in1d = in1d  # type: ignore[attr-defined,assignment]  # noqa: NPY201
    if not isinstance(np.count_nonzero(np.zeros(1)), int):
        # NumPy 2.3 returns its own integers, which the instance-level script cannot write as JSON.
        count = np.count_nonzero

        def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
            found = count(a, axis, keepdims=keepdims)
            return int(found) if axis is None and not keepdims else found

        np.count_nonzero = count_nonzero


def _make_panoptic(job: dict[str, Any]) -> None:
    from cityscapesscripts.preparation import createPanopticImgs as script

    # The script searches with patterns, and a path may hold characters that mean more: search from within.
    work = os.getcwd()
    os.chdir(job["ground_truth"])
    script.convert2panoptic(".", job["output"], False, [job["split"]])
    os.chdir(work)


def _evaluate_panoptic(job: dict[str, Any]) -> None:
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as script

    # The script starts as many processes as it is told that there are cores.
    processes = job["processes"]
    multiprocessing.cpu_count = lambda: processes  # type: ignore[assignment]
    average = script.PQStat.pq_average

    def average_or_nan(pq_stat: Any, categories: Any, isthing: bool | None) -> Any:
        try:
            return average(pq_stat, categories, isthing)
        except ZeroDivisionError:
            group = {None: "All", True: "Things", False: "Stuff"}[isthing]
            _handled.append(f"panoptic: {group}: no class of this group occurs")
            nothing = dict.fromkeys(("pq", "sq", "rq"), float("nan"))
            return {**nothing, "n": 0}, {label: dict.fromkeys(nothing, 0.0) for label in categories}

    script.PQStat.pq_average = average_or_nan
    sys.argv += ["--gt-json-file", job["gt_json"], "--gt-folder", job["gt_folder"]]
    sys.argv += ["--prediction-json-file", job["prediction_json"]]
    sys.argv += ["--prediction-folder", job["prediction_folder"], "--results_file", job["result"]]
    script.main()


def _evaluate_panopticapi(job: dict[str, Any]) -> None:
    from panopticapi import evaluation as script

    processes = job["processes"]
    multiprocessing.cpu_count = lambda: processes  # type: ignore[assignment]
    result = script.pq_compute(
        job["gt_json"], job["prediction_json"], job["gt_folder"], job["prediction_folder"]
    )
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


def _evaluate_coco_instances(job: dict[str, Any]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground_truth = COCO(job["ground_truth"])
    images = json.loads(Path(job["images"]).read_text(encoding="utf-8"))
    detections = json.loads(Path(job["predictions"]).read_text(encoding="utf-8"))
    categories = ground_truth.getCatIds()
    if not detections:
        _handled.append("instance: nothing was detected, AP is 0")
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


def _evaluate_pixels(job: dict[str, Any]) -> None:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    script.args.groundTruthSearch = job["search"]
    script.args.exportFile = job["result"]
    script.main()


def _evaluate_instances(job: dict[str, Any]) -> None:
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    script.args.groundTruthSearch = job["search"]
    script.args.exportFile = job["result"]
    # By default this file lies in the installed package, and an old one would be believed.
    script.args.gtInstancesFile = "gtInstances.json"
    script.args.colorized = False
    script.evaluateMatches = _without_empty_curves(script.evaluateMatches)
    if job["processes"] > 1:
        _read_images_in_parallel(script, job["processes"])
    script.main()


def _without_empty_curves(evaluate_matches: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the script's `evaluateMatches` for which a class without countable predictions is no error.

    Where a class has ground truth and predictions, no prediction matches, and every one is ignored (it lies
    on void or on a crowd), the script takes the last element of an empty array (cityscapesScripts, issue 89).
    Without predictions it says 0.0; the same holds for predictions that do not count. Each class and
    threshold is computed apart from the others, so asking for them one by one gives the same numbers.
    """

    def evaluate(matches: Any, args: Any) -> Any:
        try:
            return evaluate_matches(matches, args)
        except IndexError as error:
            _require_empty_curve(error)
        ap = np.zeros(
            (len(args.distanceThs) if args.distanceAvailable else 1, len(args.instLabels), len(args.overlaps))
        )
        for overlap in range(len(args.overlaps)):
            for label, name in enumerate(args.instLabels):
                one = copy.copy(args)
                one.overlaps, one.instLabels = args.overlaps[overlap : overlap + 1], [name]
                try:
                    ap[:, label, overlap] = evaluate_matches(matches, one)[:, 0, 0]
                except IndexError as error:
                    _require_empty_curve(error)
                    threshold = float(args.overlaps[overlap])
                    _handled.append(
                        f"instance: {name} at {threshold:.2f}: every prediction is ignored, AP is 0"
                    )
        return ap

    return evaluate


def _require_empty_curve(error: IndexError) -> None:
    if "index -1 is out of bounds for axis 0 with size 0" not in str(error):
        raise error


def _read_images_in_parallel(script: Any, processes: int) -> None:
    """Lets several processes do what the script does image by image; it goes on with the joined results."""

    def match(predictions: list[str], ground_truth: list[str], instances: dict[str, Any], args: Any) -> Any:
        parts = []
        for part in _parts(len(ground_truth), processes):
            own = {key: instances[key] for key in map(os.path.abspath, ground_truth[part])}
            parts.append(("matchGtWithPreds", predictions[part], ground_truth[part], own, args))
        return _joined(parts, processes)

    def read(files: list[str], verbose: bool = False) -> Any:
        parts = [("instances2dict", files[part], verbose) for part in _parts(len(files), processes)]
        return _joined(parts, processes)

    for name, in_parallel in (("matchGtWithPreds", match), ("instances2dict", read)):
        _of_the_script[name] = getattr(script, name)
        setattr(script, name, in_parallel)


def _parts(count: int, processes: int) -> list[slice]:
    size = max(1, -(-count // (4 * processes)))
    return [slice(start, start + size) for start in range(0, count, size)]


def _joined(parts: list[tuple[Any, ...]], processes: int) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    with multiprocessing.Pool(processes, initializer=restore_numpy) as pool:
        for found in pool.starmap(_call_the_script, parts, chunksize=1):
            joined.update(found)
    return joined


def _call_the_script(name: str, *arguments: Any) -> Any:
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    # A forked worker has inherited the parallel functions, a spawned one has not.
    try:
        return _of_the_script.get(name, getattr(script, name))(*arguments)
    except SystemExit as error:
        # A worker that ends would leave the pool waiting for its result for ever.
        raise RuntimeError(f"the script gave up, with {error.code!r}") from error


_JOBS: dict[str, Callable[[dict[str, Any]], None]] = {
    "make_panoptic": _make_panoptic,
    "panoptic": _evaluate_panoptic,
    "panopticapi": _evaluate_panopticapi,
    "coco_instance": _evaluate_coco_instances,
    "pixel": _evaluate_pixels,
    "instance": _evaluate_instances,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv))
