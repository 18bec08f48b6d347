"""Calls the official Cityscapes scripts, in the separate processes of `zoo.repro.official.process`."""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.repro.official.process import restore_numpy

MAKE_PANOPTIC = {
    "script": "cityscapesscripts.preparation.createPanopticImgs",
    "run": f"{__name__}:make_panoptic",
}
PIXEL_LEVEL = {
    "script": "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
    "run": f"{__name__}:evaluate_pixels",
}
INSTANCE_LEVEL = {
    "script": "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling",
    "run": f"{__name__}:evaluate_instance_level",
}

_of_the_script: dict[str, Callable[..., Any]] = {}


def make_panoptic(job: dict[str, Any]) -> list[str]:
    """Makes panoptic ground truth."""
    from cityscapesscripts.preparation import createPanopticImgs as script

    # The script searches with patterns, and a path may hold characters that mean more: search from within.
    work = os.getcwd()
    os.chdir(job["ground_truth"])
    script.convert2panoptic(".", job["output"], False, [job["split"]])
    os.chdir(work)
    return []


def evaluate_pixels(job: dict[str, Any]) -> list[str]:
    """Runs the pixel-level script."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    script.args.groundTruthSearch = job["search"]
    script.args.exportFile = job["result"]
    script.main()
    return []


def evaluate_instance_level(job: dict[str, Any]) -> list[str]:
    """Runs the instance-level script."""
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    script.args.groundTruthSearch = job["search"]
    script.args.exportFile = job["result"]
    # By default this file lies in the installed package, and an old one would be believed.
    script.args.gtInstancesFile = "gtInstances.json"
    script.args.colorized = False
    handled: list[str] = []
    script.evaluateMatches = _without_empty_curves(script.evaluateMatches, handled)
    if job["processes"] > 1:
        _read_images_in_parallel(script, job["processes"])
    script.main()
    return handled


def _without_empty_curves(evaluate_matches: Callable[..., Any], handled: list[str]) -> Callable[..., Any]:
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
                    handled.append(
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
