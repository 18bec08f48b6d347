"""Intervals in which the metrics of a whole data set lie, from a run over a part of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.metrics.ap_resampling import MatchedDetections
from zoo.metrics.bootstrap import ClassRatios, Statistic, interval, iou_row, quality_row
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.pq_rules import OFFICIAL, count_image, sum_exactly
from zoo.metrics.segments import ImageSegments
from zoo.repro.records.claim_words import HEADLINE_METRICS, metric_title
from zoo.repro.records.statistics import part_of
from zoo.repro.run.scores import OFFICIAL_MIOU, SEGMENTS

if TYPE_CHECKING:
    import numpy as np

    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.scores import InternalScores

Intervals = dict[str, dict[str, tuple[float, float]]]
"""Evaluator -> metric -> lower and upper bound, in percent."""

# Fewer images do not show how much images differ.
MIN_IMAGES = 5


def intervals_for(
    statistics: Iterable[Mapping[str, np.ndarray]],
    metrics: Mapping[str, Mapping[str, float | None]],
    *,
    images_in_dataset: int | None,
    resamples: int = 2000,
) -> Intervals:
    """Returns 95 % intervals for the values that a run over all images would measure.

    They hold as far as the measured images are like a random sample of the data set. `--limit` takes the
    first ones in the order of their names, which for Cityscapes are those of one city.

    The official AP has no per-image statistics: it gets the interval of the internal AP, moved by the
    difference of the two values.

    Args:
      statistics: of each image, as `InternalScores.measure` returns them.
      metrics: the record's `metrics`, evaluator -> metric -> percent; what is not there gets no interval.
      images_in_dataset: number of images of the whole; None for an unlimited data set.
      resamples: how many bootstrap resamples to draw.

    Returns:
      `pq`, `miou` and `ap` of each evaluator, where defined; nothing for fewer than `MIN_IMAGES` images.
    """
    table = _Table(statistics)
    if table.num_images < MIN_IMAGES:
        return {}
    found: Intervals = {}
    for (evaluator, metric), statistic in table.metrics().items():
        if metrics.get(evaluator, {}).get(metric) is None:
            continue
        bounds = interval(statistic, table.num_images, population=images_in_dataset, resamples=resamples)
        if not math.isnan(bounds[0]):
            found.setdefault(evaluator, {})[metric] = bounds
    moved = _moved(found.get("internal", {}).get("ap"), metrics)
    if moved is not None:
        found.setdefault("official", {})["ap"] = moved
    return found


class _Table:
    """Keeps of each image only what the metrics need to be resampled."""

    def __init__(self, statistics: Iterable[Mapping[str, np.ndarray]]) -> None:
        self.num_images = 0
        self._rows: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
        self._ap: MaskAP | None = None
        for arrays in statistics:
            self.num_images += 1
            self._add_internal(arrays)
            if f"{SEGMENTS}/gt_id" in arrays:
                self._add_official(arrays)

    def metrics(self) -> dict[tuple[str, str], Statistic]:
        """Returns (evaluator, metric) -> the metric of any set of the images."""
        found: dict[tuple[str, str], Statistic] = {
            name: ClassRatios.of(rows) for name, rows in self._rows.items() if len(rows) == self.num_images
        }
        if self._ap is not None and self._ap.num_images:
            found["internal", "ap"] = MatchedDetections.match(self._ap).average_precision
        return found

    def _add_internal(self, arrays: Mapping[str, np.ndarray]) -> None:
        quality = PanopticQuality.from_arrays(part_of(arrays, "pq"))
        self._add_row("internal", "pq", quality_row(quality))
        self._add_row(
            "internal", "miou", iou_row(arrays["miou/confusion"], unlabelled=arrays.get("miou/unlabelled", 0))
        )
        ap = MaskAP.from_arrays(part_of(arrays, "ap"))
        if self._ap is None:
            self._ap = ap
        else:
            self._ap.merge(ap)

    def _add_official(self, arrays: Mapping[str, np.ndarray]) -> None:
        counts = count_image(
            ImageSegments.from_arrays(part_of(arrays, SEGMENTS)),
            OFFICIAL,
            num_classes=int(arrays["pq/num_classes"]),
            thing_class_ids=arrays["ap/thing_class_ids"].tolist(),
        )
        self._add_row("official", "pq", quality_row(sum_exactly([counts])))
        if f"{OFFICIAL_MIOU}/confusion" in arrays:
            void = int(arrays[f"{OFFICIAL_MIOU}/ignore_label"])
            unlabelled = arrays.get(f"{OFFICIAL_MIOU}/unlabelled", 0)
            row = iou_row(arrays[f"{OFFICIAL_MIOU}/confusion"], void, unlabelled)
            self._add_row("official", "miou", row)

    def _add_row(self, evaluator: str, metric: str, row: tuple[np.ndarray, np.ndarray]) -> None:
        self._rows.setdefault((evaluator, metric), []).append(row)


def _moved(
    bounds: tuple[float, float] | None, metrics: Mapping[str, Mapping[str, float | None]]
) -> tuple[float, float] | None:
    """Returns the internal AP's interval around the official AP."""
    internal, official = (metrics.get(evaluator, {}).get("ap") for evaluator in ("internal", "official"))
    if bounds is None or internal is None or official is None:
        return None
    low, high = (min(100.0, max(0.0, bound + official - internal)) for bound in bounds)
    return low, high


def numbers_so_far(
    folder: RunFolder, image_ids: Sequence[str], scores: InternalScores, all_images: int
) -> str:
    """Summarises an interrupted run: the internal metrics over `image_ids`, and intervals for all images.

    `scores` is empty; it says what is measured.
    """
    for arrays in folder.read_statistics(image_ids):
        scores.add(arrays)
    measured = {name: value for name, value in scores.compute().metrics.items() if not math.isnan(value)}
    statistics = folder.read_statistics(image_ids)
    bounds = intervals_for(statistics, {"internal": measured}, images_in_dataset=all_images)
    parts = []
    for name in HEADLINE_METRICS:
        if name in measured:
            low_high = bounds.get("internal", {}).get(name)
            interval = f" ({low_high[0]:.1f} to {low_high[1]:.1f})" if low_high else ""
            parts.append(f"{metric_title(name)} {measured[name]:.1f}{interval}")
    certainty = "; in brackets the 95 % intervals for all images" if bounds else ""
    return f"{len(image_ids)} of {all_images} images so far: {', '.join(parts)}{certainty}"
