"""Calls the official Cityscapes scripts, in the separate processes of `zoo.repro.official.process`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.repro.official.per_image import Addends, found_in_images, raise_message

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

    def use(found: dict[str, Any]) -> None:
        def add(_: str, truth: str, matrix: np.ndarray, stats: Any, *__: Any) -> int:
            pixels, counts, addends = found[os.path.basename(truth)]
            matrix += counts
            for (group, name, key), values in addends.items():
                for value in values:
                    stats[group][name][key] += value
            return pixels

        script.evaluatePair = add

    _run_on_images(script, job, _look_at_pixels, use)
    return []


def _look_at_pixels(predicted: str, truth: str, args: Any) -> tuple[int, np.ndarray, dict[Any, list[Any]]]:
    """Returns an image's pixels, its confusion matrix, and what it adds to each of the script's totals."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    matrix, stats = script.generateMatrix(args), script.generateInstanceStats(args)
    addends = {
        (group, name, key): Addends()
        for group in stats
        for name in stats[group]
        for key in ("tp", "fn", "tpWeighted", "fnWeighted")
    }
    for (group, name, key), kept in addends.items():
        stats[group][name][key] = kept
    pixels = script.evaluatePair(predicted, truth, matrix, stats, {}, args)
    return pixels, matrix, {place: kept.values for place, kept in addends.items() if kept.values}


def evaluate_instance_level(job: dict[str, Any]) -> list[str]:
    """Runs the instance-level script."""
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    # By default this file lies in the installed package, and an old one would be believed.
    script.args.gtInstancesFile = "gtInstances.json"
    script.args.colorized = False
    handled: list[str] = []
    script.evaluateMatches = _without_empty_curves(script.evaluateMatches, handled)

    def use(found: dict[str, Any]) -> None:
        def part(index: int, truths: list[str]) -> dict[str, Any]:
            return {os.path.abspath(truth): found[os.path.basename(truth)][index] for truth in truths}

        script.instances2dict = lambda truths, _=False: part(0, truths)
        script.matchGtWithPreds = lambda _, truths, *__: part(1, truths)

    _run_on_images(script, job, _look_at_instances, use)
    return handled


def _look_at_instances(predicted: str, truth: str, args: Any) -> tuple[Any, Any]:
    """Returns the instances of an image's ground truth, and those matched with predictions."""
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    script.setInstanceLabels(args)
    instances = script.instances2dict([truth], False)
    matches = script.matchGtWithPreds([predicted], [truth], instances, args)
    return instances[os.path.abspath(truth)], matches[os.path.abspath(truth)]


def _run_on_images(
    script: Any, job: dict[str, Any], look: Callable[..., Any], use: Callable[[dict[str, Any]], None]
) -> None:
    """Runs a script's `main`; `use` gives it what `look` found in each image, by the name of the file."""
    evaluate = script.evaluateImgLists

    def evaluate_found(predictions: list[str], truths: list[str], args: Any) -> Any:
        pairs = zip(predictions, truths, strict=True)
        use(found_in_images(job, look, {os.path.basename(pair[1]): (*pair, args) for pair in pairs}))
        return evaluate(predictions, truths, args)

    script.evaluateImgLists = evaluate_found
    script.printError = raise_message
    script.args.groundTruthSearch = job["search"]
    script.args.exportFile = job["result"]
    script.main()


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
