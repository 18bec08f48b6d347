"""Says whether a copy of a data set is complete and fit, and which of its images can be used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError
from zoo.files.processes import available_cores
from zoo.files.progress import Progress
from zoo.repro.datasets.opening import open_dataset

if TYPE_CHECKING:
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry.schema import DatasetDeclaration
    from zoo.repro.datasets.dataset import Dataset

# A check decodes so many images with their ground truth, spread over the data set.
_SAMPLES = 8
# More lines of one kind help nobody.
_SHOWN = 10


def wrong_headers(dataset: Dataset, image_ids: Sequence[str]) -> dict[str, str]:
    """Returns the images of which a file's header is wrong, and why; thousands of images take seconds."""
    return _wrong(dataset, image_ids, dataset.check_headers, threads=16)


def require_headers(dataset: Dataset, image_ids: Sequence[str]) -> None:
    """Looks at the headers of all files of some images.

    Raises:
      DataError: one is wrong; the line says how many images are affected, and names the first file.
    """
    wrong = wrong_headers(dataset, image_ids)
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(image_ids)} images cannot be used, first: {next(iter(wrong.values()))}; "
            "--keep-going leaves them out"
        )


def usable_images(dataset: Dataset, image_ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Decodes images once, with a bar, and returns those that can be used, and why the others cannot.

    Args:
      dataset: the data set.
      image_ids: the images to try, in order.
    """
    bad = wrong_headers(dataset, image_ids)
    rest = [image_id for image_id in image_ids if image_id not in bad]
    bad |= _wrong(dataset, rest, dataset.check_contents, threads=min(4, available_cores()), bar=True)
    return [image_id for image_id in image_ids if image_id not in bad], bad


def _wrong(
    dataset: Dataset,
    image_ids: Sequence[str],
    check: Callable[[int], None],
    *,
    threads: int,
    bar: bool = False,
) -> dict[str, str]:
    index = {image_id: i for i, image_id in enumerate(dataset.image_ids)}

    def problem(image_id: str) -> str | None:
        try:
            check(index[image_id])
        except DataError as error:
            return str(error)
        return None

    found = {}
    show = bar and sys.stderr.isatty()
    with ThreadPoolExecutor(threads) as pool, Progress("images", len(image_ids), show=show) as progress:
        for image_id, reason in zip(image_ids, pool.map(problem, image_ids), strict=True):
            progress.advance()
            if reason is not None:
                found[image_id] = reason
    return found


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
            lines.append(f"  no official scores: {self.official_obstacle}")
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
