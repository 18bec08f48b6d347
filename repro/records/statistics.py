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
    counted = part_of(arrays, "pq")
    return PanopticQuality.from_arrays(counted).compute().pq if counted else float("nan")


# One array of each part that every reader uses; `from_arrays` of the metrics checks the others.
_ARRAYS = ("pq/tp", "pq/num_classes", "miou/confusion", "ap/thing_class_ids")


# Not by the metrics' classes: importing those takes longer than a report.
_SETTINGS = (
    *("pq/num_classes", "pq/ignore_label", "pq/label_divisor", "miou/num_classes", "miou/ignore_label"),
    *("ap/num_classes", "ap/ignore_label", "ap/label_divisor", "ap/thing_class_ids"),
)
"""The arrays that are the same for all images of a run."""


def unlike(arrays: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray]) -> str | None:
    """Returns an array of an image that cannot be added to that of the first one, or None."""
    for name in arrays.keys() & first.keys():
        mine, other = arrays[name], first[name]
        is_other_setting = name in _SETTINGS and mine.tolist() != other.tolist()
        is_other_kind = (mine.dtype.kind, mine.ndim) != (other.dtype.kind, other.ndim)
        # Of an image without instances, arrays are empty and of any kind.
        if is_other_setting or (is_other_kind and mine.size and other.size):
            return name
    return None


def check_statistics(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises a DataError where one image's statistics lack an array that reports read.

    Those of scored predictions may lack a whole part, whose metric was not measured, but not every one.
    """
    parts = {key.partition("/")[0] for key in arrays}
    has_none = not parts & {name.partition("/")[0] for name in _ARRAYS}
    for name in _ARRAYS:
        if name not in arrays and (has_none or name.partition("/")[0] in parts):
            raise DataError(
                f"{path}: not the statistics of an image: expected an array {name!r}, found none; "
                "run the entry again with --restart"
            )
