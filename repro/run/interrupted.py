"""What a run that was stopped can say of the numbers that it would have measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zoo.repro.records.claim_words import HEADLINE_METRICS, metric_title
from zoo.repro.run.intervals import intervals_for
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.records.run_folder import RunFolder


def numbers_so_far(folder: RunFolder, image_ids: Sequence[str], info: DatasetInfo, all_images: int) -> str:
    """Returns one line: the internal metrics of the evaluated images, and where those of all images lie.

    Args:
      folder: the run's folder.
      image_ids: the images that were evaluated, at least one.
      info: the data set's classes.
      all_images: how many images the data set has.
    """
    scores = InternalScores(info)
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
