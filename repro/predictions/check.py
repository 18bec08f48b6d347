"""Checks predictions of any model on disk before anything is scored."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.files.processes import available_cores
from zoo.files.progress import Progress
from zoo.files.words import counted
from zoo.remote.path import path_at
from zoo.repro.datasets.dataset import Dataset
from zoo.repro.predictions.finding import Finding, FindingError
from zoo.repro.predictions.predictions import Predictions, open_predictions

if TYPE_CHECKING:
    from zoo.registry.lookup import RegistryLike
    from zoo.repro.predictions.naming import Ids

# Of many findings of one kind, so many are kept and shown.
_SHOWN = 5


@dataclass(frozen=True)
class PredictionsCheck:
    """What is wrong with predictions on disk.

    Attributes:
      path: where they lie.
      form: the forms that were read; empty where nothing could be read.
      images: how many images of the data set were looked at, of `expected_images`.
      findings: the first of each kind, in the order in which they were found.
      counts: how many there are of each kind.
    """

    path: str
    form: str
    images: int
    expected_images: int
    findings: tuple[Finding, ...]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    def to_json(self) -> dict[str, Any]:
        """Returns the check as JSON values."""
        findings = [finding.to_json() for finding in self.findings]
        return {**asdict(self), "findings": findings, "ok": self.ok}

    def __str__(self) -> str:
        images = f"{self.images:,} of {counted(self.expected_images, 'image')}"
        what = f"{self.form}, {images}" if self.form else "cannot be read"
        lines = [f"{self.path}: {what}"]
        for kind, count in self.counts.items():
            shown = [finding for finding in self.findings if finding.kind == kind]
            lines += [f"  {finding}" for finding in shown]
            if count > len(shown):
                lines.append(f"  and {count - len(shown):,} more of this kind ({kind})")
        if self.ok:
            lines.append("  nothing wrong was found")
        else:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.counts.items())
            lines.append(f"  {counted(sum(self.counts.values()), 'finding')}: {kinds}")
        return "\n".join(lines)


def check_predictions(
    path: Path | str,
    dataset: Dataset | str,
    data: Path | str | None = None,
    *,
    form: str | None = None,
    divisor: int | None = None,
    ids: Ids | None = None,
    registry: RegistryLike | None = None,
) -> PredictionsCheck:
    """Checks predictions on disk: images, sizes, ids of classes and segments, areas, scores, kinds of files.

    Every file is read, with a bar on a terminal; memory does not grow with the number of images.

    Args:
      path: a folder, a run's folder, a .zip, or a JSON file beside its folder.
      dataset: whose images were predicted; the name of one in the registry, or one that is open.
      data: the folder of a data set that is given by name; bundled ones bring their own.
      form, divisor, ids: as for `open_predictions`.
      registry: where to look a name up, as for `zoo.load`.

    Raises:
      DataError: the data set cannot be opened, or there is nothing at the path.
      UsageError: there is no such data set or form.
    """
    opened = opened_dataset(dataset, data, registry)
    try:
        predictions = open_predictions(Path(path), opened, form=form, divisor=divisor, ids=ids)
    except FindingError as error:
        finding = error.finding
        return PredictionsCheck(str(path), "", 0, len(opened), (finding,), {finding.kind: 1})
    findings = itertools.chain(predictions.problems, all_findings(predictions))
    return summarize_findings(predictions, findings)


def summarize_findings(predictions: Predictions, findings: Iterable[Finding]) -> PredictionsCheck:
    """Returns findings by kind, the first few of each."""
    counts: Counter[str] = Counter()
    kept: list[Finding] = []
    for finding in findings:
        counts[finding.kind] += 1
        if counts[finding.kind] <= _SHOWN:
            kept.append(finding)
    images, expected = len(predictions.image_ids), len(predictions.dataset)
    path, form = str(predictions.path), predictions.form
    return PredictionsCheck(path, form, images, expected, tuple(kept), dict(counts))


def all_findings(predictions: Predictions, image_ids: Iterable[str] | None = None) -> Iterator[Finding]:
    """Yields what is wrong image by image, with several threads and a bar; all images by default."""
    names = list(predictions.dataset.image_ids if image_ids is None else image_ids)
    show = sys.stderr.isatty()
    pool = ThreadPoolExecutor(available_cores())
    try:
        with Progress("images", len(names), show=show) as bar:
            for _, findings in pool.map(predictions.read, names):
                bar.advance()
                yield from findings
    finally:
        pool.shutdown(cancel_futures=True)


def opened_dataset(dataset: Dataset | str, data: Path | str | None, registry: RegistryLike | None) -> Dataset:
    """Returns a data set that is open, or opens the one of a name; see `check_predictions`."""
    if isinstance(dataset, Dataset):
        return dataset
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry import load_registry
    from zoo.repro.datasets.opening import open_dataset

    declared = load_registry(registry).dataset(dataset)
    return open_dataset(declared, None if data is None else path_at(data), Fetcher())
