"""Compares two runs over the same images: metrics, classes, single images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from zoo.errors import DataError
from zoo.reports.runs import ChangedCondition, Run, changed_conditions, finite_or_none, open_run
from zoo.reports.tables.markdown_table import compact_text, plain
from zoo.reports.tables.terminal import fitted_table
from zoo.repro.records.claim_words import BOUNDARY_METRICS, EVALUATORS, metric_title
from zoo.repro.records.statistics import image_quality

# What is compared per class, in percentage points.
_CLASS_METRICS = ("pq", "iou", "ap", *BOUNDARY_METRICS)
# Counts of segments in an image's statistics, and what a table calls them.
_COUNTS = {"tp": "found", "fp": "spurious", "fn": "missed"}


@dataclass(frozen=True)
class ValueChange:
    """One value in both runs, in percent; None where nothing of its kind occurs or it was not measured."""

    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """Percentage points gained; None where either value is missing."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def has_moved(self) -> bool:
        """Whether the two values differ in any digit."""
        return self.before != self.after

    @property
    def size(self) -> float:
        """How far it moved; a value that came or went moved further than any other."""
        if self.difference is None:
            return float("inf") if self.has_moved else 0.0
        return abs(self.difference)

    def fell_by_more_than(self, threshold: float) -> bool:
        """Returns whether it fell by more than `threshold` points, or is gone."""
        if self.difference is None:
            return self.before is not None
        return self.difference < -threshold

    def to_json(self) -> dict[str, float | None]:
        """Returns both values and their difference, unrounded."""
        return {"before": self.before, "after": self.after, "difference": self.difference}

    def cells(self) -> tuple[str, str, str]:
        """Returns the two values and their difference as a table shows them."""
        before, after = ("" if value is None else f"{value:.3f}" for value in (self.before, self.after))
        if self.difference is None:
            return before, after, "gone" if self.after is None else "new"
        return before, after, f"{self.difference:+.3f}" if self.difference else "0"


@dataclass(frozen=True)
class ImageChange:
    """An image's own internal PQ in both runs, and the segments of each class that came or went."""

    image_id: str
    pq: ValueChange
    segments: dict[str, dict[str, int]]
    """Class -> `tp`, `fp`, `fn` -> how many more there are; only what changed."""

    def segments_text(self) -> str:
        """Returns what happened to the segments, in words: `car +1 found -1 missed`."""
        return ", ".join(
            " ".join([name, *(f"{number:+d} {_COUNTS[key]}" for key, number in counts.items())])
            for name, counts in self.segments.items()
        )


@dataclass(frozen=True)
class Comparison:
    """All that changed from one run to another; a metric may fall by `threshold` percentage points."""

    before: Run
    after: Run
    threshold: float
    conditions: list[ChangedCondition]
    metrics: dict[tuple[str, str], ValueChange]
    """By evaluator and metric."""
    classes: dict[tuple[str, str, str], ValueChange]
    """By evaluator, metric and class."""
    images: list[ImageChange] | None
    """Those that moved most first; None where the statistics of the images are not beside both records."""

    @property
    def title(self) -> str:
        """The entry of both runs, or the names of both where predictions were scored."""
        return " and ".join(dict.fromkeys(run.entry for run in (self.before, self.after)))

    def _repr_markdown_(self) -> str:
        return markdown(self, top=10)

    @property
    def fallen(self) -> list[tuple[str, str]]:
        """(evaluator, metric) of the metrics that fell by more than the threshold."""
        return [key for key, change in self.metrics.items() if change.fell_by_more_than(self.threshold)]

    @property
    def moved_images(self) -> list[ImageChange]:
        """The images whose PQ or segments changed, those that moved most first."""
        return [image for image in self.images or () if image.pq.has_moved or image.segments]

    @property
    def moved_classes(self) -> list[tuple[tuple[str, str, str], ValueChange]]:
        """The classes' values that changed, those that moved most first."""
        moved = [item for item in self.classes.items() if item[1].has_moved]
        return sorted(moved, key=lambda item: -item[1].size)


