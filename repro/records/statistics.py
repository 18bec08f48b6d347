"""The statistics of one image: named arrays, the summands of all metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DataError
from zoo.metrics.panoptic_quality import PanopticQuality

if TYPE_CHECKING:
    import numpy as np


def part_of(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Returns the arrays `name/...` of one image's statistics, without the prefix."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}


def image_quality(arrays: Mapping[str, np.ndarray]) -> float:
    """Returns one image's own PQ in percent from its statistics; NaN if nothing is scored."""
    return PanopticQuality.from_arrays(part_of(arrays, "pq")).compute().pq


# One array of each part that every reader uses; `from_arrays` of the metrics checks the others.
_ARRAYS = ("pq/tp", "pq/num_classes", "miou/confusion", "ap/thing_class_ids")


def check_statistics(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises a DataError where one image's statistics lack an array that reports read."""
    for name in _ARRAYS:
        if name not in arrays:
            raise DataError(
                f"{path}: not the statistics of an image: expected an array {name!r}, found none; "
                "run the entry again with --restart"
            )
