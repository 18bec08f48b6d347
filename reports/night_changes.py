"""What fell or rose between the records of two nights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.repro.night_folder import last_record
from zoo.repro.record import read_record


@dataclass(frozen=True)
class MetricChange:
    """One metric in two records, in percent; None where it was not measured or nothing of its kind occurs."""

    evaluator: str
    metric: str
    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """Percentage points gained; None where either value is missing."""
        return None if self.before is None or self.after is None else self.after - self.before

    def fell(self, threshold: float) -> bool:
        """Whether it fell by more than so many points, or is gone."""
        if self.difference is None:
            return self.before is not None
        return self.difference < -threshold

    def rose(self, threshold: float) -> bool:
        """Whether it rose by more than so many points, or is new."""
        if self.difference is None:
            return self.after is not None
        return self.difference > threshold

    def to_json(self) -> dict[str, Any]:
        """Returns the change as JSON values, unrounded."""
        return {**asdict(self), "difference": self.difference}


@dataclass(frozen=True)
class NightChange:
    """What changed of one entry since its last record.

    Attributes:
      night: the earlier night; None where no earlier night measured the entry.
      obstacle: why the records cannot be compared, or None.
      metrics: every metric of either record.
      threshold: percentage points by which a metric may fall.
    """

    night: str | None
    obstacle: str | None
    metrics: tuple[MetricChange, ...]
    threshold: float

    @property
    def fallen(self) -> list[MetricChange]:
        """The metrics that fell by more than the threshold."""
        return [change for change in self.metrics if change.fell(self.threshold)]

    @property
    def risen(self) -> list[MetricChange]:
        """The metrics that rose by more than the threshold."""
        return [change for change in self.metrics if change.rose(self.threshold)]

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as JSON values."""
        return {
            "night": self.night,
            "not_comparable": self.obstacle,
            "threshold": self.threshold,
            "fell": [change.to_json() for change in self.fallen],
            "rose": [change.to_json() for change in self.risen],
            "metrics": [change.to_json() for change in self.metrics],
        }


def change_since_last(folder: Path, entry: str, record: Path, threshold: float) -> NightChange:
    """Compares an entry's record with the newest one of the nights before.

    Args:
      folder: the night's folder.
      entry: full name.
      record: the entry's record of this night.
      threshold: percentage points by which a metric may fall.
    """
    before = last_record(folder, entry)
    if before is None:
        return NightChange(None, None, (), threshold)
    night = before.parent.parent.name
    try:
        return NightChange(night, None, tuple(metric_changes(before, record)), threshold)
    except DataError as error:
        return NightChange(night, str(error), (), threshold)


def metric_changes(before: Path, after: Path) -> Iterator[MetricChange]:
    """Yields every metric of two records of one entry.

    Raises:
      DataError: they were not measured on the same images, or a record cannot be read.
    """
    old, new = read_record(before), read_record(after)
    fingerprints = [record.get("dataset", {}).get("fingerprint") for record in (old, new)]
    if fingerprints[0] != fingerprints[1]:
        raise DataError("measured on other data")
    if old.get("images") != new.get("images"):
        raise DataError(f"measured on {old.get('images')} images before, {new.get('images')} now")
    for evaluator, metrics in {**old.get("metrics", {}), **new.get("metrics", {})}.items():
        values = [record.get("metrics", {}).get(evaluator, {}) for record in (old, new)]
        for metric in {**values[0], **metrics}:
            yield MetricChange(evaluator, metric, values[0].get(metric), values[1].get(metric))