def compare(
    before: str | os.PathLike[str], after: str | os.PathLike[str], *, threshold: float = 0.1
) -> Comparison:
    """Compares two runs, each given as its record or folder; see `compare_runs`.

    A notebook shows the result as tables; `fallen` has the metrics that fell by more than `threshold`
    percentage points, `metrics`, `classes` and `images` have all changes.

    Raises:
      DataError: there is no record, or the runs cannot be compared.
    """
    return compare_runs(open_run(Path(before)), open_run(Path(after)), threshold=threshold)


def compare_runs(before: Run, after: Run, *, threshold: float = 0.1) -> Comparison:
    """Compares two runs, of which a metric may fall by `threshold` percentage points.

    Two runs of the zoo's networks are of one entry; scored predictions may be compared with any run.

    Raises:
      DataError: the runs are of different entries, data or images, or statistics of an image are damaged.
    """
    _check_comparable(before, after)
    runs, images = (before, after), None
    if before.image_ids() and after.image_ids():
        images = sorted(_image_changes(before, after), key=lambda image: (-image.pq.size, image.image_id))
    return Comparison(
        before=before,
        after=after,
        threshold=threshold,
        conditions=changed_conditions(before.record, after.record),
        metrics={
            (evaluator, metric): change
            for evaluator in EVALUATORS
            for metric, change in _changes(*(run.record["metrics"].get(evaluator, {}) for run in runs))
        },
        classes={
            (evaluator, metric, name): change
            for evaluator in EVALUATORS
            for metric in _CLASS_METRICS
            for name, change in _changes(*(run.per_class(evaluator, metric) for run in runs))
        },
        images=images,
    )


def _check_comparable(before: Run, after: Run) -> None:
    where = f"{before.path} and {after.path}: cannot be compared:"
    are_entries = not (before.is_of_predictions or after.is_of_predictions)
    if are_entries and before.entry != after.entry:
        raise DataError(f"{where} entry {before.entry} and entry {after.entry}; give two runs of one entry")
    fingerprints = [run.record.get("dataset", {}).get("fingerprint") for run in (before, after)]
    if fingerprints[0] != fingerprints[1]:
        short = " and ".join(str(fingerprint or "none")[:10] for fingerprint in fingerprints)
        raise DataError(f"{where} other data (fingerprints {short}); run both on the same files")
    counts = [int(run.record["images"]) for run in (before, after)]
    if counts[0] != counts[1]:
        raise DataError(f"{where} {counts[0]} and {counts[1]} images; run both with the same --limit")
    names = [set(run.image_ids()) for run in (before, after)]
    if all(names) and names[0] != names[1]:
        other = f"other images, {min(names[0] ^ names[1])} is in one of them only"
        raise DataError(f"{where} {other}; run both on the same images")


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, ValueChange]]:
    """Yields the name and both values of what at least one run has a value of."""
    for name in {**old, **new}:
        change = ValueChange(finite_or_none(old.get(name)), finite_or_none(new.get(name)))
        if change.before is not None or change.after is not None:
            yield name, change


def _image_changes(before: Run, after: Run) -> Iterator[ImageChange]:
    names = after.class_names
    for (image_id, old), (_, new) in zip(before.images(), after.images(), strict=True):
        change = ValueChange(finite_or_none(image_quality(old)), finite_or_none(image_quality(new)))
        yield ImageChange(image_id, change, _segment_changes(names, old, new))


def _segment_changes(
    names: Sequence[str], old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]
) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for key in _COUNTS:
        if f"pq/{key}" not in old or f"pq/{key}" not in new:
            continue
        more = new[f"pq/{key}"] - old[f"pq/{key}"]
        for train_id in more.nonzero()[0].tolist():
            name = names[train_id] if train_id < len(names) else f"class {train_id}"
            found.setdefault(name, {})[key] = int(more[train_id])
    return found


