"""Opens the registry's data sets, and says whether a copy is complete and fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError
from zoo.repro.datasets.dataset import usable_images, wrong_headers

if TYPE_CHECKING:
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry.schema import DatasetDeclaration
    from zoo.repro.datasets.dataset import Dataset

# A check decodes so many images with their ground truth, spread over the data set.
_SAMPLES = 8
# More lines of one kind help nobody.
_SHOWN = 10


def open_dataset(
    declared: DatasetDeclaration,
    data: Path | None,
    fetcher: Fetcher,
    *,
    keep_going: bool = False,
    needed_by: str = "",
) -> Dataset:
    """Opens a data set of the registry.

    Args:
      declared: its declaration.
      data: its folder, or None to unpack the archive that it is bundled in.
      fetcher: fetches that archive, and knows the cache.
      keep_going: leave out images that cannot be used, instead of an error.
      needed_by: who needs it, for the error message.

    Raises:
      DataError: it is not there, or not complete; the line says what is missing.
    """
    if data is None:
        if declared.archive is None:
            where = f", from {declared.homepage}" if declared.homepage else ""
            raise DataError(
                f"{needed_by or declared.name}: needs --data DIR, the folder of {declared.title}{where}"
            )
        data = fetcher.dataset(declared)
    return _opener(declared.format)(
        Path(data),
        declared.split,
        expected_images=declared.images,
        cache=fetcher.cache,
        keep_going=keep_going,
    )


def _opener(layout: str) -> Callable[..., Dataset]:
    if layout == "coco":
        from zoo.repro.coco.dataset import open_coco

        return open_coco
    from zoo.repro.cityscapes.dataset import open_cityscapes

    return open_cityscapes


@dataclass(frozen=True)
class DatasetCheck:
    """Whether a copy of a data set is complete and fit.

    Attributes:
      dataset: its name in the registry.
      path: the folder.
      images: how many images can be used as far as the names of files say.
      expected_images: how many a complete copy has, or None for any number.
      samples: how many images were decoded with their ground truth.
      problems: what is missing or wrong, one line each.
      official_obstacle: why the official scripts cannot score it, or None where they can.
    """

    dataset: str
    path: str
    images: int
    expected_images: int | None
    samples: int
    problems: tuple[str, ...]
    official_obstacle: str | None

    @property
    def ok(self) -> bool:
        """Whether the copy is complete and fit."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Returns the check as what JSON can hold."""
        return {**asdict(self), "problems": list(self.problems), "ok": self.ok}

    def __str__(self) -> str:
        of = "" if self.expected_images is None else f" of {self.expected_images}"
        lines = [f"{self.dataset}: {self.images}{of} images in {self.path}"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        if self.ok:
            lines.append(f"  complete; {self.samples} images decoded with their ground truth")
        if self.official_obstacle is not None:
            lines.append(f"  the official scripts cannot: {self.official_obstacle}")
        elif self.ok:
            lines.append("  the official scripts can score it")
        return "\n".join(lines)


def check_dataset(
    declared: DatasetDeclaration, data: Path | None, fetcher: Fetcher, *, full: bool = False
) -> DatasetCheck:
    """Says whether a copy of a data set is complete and fit.

    Looks at the names and headers of all files, and at some contents, in seconds; or at all contents.

    Args:
      declared: the registry's declaration.
      data: the folder, or None for a bundled data set.
      fetcher: as for `open_dataset`.
      full: decode all images with their ground truth, with a bar on a terminal.

    Raises:
      DataError: there is no such data set at all.
    """
    problems: list[str] = []
    try:
        dataset = open_dataset(declared, data, fetcher)
    except DataError as error:
        problems.append(str(error))
        dataset = open_dataset(declared, data, fetcher, keep_going=True)
    count = min(_SAMPLES, len(dataset))
    samples = sorted({round(i * (len(dataset) - 1) / max(1, count - 1)) for i in range(count)})
    names = [dataset.image_ids[index] for index in samples] if not full else list(dataset.image_ids)
    wrong = wrong_headers(dataset, dataset.image_ids)
    _, undecodable = usable_images(dataset, [name for name in names if name not in wrong])
    wrong |= undecodable
    problems += list(wrong.values())[:_SHOWN]
    if len(wrong) > _SHOWN:
        problems.append(f"and {len(wrong) - _SHOWN} more images")
    return DatasetCheck(
        dataset=declared.name,
        path=str(data if data is not None else getattr(dataset, "root", "")),
        images=len(dataset),
        expected_images=declared.images,
        samples=len(names),
        problems=tuple(problems),
        official_obstacle=dataset.official_obstacle,
    )
