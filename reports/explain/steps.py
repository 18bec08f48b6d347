"""Explains why the internal and the official number of one run differ, by changing one rule at a time.

Everything comes from the run's folder: the record, and the per-image statistics from which both numbers are
computed. The last step must arrive at the number that the official script itself wrote; what remains is
reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.pq_rules import mean_in_order
from zoo.metrics.segments import ImageSegments
from zoo.reports.explain.pq_steps import (
    RULE_COLUMNS,
    RULES_BESIDE_EACH_OTHER,
    SAME_IN_BOTH,
    CountedImages,
    official_steps,
    torchmetrics_steps,
)
from zoo.reports.explain.waterfall import RuleChange, Waterfall, mean_of_present, take_apart
from zoo.reports.runs import Run, open_run
from zoo.repro.records.claim_words import HEADLINE_METRICS, metric_title
from zoo.repro.records.run_folder import open_run_folder
from zoo.repro.records.schema import MEASURE_AGAIN
from zoo.repro.records.statistics import part_of

AP_OF_CITYSCAPES = (
    "each measures another AP, COCO's or the Cityscapes instance script's (void, small regions and the "
    "area under the curve differ), so the difference is not taken apart"
)
AP_OF_COCO = (
    "both are from pycocotools but on other ground truth, the segments of the panoptic maps or the original "
    "instance annotations, so the difference is not taken apart"
)

# By the official script that measures AP.
_AP_NOTES = {"evalInstanceLevelSemanticLabeling": AP_OF_CITYSCAPES, "cocoeval": AP_OF_COCO}
_AP_OF_OTHERS = "each measures another AP, so the difference is not taken apart"


@dataclass(frozen=True)
class Explanation:
    """Why the numbers of one run differ."""

    entry: str
    images: int
    images_in_dataset: int
    waterfalls: tuple[Waterfall, ...]
    """Of the metrics that both evaluators have measured."""
    ap: dict[str, float]
    """Evaluator -> AP in percent, of both or of neither."""
    ap_note: str
    """Why the two values of AP are not compared rule by rule."""
    torchmetrics: Waterfall | None = None
    """From the official PQ to that of torchmetrics, where there is an official one."""

    @property
    def all_waterfalls(self) -> tuple[Waterfall, ...]:
        """Returns `waterfalls`, with `torchmetrics` after that of PQ, which comes first."""
        on = (self.torchmetrics,) if self.torchmetrics is not None else ()
        return (*self.waterfalls[: len(on)], *on, *self.waterfalls[len(on) :])

    @property
    def counted_images(self) -> str:
        """How many images were evaluated: `30 images`, or `10 of 30 images`."""
        of = "" if self.images == self.images_in_dataset else f" of {self.images_in_dataset}"
        return f"{self.images}{of} images"

    def to_json(self) -> dict[str, Any]:
        """Returns everything, unrounded, as JSON can hold it."""
        shown: dict[str, Any] = {"entry": self.entry, "images": self.images}
        shown["images_in_dataset"] = self.images_in_dataset
        for waterfall in self.waterfalls:
            shown[waterfall.metric] = {
                "internal": waterfall.start,
                "official": waterfall.end,
                "difference": waterfall.end - waterfall.start,
                "steps": [vars(step) for step in waterfall.steps],
                "residual": waterfall.residual,
                "internal_per_class": waterfall.per_class,
            }
        if "pq" in shown:
            shown["pq"]["same_in_both"] = list(SAME_IN_BOTH)
            shown["pq"]["rules"] = [
                dict(zip(RULE_COLUMNS, row, strict=True)) for row in RULES_BESIDE_EACH_OTHER
            ]
        if self.torchmetrics is not None:
            shown["pq"]["torchmetrics"] = {
                "value": self.torchmetrics.end,
                "difference_from_official": self.torchmetrics.end - self.torchmetrics.start,
                "steps": [vars(step) for step in self.torchmetrics.steps],
            }
        if self.ap:
            shown["ap"] = {**self.ap, "note": self.ap_note}
        return shown


def explain(path: Path) -> Explanation:
    """Takes apart the difference between the numbers of the run whose folder or record `path` is.

    Raises:
      DataError: no record, no official numbers in it, no per-image statistics beside it, or those of another
        run.
    """
    run = open_run(path)
    pairs = _pairs(run)
    folder = open_run_folder(run.path)
    sums = _Sums(folder.read_statistics(folder.all_images_of(run.record)), folder.images)
    waterfalls, torchmetrics = [], None
    if "pq" in pairs:
        start = sums.metrics["pq"].compute()
        names = _check_same_run(run, sums, "pq", start.pq)
        # A record that does not say how many processes there were is taken as of one, and the last digits may
        # then remain unexplained.
        processes = _official(run).get("processes", 1)
        images = CountedImages(sums.segments, len(names), sums.thing_class_ids, processes)
        waterfalls.append(take_apart("pq", pairs["pq"], names, start.pq_per_class, official_steps(images)))
        official = waterfalls[0].steps[-1]
        changes = torchmetrics_steps(images)
        official_per_class = np.array([official.per_class[name] for name in names], np.float64)
        evaluators = ("official", "torchmetrics")
        torchmetrics = take_apart(
            "pq", (official.value, None), names, official_per_class, changes, evaluators
        )
    if "miou" in pairs and "official_miou" in sums.metrics:
        start = sums.metrics["miou"].compute()
        names = _check_same_run(run, sums, "miou", start.miou)
        steps = _miou_steps(sums, has_script="miou" not in _official(run))
        waterfalls.append(take_apart("miou", pairs["miou"], names, start.iou_per_class, steps))
    scripts = _official(run).get("scripts", {})
    return Explanation(
        entry=run.entry,
        images=run.record["images"],
        images_in_dataset=run.record["images_in_dataset"],
        waterfalls=tuple(waterfalls),
        ap=dict(zip(("internal", "official"), pairs["ap"], strict=True)) if "ap" in pairs else {},
        ap_note=next((_AP_NOTES[name] for name in scripts if name in _AP_NOTES), _AP_OF_OTHERS),
        torchmetrics=torchmetrics,
    )


def _official(run: Run) -> dict[str, Any]:
    """Returns what the record says about the official scripts."""
    found: dict[str, Any] = run.record.get("official_scripts") or {}
    return found


def _pairs(run: Run) -> dict[str, tuple[float, float]]:
    """Returns metric -> internal and official value, where there are both."""
    pairs = {}
    for metric in HEADLINE_METRICS:
        internal, official = run.value("internal", metric), run.value("official", metric)
        if internal is not None and official is not None:
            pairs[metric] = internal, official
    if "pq" not in pairs and "miou" not in pairs:
        reason = _official(run).get("skipped") or _official(run).get("failed")
        reason = reason or "the record has no official ones; run again on data with the original annotations"
        raise DataError(f"{run.path}: nothing to compare the internal numbers with: {reason}")
    return pairs


_KINDS: dict[str, type[PanopticQuality] | type[MeanIoU]] = {
    "pq": PanopticQuality,
    "miou": MeanIoU,
    # With crowd pixels.
    "official_miou": MeanIoU,
}


class _Sums:
    """What both waterfalls need of the images, without the rest of their statistics in the folder `where`.

    `metrics` has those of `_KINDS` that were counted, over all images.
    """

    def __init__(self, statistics: Iterable[Mapping[str, np.ndarray]], where: Path) -> None:
        self.where = where
        self.segments: list[ImageSegments] = []
        self.metrics: dict[str, Any] = {}
        self.thing_class_ids: list[int] = []
        for arrays in statistics:
            if "segments/gt_id" not in arrays:
                expected = "counted segments with crowd regions in every image's statistics"
                remedy = "they come with the original files of a data set, or run again with this version"
                raise DataError(f"{where}: expected {expected}, found none; {remedy}")
            self.segments.append(ImageSegments.from_arrays(part_of(arrays, "segments")))
            self.thing_class_ids = arrays["ap/thing_class_ids"].tolist()
            for name, kind in _KINDS.items():
                if part := part_of(arrays, name):
                    metric = kind.from_arrays(part)
                    if self.metrics.setdefault(name, metric) is not metric:
                        self.metrics[name].merge(metric)


def _check_same_run(run: Run, sums: _Sums, metric: str, found: float) -> list[str]:
    """Checks that the statistics are of the run, and returns its classes by train id."""
    recorded, num_classes = run.value("internal", metric), sums.metrics["pq"].num_classes
    if found != recorded:
        raise DataError(
            f"{sums.where}: the statistics there give {metric_title(metric)} {found:.6f}, expected the "
            f"record's {recorded:.6f}; the record is of another run, make both again"
        )
    key = "iou" if metric == "miou" else metric
    names = list(run.per_class("internal", key))
    if len(names) != num_classes:
        raise DataError(
            f"{run.path}: per_class.internal.{key}: expected {num_classes} classes, as the statistics have, "
            f"found {len(names)}; {MEASURE_AGAIN}"
        )
    return names


# ---- mean IoU ----


def _miou_steps(sums: _Sums, *, has_script: bool) -> Iterator[RuleChange]:
    """Yields the rules of mean IoU, each with the metric after its change.

    `has_script`: a script measures mean IoU, whose arithmetic is a rule too.
    """
    with_crowd = sums.metrics["official_miou"].compute()
    # The class that stands for void may lie outside of the classes.
    void = sums.metrics["pq"].ignore_label
    yield (
        "crowd pixels count",
        "pixels of crowd regions count with their class; the internal ground truth has them as void",
        with_crowd.miou,
        with_crowd.iou_per_class,
    )
    iou = _without(with_crowd.iou_per_class, void)
    yield (
        "void is no class",
        "void is left out of the mean; the internal one counts it as a class of IoU 0 where it is predicted",
        mean_of_present(iou),
        iou,
    )
    if has_script:
        intersections = np.diagonal(with_crowd.confusion)
        unions = with_crowd.unions
        iou = np.divide(intersections, unions, out=np.full(unions.size, np.nan), where=unions > 0)
        iou = _without(iou, void)
        yield (
            "the script's arithmetic",
            "classes are added up in the script's order, in float64, and made percent at the end",
            100 * mean_in_order(iou),
            100 * iou,
        )


def _without(per_class: np.ndarray, void: int) -> np.ndarray:
    """Returns the values with the class that stands for void absent, where it is one of the classes."""
    values = per_class.copy()
    values[void : void + 1] = np.nan
    return values
