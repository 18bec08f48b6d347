"""Says whether a copy of a data set is complete and fit, and which of its images can be used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError
from zoo.files.processes import available_cores
from zoo.files.progress import Progress
from zoo.files.words import counted
from zoo.remote.path import path_at
from zoo.repro.datasets.dataset import not_measured_lines
from zoo.repro.datasets.opening import open_dataset

if TYPE_CHECKING:
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry.lookup import RegistryLike
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
            f"{len(wrong)} of {counted(len(image_ids), 'image')} cannot be used, first: "
            f"{next(iter(wrong.values()))}; --keep-going leaves them out"
        )


def usable_images(dataset: Dataset, image_ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Decodes images once, with a bar, and returns those that can be used, and why the others cannot."""
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
    """Whether a copy of a data set is complete and fit."""

    dataset: str  # its name in the registry
    path: str
    images: int  # how many can be used as far as the names of files say
    expected_images: int | None  # how many a complete copy has; None for any number
    samples: int  # how many images were decoded with their ground truth
    problems: tuple[str, ...]  # what is missing or wrong, one line each
    official_obstacle: str | None  # why the official scripts cannot score it; None where they can
    not_measured: dict[str, str]  # official metric -> why it cannot be measured, while others can

    @property
    def ok(self) -> bool:
        """Whether the copy is complete and fit."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Returns the check as what JSON can hold."""
        return {**asdict(self), "problems": list(self.problems), "ok": self.ok}

    def __str__(self) -> str:
        images = counted(self.images, "image")
        if self.expected_images is not None:
            images = f"{self.images:,} of {counted(self.expected_images, 'image')}"
        lines = [f"{self.dataset}: {images} in {self.path}"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        if self.ok:
            lines.append(f"  complete; {counted(self.samples, 'image')} decoded with their ground truth")
        if self.official_obstacle is not None:
            lines.append(f"  no official scores: {self.official_obstacle}")
        elif self.ok and not self.not_measured:
            lines.append("  the official scripts can score it")
        lines += not_measured_lines(self.not_measured)
        return "\n".join(lines)


def check_dataset(
    declared: DatasetDeclaration, data: Path | None, fetcher: Fetcher, *, full: bool = False
) -> DatasetCheck:
    """Says whether a copy of a data set is complete and fit.

    Looks at the names and headers of all files, and at some contents, in seconds; or at all contents.

    Args:
      declared, data, fetcher: as for `open_dataset`.
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
    names = list(dataset.image_ids) if full else [dataset.image_ids[index] for index in samples]
    wrong = wrong_headers(dataset, dataset.image_ids)
    _, undecodable = usable_images(dataset, [name for name in names if name not in wrong])
    wrong |= undecodable
    problems += list(wrong.values())[:_SHOWN]
    if len(wrong) > _SHOWN:
        problems.append(f"and {counted(len(wrong) - _SHOWN, 'more image')}")
    return DatasetCheck(
        dataset=declared.name,
        path=str(data if data is not None else getattr(dataset, "root", "")),
        images=len(dataset),
        expected_images=declared.images,
        samples=len(names),
        problems=tuple(problems),
        official_obstacle=dataset.official_obstacle,
        not_measured=dict(dataset.not_measured),
    )


def check_data(
    name: str,
    data: str | os.PathLike[str] | None = None,
    *,
    full: bool = False,
    registry: RegistryLike | None = None,
) -> DatasetCheck:
    """Says whether a copy of a data set is complete and fit, as `zoo data check` does.

    Args:
      name: of the data set, for example "cityscapes".
      data: its folder; None for a bundled data set, or one whose declaration names its folder.
      full: decode all images with their ground truth, not only some.
      registry: as for `zoo.load`.

    Returns:
      What was found: `ok`, `problems`, `images`; printed, it reads as the command's output.

    Raises:
      UnknownNameError: there is no data set of this name.
      DataError: there is no such data set at all.
    """
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry.lookup import load_registry

    declared = load_registry(registry).dataset(name)
    folder = None if data is None else path_at(data)
    return check_dataset(declared, folder, Fetcher(), full=full)
