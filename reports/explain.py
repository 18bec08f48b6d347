"""Why the internal and the official number of one run differ: one rule changed at a time.

Everything comes from the run's folder: the record, and the per-image statistics of which both numbers are
made. The last step must arrive at the number that the official script itself has written; what remains is
reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.cache import read_json
from zoo.errors import DataError
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.pq_rules import (
    INTERNAL,
    OFFICIAL,
    ImageCounts,
    Rules,
    count_image,
    mean_in_order,
    on_void,
    on_void_or_own_crowd,
    product_of_means,
    quotient_of_sums,
    sum_exactly,
    sum_in_order,
)
from zoo.metrics.segments import ImageSegments
from zoo.repro.record import read_record
from zoo.repro.statistics import folder_of, images_of, part_of, read_statistics

SAME_IN_BOTH = (
    "segments match where their classes are equal and their IoU is above 0.5 in float64",
    "areas and intersections are whole numbers of pixels of the same maps; nothing is rounded (the official "
    "script takes the areas of the ground truth from its JSON file, which has the numbers of pixels)",
    "a prediction's pixels on void are left out of the union; pixels that are void in the prediction are in "
    "no predicted segment",
    "crowd regions are never false negatives and never matched",
    "an unmatched prediction of which more than half is excused is no false positive, one wholly on void too",
    "the mean is over classes with a true positive, false positive or false negative (the official file says "
    "0 for the others, and does not count them)",
)
"""Rules of panoptic quality that could differ and do not."""

AP_DIFFERS = (
    "AP is another measure in each: COCO-style in the internal metric, and in the official scripts their own "
    "(matching, void and the curve's area differ); the difference is not taken apart"
)


@dataclass(frozen=True)
class Step:
    """One rule changed, with all earlier steps' rules changed before.

    Attributes:
      rule: short name.
      meaning: what the official script does, and the internal metric did.
      value: the metric after the change, in percent.
      worth: by how many percentage points the change moved it.
      shares: class name -> percentage points of `worth` that come from the class; they add up to it.
      per_class: class name -> the class's own value after the change, in percent; None where it is absent.
    """

    rule: str
    meaning: str
    value: float
    worth: float
    shares: dict[str, float]
    per_class: dict[str, float | None]


@dataclass(frozen=True)
class Waterfall:
    """The way of one metric from its internal to its official value, in percent.

    Attributes:
      metric: `pq` or `miou`.
      internal: where it starts, the record's number.
      per_class: class name -> internal value; None where the class is absent.
      steps: the rules in the order in which they are changed.
      official: the official script's own number.
    """

    metric: str
    internal: float
    per_class: dict[str, float | None]
    steps: tuple[Step, ...]
    official: float

    @property
    def residual(self) -> float:
        """What the steps do not explain, in percentage points."""
        return self.official - self.steps[-1].value


@dataclass(frozen=True)
class Explanation:
    """Why the numbers of one run differ.

    Attributes:
      entry, images, images_in_dataset: from the record.
      waterfalls: of the metrics that both evaluators have measured.
      ap: evaluator -> AP in percent, of both or of neither.
    """

    entry: str
    images: int
    images_in_dataset: int
    waterfalls: tuple[Waterfall, ...]
    ap: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns everything, unrounded, as JSON can hold it."""
        shown: dict[str, Any] = {
            "entry": self.entry,
            "images": self.images,
            "images_in_dataset": self.images_in_dataset,
        }
        for waterfall in self.waterfalls:
            shown[waterfall.metric] = {
                "internal": waterfall.internal,
                "official": waterfall.official,
                "difference": waterfall.official - waterfall.internal,
                "steps": [vars(step) for step in waterfall.steps],
                "residual": waterfall.residual,
                "internal_per_class": waterfall.per_class,
            }
        if "pq" in shown:
            shown["pq"]["same_in_both"] = list(SAME_IN_BOTH)
        if self.ap:
            shown["ap"] = {**self.ap, "note": AP_DIFFERS}
        return shown