def to_json(found: Comparison) -> dict[str, Any]:
    """Returns everything as one JSON object, unrounded; every image and class, not only those that moved."""
    images = [
        {"image_id": image.image_id, **image.pq.to_json(), "segments": image.segments}
        for image in found.images or ()
    ]
    return {
        "entry": found.title,
        "before": str(found.before.path),
        "after": str(found.after.path),
        "threshold": found.threshold,
        "fallen": [{"evaluator": evaluator, "metric": metric} for evaluator, metric in found.fallen],
        "conditions": [condition._asdict() for condition in found.conditions],
        "metrics": [
            {"evaluator": evaluator, "metric": metric, **change.to_json()}
            for (evaluator, metric), change in found.metrics.items()
        ],
        "classes": [
            {"evaluator": evaluator, "metric": metric, "class": name, **change.to_json()}
            for (evaluator, metric, name), change in found.classes.items()
        ],
        "images": None if found.images is None else images,
    }


_NUMBERS = ("A", "B", "Change")


@dataclass(frozen=True)
class _Table:
    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    numbers: tuple[str, ...] = _NUMBERS


def _tables(found: Comparison, top: int) -> Iterator[_Table]:
    """Yields what is shown to a person, in order."""
    yield _Table(
        "Measured differently",
        ("What", "A", "B"),
        found.conditions,
        "" if found.conditions else "Nothing: same settings, versions, device and checkpoint.",
        numbers=(),
    )
    fallen = set(found.fallen)
    yield _Table(
        f"Metrics (a fall of more than {found.threshold:g} points is marked)",
        ("Metric", "Evaluator", *_NUMBERS, ""),
        [
            (metric_title(metric), evaluator, *value.cells(), "fell" if (evaluator, metric) in fallen else "")
            for (evaluator, metric), value in found.metrics.items()
        ],
    )
    moved = found.moved_classes
    yield _Table(
        "Classes that moved most",
        ("Class", "Metric", "Evaluator", *_NUMBERS),
        [
            (name, metric_title(metric), evaluator, *value.cells())
            for (evaluator, metric, name), value in moved[:top]
        ],
        _how_many(len(moved), len(found.classes), top, "values of classes"),
    )
    images = found.moved_images
    yield _Table(
        "Images that moved most (internal PQ of the image alone)",
        ("Image", *_NUMBERS, "Segments"),
        [(image.image_id, *image.pq.cells(), image.segments_text()) for image in images[:top]],
        "Not compared: the statistics of the images are not beside both records."
        if found.images is None
        else _how_many(len(images), len(found.images), top, "images"),
    )


def _how_many(moved: int, total: int, top: int, what: str) -> str:
    rest = f"; {top} shown" if top < moved else ""
    return f"{moved} of {total} {what} moved{rest}."


def _heading(found: Comparison) -> list[str]:
    runs = {"A": found.before, "B": found.after}
    return [f"{name}: {run.path} ({run.started or 'no date'})" for name, run in runs.items()]


def markdown(found: Comparison, top: int) -> str:
    """Returns the comparison as Markdown, with the `top` classes and images that moved most."""
    blocks = [f"# {plain(found.title)}", "\n".join(f"- {plain(line)}" for line in _heading(found))]
    for table in _tables(found, top):
        blocks.append(f"## {table.title}")
        if table.rows:
            blocks.append(compact_text(table.header, table.rows, table.numbers))
        if table.note:
            blocks.append(table.note)
    return "\n\n".join(blocks) + "\n"


def write_terminal(found: Comparison, top: int, console: Console) -> None:
    """Prints the comparison for a person, with the `top` classes and images that moved most."""
    console.print(Text(found.title, style="bold"))
    for line in _heading(found):
        console.print(Text(line), soft_wrap=True)
    for table in _tables(found, top):
        console.print()
        console.print(Text(table.title, style="bold"))
        if table.rows:
            rows = [
                [Text(cell, "bold red" if row[-1] == "fell" else "") for cell in row] for row in table.rows
            ]
            console.print(fitted_table(table.header, rows, table.numbers, leave_out_first=("Segments", "A")))
        if table.note:
            console.print(Text(table.note))
