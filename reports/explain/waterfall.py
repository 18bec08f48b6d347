"""The way of a metric from one value to another, one rule changed at a time, and what each class adds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zoo.repro.records.claim_words import metric_title


@dataclass(frozen=True)
class Step:
    """One rule changed, with all earlier steps' rules changed before.

    Attributes:
      rule: short name.
      meaning: what the official script does, and the internal metric did.
      value: the metric after the change, in percent.
      worth: by how many percentage points the change moved it.
      shares: class name -> percentage points of `worth` that come from the class; they add up to it.
      per_class: class name -> the class's own value after the change, in percent; None where it is absent.
    """

    rule: str
    meaning: str
    value: float
    worth: float
    shares: dict[str, float]
    per_class: dict[str, float | None]


@dataclass(frozen=True)
class Waterfall:
    """The way of one metric from its internal to its official value, in percent.

    Attributes:
      metric: `pq` or `miou`.
      internal: where it starts, the record's number.
      per_class: class name -> internal value; None where the class is absent.
      steps: the rules in the order in which they are changed.
      official: the official script's own number.
    """

    metric: str
    internal: float
    per_class: dict[str, float | None]
    steps: tuple[Step, ...]
    official: float

    @property
    def title(self) -> str:
        """The metric's name in print."""
        return metric_title(self.metric)

    @property
    def residual(self) -> float:
        """What the steps do not explain, in percentage points."""
        return self.official - self.steps[-1].value


class Walk:
    """Collects steps, each with the worth of every class."""

    def __init__(self, class_names: list[str], start: float, per_class: np.ndarray) -> None:
        """Begins at the internal metric and its classes' values, [C], NaN where absent; in percent."""
        self._names = class_names
        self._start = self._per_class(per_class)
        self._value, self._shares = start, _shares(per_class)
        self._steps: list[Step] = []

    def step(self, rule: str, meaning: str, value: float, per_class: np.ndarray) -> None:
        """Adds a rule: the metric after the change, and its classes' values, [C], NaN where absent."""
        shares = _shares(per_class)
        moved = dict(zip(self._names, (shares - self._shares).tolist(), strict=True))
        self._steps.append(Step(rule, meaning, value, value - self._value, moved, self._per_class(per_class)))
        self._value, self._shares = value, shares

    def waterfall(self, metric: str, pair: tuple[float, float]) -> Waterfall:
        """Returns the steps up to now, between the internal and the official value that were recorded."""
        return Waterfall(metric, pair[0], self._start, tuple(self._steps), pair[1])

    def _per_class(self, values: np.ndarray) -> dict[str, float | None]:
        named = zip(self._names, values.tolist(), strict=True)
        return {name: None if math.isnan(value) else value for name, value in named}


def mean_of_present(per_class: np.ndarray) -> float:
    """Returns the mean over the classes that are present, as the internal metrics compute it."""
    present = per_class[~np.isnan(per_class)]
    return float(present.mean()) if present.size else math.nan


def _shares(per_class: np.ndarray) -> np.ndarray:
    """Returns what each class adds to the mean over the classes that are present."""
    present = ~np.isnan(per_class)
    return np.where(present, per_class, 0.0) / max(1, int(present.sum()))