def explain(path: Path) -> Explanation:
    """Takes apart the difference between the numbers of a run.

    Args:
      path: the run's folder, or the record in it.

    Raises:
      DataError: no record, no official numbers in it, no per-image statistics beside it, or those of another
        run.
    """
    record = read_record(path)
    pairs = _pairs(record, path)
    folder = folder_of(path)
    sums = _Sums(read_statistics(folder, images_of(folder, record)), folder.images)
    waterfalls = []
    if "pq" in pairs:
        processes = _processes(folder.official / "panoptic" / "job.json")
        waterfalls.append(_explain_pq(record, sums, pairs["pq"], processes))
    if "miou" in pairs and sums.has_official_miou:
        waterfalls.append(_explain_miou(record, sums, pairs["miou"]))
    return Explanation(
        entry=record["entry"],
        images=record["images"],
        images_in_dataset=record["images_in_dataset"],
        waterfalls=tuple(waterfalls),
        ap=dict(zip(("internal", "official"), pairs["ap"], strict=True)) if "ap" in pairs else {},
    )


def _pairs(record: Mapping[str, Any], path: Path) -> dict[str, tuple[float, float]]:
    """Returns metric -> internal and official value, where there are both."""
    internal, official = (record["metrics"].get(evaluator) or {} for evaluator in ("internal", "official"))
    pairs = {
        metric: (internal[metric], official[metric])
        for metric in ("pq", "miou", "ap")
        if internal.get(metric) is not None and official.get(metric) is not None
    }
    if "pq" not in pairs and "miou" not in pairs:
        reason = (record.get("official_scripts") or {}).get("skipped")
        raise DataError(
            f"{path}: expected official numbers beside the internal ones, found none"
            + (f" ({reason})" if reason else "; run again on data with the original annotations")
        )
    return pairs


_KINDS: dict[str, type[PanopticQuality] | type[MeanIoU]] = {
    "pq": PanopticQuality,
    "miou": MeanIoU,
    "official_miou": MeanIoU,
}


class _Sums:
    """What both waterfalls need of the images, without the rest of their statistics."""

    def __init__(self, statistics: Iterable[Mapping[str, np.ndarray]], where: Path) -> None:
        self.where = where
        self.segments: list[ImageSegments] = []
        self.thing_class_ids: list[int] = []
        self._metrics: dict[str, Any] = {}
        for arrays in statistics:
            if "segments/gt_id" not in arrays:
                raise DataError(
                    f"{where}: expected counted segments with crowd regions in every image's statistics, "
                    "found none; they come with the original files of a data set, or run again with this "
                    "version"
                )
            self.segments.append(ImageSegments.from_arrays(part_of(arrays, "segments")))
            self.thing_class_ids = arrays["ap/thing_class_ids"].tolist()
            for name, kind in _KINDS.items():
                part = part_of(arrays, name)
                if not part:
                    continue
                metric = kind.from_arrays(part)
                if name in self._metrics:
                    self._metrics[name].merge(metric)
                else:
                    self._metrics[name] = metric

    @property
    def quality(self) -> PanopticQuality:
        """The internal metric."""
        quality: PanopticQuality = self._metrics["pq"]
        return quality

    @property
    def has_official_miou(self) -> bool:
        """Whether crowd pixels were counted too."""
        return "official_miou" in self._metrics

    def mean_iou(self, name: str) -> MeanIoU:
        """Returns `miou`, the internal metric, or `official_miou`, with crowd pixels."""
        mean_iou: MeanIoU = self._metrics[name]
        return mean_iou


def _processes(job: Path) -> int:
    """Returns among how many processes the official script shared the images: each adds up its own."""
    found = read_json(job) or {}
    processes = found.get("processes")
    return processes if isinstance(processes, int) and processes > 0 else 1


# ---- panoptic quality ----

PQ_RULES: tuple[tuple[str, str, Rules], ...] = (
    (
        "official ground truth",
        "the segments of the official files, under the internal rules: crowd regions are void",
        INTERNAL,
    ),
    (
        "stuff segments apart",
        "several segments of one stuff class in an image stay apart; the internal ground truth joins them",
        replace(INTERNAL, joins_stuff=False),
    ),
    (
        "other crowds in the union",
        "a prediction's pixels on a crowd of another class count in the union; as void they did not",
        replace(INTERNAL, joins_stuff=False, outside_union=on_void_or_own_crowd),
    ),
    (
        "own crowd in the union",
        "a prediction's pixels on a crowd of its own class count in the union; as void they did not",
        replace(INTERNAL, joins_stuff=False, outside_union=on_void),
    ),
    (
        "other crowds excuse nothing",
        "a prediction mostly on a crowd of another class is a false positive; as on void it was none",
        replace(OFFICIAL, excuses=on_void_or_own_crowd),
    ),
    (
        "one crowd a class excuses",
        "of several crowds of one class in an image, only the last excuses predictions on it",
        OFFICIAL,
    ),
)
"""Name, meaning, and the rules once this and all earlier ones are as in the official script."""

