"""The way of a metric from one evaluator's value to another's, in steps that add up, class by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.repro.records.claim_words import metric_title

RuleChange = tuple[str, str, float, np.ndarray]
"""A rule, its meaning, and after its change: the metric's value, and its classes' [C], NaN where absent."""


@dataclass(frozen=True)
class Step:
    """One rule changed, with all earlier steps' rules changed before; values are in percent."""

    rule: str
    meaning: str
    """What the evaluator at the end does, and the one at the start did."""
    value: float
    worth: float
    """By how many percentage points the change moved the metric to `value`."""
    shares: dict[str, float]
    """Class name -> percentage points of `worth` that come from the class; they add up to it."""
    per_class: dict[str, float | None]
    """Class name -> the class's own value after the change; None where it is absent."""


@dataclass(frozen=True)
class Waterfall:
    """The way of one metric, `pq` or `miou`, from one evaluator's value to another's, in percent."""

    metric: str
    start: float
    per_class: dict[str, float | None]
    """Class name -> value at the start; None where the class is absent."""
    steps: tuple[Step, ...]
    end: float
    """The number of the evaluator at the end: its own, or where it was not run, that after the last step."""
    evaluators: tuple[str, str] = ("internal", "official")
    """Who stands at the start and at the end."""
    is_measured: bool = True
    """Whether the evaluator at the end was run."""

    @property
    def title(self) -> str:
        """The metric's name in print."""
        return metric_title(self.metric)

    @property
    def residual(self) -> float:
        """What the steps do not explain, in percentage points."""
        return self.end - self.steps[-1].value


def take_apart(
    metric: str,
    pair: tuple[float, float | None],
    class_names: Sequence[str],
    per_class: np.ndarray,
    changes: Iterable[RuleChange],
    evaluators: tuple[str, str] = ("internal", "official"),
) -> Waterfall:
    """Returns the way of a metric, with the worth of every class in each step.

    Args:
      metric: `pq` or `miou`.
      pair: its values at the start and at the end in percent; None where the evaluator there was not run.
      class_names: the classes, by train id.
      per_class: [C], the classes' values at the start in percent, NaN where absent.
      changes: the rules, in the order in which they are changed.
      evaluators: who stands at the start and at the end.
    """
    steps: list[Step] = []
    value, shares = pair[0], _shares(per_class)
    for rule, meaning, new_value, new_per_class in changes:
        new_shares = _shares(new_per_class)
        moved = dict(zip(class_names, (new_shares - shares).tolist(), strict=True))
        named = _named(class_names, new_per_class)
        steps.append(Step(rule, meaning, new_value, new_value - value, moved, named))
        value, shares = new_value, new_shares
    end = value if pair[1] is None else pair[1]
    at_start = _named(class_names, per_class)
    return Waterfall(metric, pair[0], at_start, tuple(steps), end, evaluators, pair[1] is not None)


def _named(class_names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    named = zip(class_names, values.tolist(), strict=True)
    return {name: None if math.isnan(value) else value for name, value in named}


def mean_of_present(per_class: np.ndarray) -> float:
    """Returns the mean over the classes that are present, as the internal metrics compute it."""
    present = per_class[~np.isnan(per_class)]
    return float(present.mean()) if present.size else math.nan


def _shares(per_class: np.ndarray) -> np.ndarray:
    """Returns what each class adds to the mean over the classes that are present."""
    present = ~np.isnan(per_class)
    return np.where(present, per_class, 0.0) / max(1, int(present.sum()))
