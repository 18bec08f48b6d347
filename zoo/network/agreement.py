"""Compares the network built here with the SavedModel published for the same entry."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.fetch.fetcher import Fetcher
from zoo.registry import Entry, Registry

TOLERANCE = 1e-3
"""The largest difference of a map, in its standard deviations, that counts as rounding.

Within one environment rounding moves a map by about 1e-5; a published graph runs other kernels.
"""

BUNDLED_DATASET = "minicity"


@dataclass(frozen=True)
class MapAgreement:
    """How far one of the network's maps differs, and the standard deviation of the SavedModel's map."""

    max_difference: float
    standard_deviation: float

    @property
    def relative(self) -> float:
        """The largest difference in standard deviations."""
        if self.max_difference == 0:
            return 0.0
        return self.max_difference / self.standard_deviation if self.standard_deviation else float("inf")


@dataclass(frozen=True)
class AgreementReport:
    """How far a built network and a SavedModel agree on one image.

    Attributes:
      image_size: (height, width) in px.
      saved_model: the SavedModel's folder.
      maps: by name, at stride 4.
      equal_semantic, equal_panoptic: share of pixels with equal class or panoptic label, 0..1.
      equal_segments: share of pixels in matched segments, whatever the instance numbers: each segment of one
        map is matched with at most one of the other, of the same class, by the most shared pixels.
    """

    entry: str
    image: str
    image_size: tuple[int, int]
    saved_model: str
    maps: dict[str, MapAgreement]
    equal_semantic: float
    equal_panoptic: float
    equal_segments: float

    @property
    def ok(self) -> bool:
        """Whether every map agrees up to rounding."""
        return all(each.relative <= TOLERANCE for each in self.maps.values())

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        maps = {name: {**asdict(each), "relative": each.relative} for name, each in self.maps.items()}
        return {**asdict(self), "maps": maps, "tolerance": TOLERANCE, "agrees": self.ok}

    def __str__(self) -> str:
        verdict = "agrees with" if self.ok else "DIFFERS from"
        lines = [
            f"{self.entry}: {verdict} its SavedModel on {self.image} "
            f"({self.image_size[0]} x {self.image_size[1]} px)"
        ]
        lines += [
            f"  {name:<16} largest difference {each.relative:.1e} of its standard deviation "
            f"({each.max_difference:.3g} of {each.standard_deviation:.3g}); at most {TOLERANCE:.0e} agrees"
            for name, each in self.maps.items()
        ]
        lines += [
            f"  {'semantic':<16} {self.equal_semantic:.4%} of the pixels equal",
            f"  {'panoptic':<16} {self.equal_panoptic:.4%} of the pixels equal, "
            f"{self.equal_segments:.4%} with instances numbered freely",
        ]
        return "\n".join(lines)


def compare_with_saved_model(
    entry: Entry, *, registry: Registry, image_file: Path | None = None
) -> AgreementReport:
    """Runs an entry's restored network and its published SavedModel on one image, and compares them.

    Args:
      entry: of the registry.
      registry: where the bundled data set is declared.
      image_file: a PNG or JPEG no larger than the entry's crop; None for an image of the bundled data set.

    Raises:
      ArchiveError: no SavedModel was published for the entry, or it cannot be loaded.
      DataError: the image cannot be read.
      UsageError: the image is larger than the crop.
      ZooError: something could not be fetched, verified or restored.
    """
    from zoo.model.preprocess import MEAN_PIXEL
    from zoo.network.loading import load_entry
    from zoo.network.network import Network
    from zoo.network.saved_model import SavedModelRuntime

    fetcher = Fetcher()
    runtime = SavedModelRuntime(entry, fetcher.saved_model(entry))
    saved_model = Network(entry, runtime)
    name, image = _image(entry, registry, image_file, fetcher)
    network = load_entry(entry, fetcher.checkpoint(entry))

    height, width = image.shape[:2]
    padded = np.full((1, *entry.evaluation.crop_size, 3), MEAN_PIXEL, np.float32)
    padded[0, :height, :width] = image
    found = network(padded)
    maps = {}
    for key, values in saved_model(image[None]).items():
        cut = np.asarray(found[key], np.float64)[:, : values.shape[1], : values.shape[2]]
        maps[key] = MapAgreement(float(np.abs(cut - values).max()), float(values.std(dtype=np.float64)))
    ours, theirs = network.predict(image), saved_model.predict(image)
    return AgreementReport(
        entry=entry.name,
        image=name,
        image_size=(height, width),
        saved_model=str(runtime.folder),
        maps=maps,
        equal_semantic=float(np.mean(ours.semantic == theirs.semantic)),
        equal_panoptic=float(np.mean(ours.panoptic == theirs.panoptic)),
        equal_segments=equal_segments(ours.panoptic, theirs.panoptic, ours.label_divisor),
    )


def equal_segments(first: np.ndarray, second: np.ndarray, label_divisor: int) -> float:
    """Returns the share of pixels in matched segments of two maps [H, W] int32; see `AgreementReport`."""
    both = first.ravel().astype(np.int64) << 32 | second.ravel().astype(np.int64)
    pairs, counts = np.unique(both, return_counts=True)
    taken_first: set[int] = set()
    taken_second: set[int] = set()
    together = 0
    for index in np.argsort(-counts, kind="stable"):
        one, other = divmod(int(pairs[index]), 1 << 32)
        same_class = one // label_divisor == other // label_divisor
        if same_class and one not in taken_first and other not in taken_second:
            taken_first.add(one)
            taken_second.add(other)
            together += int(counts[index])
    return together / first.size


def bundled_image(registry: Registry, fetcher: Fetcher) -> tuple[str, np.ndarray]:
    """Returns the name of the first image of the bundled data set, and the image [H, W, 3] uint8."""
    from zoo.repro.datasets.opening import open_dataset

    dataset = open_dataset(registry.dataset(BUNDLED_DATASET), None, fetcher)
    return f"{dataset.image_ids[0]} of {BUNDLED_DATASET}", dataset.load(0).image


def _image(
    entry: Entry, registry: Registry, image_file: Path | None, fetcher: Fetcher
) -> tuple[str, np.ndarray]:
    from zoo.repro.datasets.image_files import decode_image, read_bytes

    if image_file is not None:
        name, image = str(image_file), decode_image(read_bytes(image_file), str(image_file))
    else:
        name, image = bundled_image(registry, fetcher)
    crop = entry.evaluation.crop_size
    if image.ndim != 3 or image.shape[0] > crop[0] or image.shape[1] > crop[1]:
        raise UsageError(
            f"{entry.name}: --image {name}: expected one image of at most {crop[0]} x {crop[1]} pixels, "
            f"found {' x '.join(map(str, image.shape[:-1]))}, which the SavedModel would scale down; cut it"
        )
    return name, image