_ARITHMETIC = (
    "the script's arithmetic",
    "PQ of a class is one quotient, not SQ times RQ; sums in the script's order, in float64",
)


def _explain_pq(
    record: Mapping[str, Any], sums: _Sums, pair: tuple[float, float], processes: int
) -> Waterfall:
    num_classes = sums.quality.num_classes
    recomputed = sums.quality.compute()
    _check_same_run("PQ", recomputed.pq, pair[0], sums.where)
    walk = _Walk(list(record["per_class"]["internal"]["pq"]), recomputed.pq, recomputed.pq_per_class)
    counts: list[ImageCounts] = []
    for rule, meaning, rules in PQ_RULES:
        counts = [
            count_image(image, rules, num_classes=num_classes, thing_class_ids=sums.thing_class_ids)
            for image in sums.segments
        ]
        per_class = product_of_means(sum_exactly(counts))
        present = ~np.isnan(per_class)
        walk.step(rule, meaning, float(per_class[present].mean()) if present.any() else math.nan, per_class)
    per_class = quotient_of_sums(sum_in_order(counts, processes))
    walk.step(*_ARITHMETIC, 100 * mean_in_order(per_class), 100 * per_class)
    return walk.waterfall("pq", pair)


# ---- mean IoU ----


def _explain_miou(record: Mapping[str, Any], sums: _Sums, pair: tuple[float, float]) -> Waterfall:
    start = sums.mean_iou("miou").compute()
    _check_same_run("mIoU", start.miou, pair[0], sums.where)
    walk = _Walk(list(record["per_class"]["internal"]["iou"]), start.miou, start.iou_per_class)
    with_crowd = sums.mean_iou("official_miou").compute()
    walk.step(
        "crowd pixels count",
        "pixels of crowd regions count with their class; the internal ground truth has them as void",
        with_crowd.miou,
        with_crowd.iou_per_class,
    )
    intersections = np.diagonal(with_crowd.confusion)
    unions = with_crowd.confusion.sum(axis=0) + with_crowd.confusion.sum(axis=1) - intersections
    iou = np.divide(intersections, unions, out=np.full(unions.size, np.nan), where=unions > 0)
    walk.step(
        "the script's arithmetic",
        "classes are added up in the script's order, in float64, and made percent at the end",
        100 * mean_in_order(iou),
        100 * iou,
    )
    return walk.waterfall("miou", pair)


# ---- both ----


def _check_same_run(title: str, found: float, recorded: float, where: Path) -> None:
    if found != recorded:
        raise DataError(
            f"{where}: the statistics there give {title} {found:.6f}, expected the record's {recorded:.6f}; "
            "the record is of another run, make both again"
        )


class _Walk:
    """Collects steps, each with the worth of every class."""

    def __init__(self, class_names: list[str], start: float, per_class: np.ndarray) -> None:
        self._names = class_names
        self._start = self._per_class(per_class)
        self._value, self._shares = start, _shares(per_class)
        self._steps: list[Step] = []

    def step(self, rule: str, meaning: str, value: float, per_class: np.ndarray) -> None:
        shares = _shares(per_class)
        moved = dict(zip(self._names, (shares - self._shares).tolist(), strict=True))
        self._steps.append(Step(rule, meaning, value, value - self._value, moved, self._per_class(per_class)))
        self._value, self._shares = value, shares

    def waterfall(self, metric: str, pair: tuple[float, float]) -> Waterfall:
        return Waterfall(metric, pair[0], self._start, tuple(self._steps), pair[1])

    def _per_class(self, values: np.ndarray) -> dict[str, float | None]:
        named = zip(self._names, values.tolist(), strict=True)
        return {name: None if math.isnan(value) else value for name, value in named}


def _shares(per_class: np.ndarray) -> np.ndarray:
    """Returns what each class adds to the mean over the classes that are present."""
    present = ~np.isnan(per_class)
    return np.where(present, per_class, 0.0) / max(1, int(present.sum()))
