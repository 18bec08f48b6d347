"""The per-image statistics of a finished run, read back from its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.repro.records.store import RunFolder

if TYPE_CHECKING:
    import numpy as np


def part_of(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Returns the arrays `name/...` of one image's statistics, without the prefix."""
    prefix = f"{name}/"
    return {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}


def image_quality(arrays: Mapping[str, np.ndarray]) -> float:
    """Returns one image's own PQ in percent from its statistics; NaN if nothing is scored."""
    return PanopticQuality.from_arrays(part_of(arrays, "pq")).compute().pq


def folder_of(path: Path) -> RunFolder:
    """Returns the folder of a run, given it or the record in it.

    Raises:
      DataError: the record lies somewhere else than its run's statistics.
    """
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    folder = RunFolder(root)
    if not folder.images.is_dir():
        raise DataError(
            f"{path}: expected the run's per-image statistics in {folder.images}, found no such folder; "
            "give the folder in which the run was made"
        )
    return folder


def images_of(folder: RunFolder, record: Mapping[str, Any]) -> list[str]:
    """Returns the images that a record is about, in the order of the run.

    Raises:
      DataError: the folder holds statistics of fewer images.
    """
    found = folder.images_of(record)
    if len(found) < record["images"]:
        raise DataError(
            f"{folder.images}: expected the statistics of {record['images']} images, found {len(found)}; "
            f"`zoo reproduce {record['entry']}` makes them again"
        )
    return found


# One array of each part that every reader uses; `from_arrays` of the metrics checks the others.
_ARRAYS = ("pq/tp", "pq/num_classes", "miou/confusion", "ap/thing_class_ids")


def check_statistics(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Checks that one image's statistics hold what reports read.

    Raises:
      DataError: an array is missing.
    """
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise DataError(
            f"{path}: not the statistics of an image: expected an array {missing[0]!r}, found none; "
            "run the entry again with --restart"
        )


def read_statistics(folder: RunFolder, image_ids: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yields each image's statistics, see `zoo.repro.run.scores.InternalScores.measure`.

    Raises:
      DataError: an image's statistics are missing or damaged.
    """
    for image_id in image_ids:
        arrays = folder.read_image(image_id)
        if arrays is None:
            raise DataError(
                f"{folder.images}: the statistics of image {image_id} are missing or damaged; "
                "run the entry again with --restart"
            )
        check_statistics(arrays, folder.images / f"{image_id}.npz")
        yield arrays
