"""The history of an entry: what was measured over time, and what changed in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import DataError, UsageError
from zoo.reports.runs import ChangedCondition, Run, by_entry, changed_conditions
from zoo.repro.records.claim_words import EVALUATORS, MISMATCH, SHOWN_METRICS, metric_title


@dataclass(frozen=True)
class Point:
    """One run in a history, and what it was measured with that differs from the run before."""

    run: Run
    changes: tuple[ChangedCondition, ...]

    @property
    def marked_changes(self) -> tuple[ChangedCondition, ...]:
        """The changes that a picture marks: all but the program's own source.

        That changes from one nightly run to the next; marks for it would hide those that tell something.
        """
        return tuple(change for change in self.changes if change.name != "zoo's code")

    @property
    def time(self) -> str:
        """When the run began, to the minute."""
        return self.run.started[:16].replace("T", " ") or "?"

    def verdict_of(self, evaluator: str, metric: str) -> str | None:
        """Returns the verdict on one claim, None where nothing was published."""
        claim = self.run.claim(evaluator, metric)
        return None if claim is None else str(claim["verdict"])

    def verdicts(self) -> str:
        """Returns the verdicts in a few words; missed claims by name."""
        claims = self.run.record["claims"]
        missed = [
            f"{metric_title(claim['metric'])} {claim['evaluator']}"
            for claim in claims
            if claim["verdict"] == MISMATCH
        ]
        return tally(claims) + (f" ({', '.join(missed)})" if missed else "")


def tally(claims: Iterable[Mapping[str, Any]]) -> str:
    """Returns how many claims have which verdict: `3 match, 1 mismatch`."""
    counts = Counter(claim["verdict"] for claim in claims)
    return ", ".join(f"{number} {verdict}" for verdict, number in counts.items())


def history(runs: Iterable[Run]) -> list[Point]:
    """Returns runs of one entry and equal settings, each with what changed, the oldest first."""
    points: list[Point] = []
    for run in sorted(runs, key=lambda run: (run.started, str(run.path))):
        changes = changed_conditions(points[-1].run.record, run.record) if points else []
        points.append(Point(run, tuple(changes)))
    return points


def histories(runs: Iterable[Run]) -> list[list[Point]]:
    """Returns the history of each entry and settings, in the order of the entries, then of the first runs."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.entry, run.settings), []).append(run)
    entries = list(dict.fromkeys(entry for entry, _ in groups))
    return [history(groups[key]) for key in sorted(groups, key=lambda key: entries.index(key[0]))]


def moments(runs: Iterable[Run]) -> list[str]:
    """Returns when each run began: the day, or also the time where several runs share a day."""
    started = [run.started for run in runs]
    for length in (10, 16, 19):
        shown = [text[:length].replace("T", " ") or "?" for text in started]
        if len(set(shown)) == len(set(started)):
            break
    return shown


def select_entry(runs: Sequence[Run], name: str, where: object) -> list[Run]:
    """Returns the runs of the entry `name`, which may be short where that is unambiguous.

    Raises:
      UsageError: the name matches several entries.
      DataError: it matches none.
    """
    groups = by_entry(runs)
    if name in groups:
        return groups[name]
    fitting = [entry for entry in groups if entry.rpartition("/")[2] == name]
    if len(fitting) > 1:
        raise UsageError(f"{name!r} is short for {' and '.join(fitting)}; give the full name")
    if not fitting:
        raise DataError(f"{where}: no run record of {name!r}; there are records of {', '.join(groups)}")
    return groups[fitting[0]]


def shown_metrics(points: Iterable[Point]) -> list[tuple[str, str]]:
    """Returns (evaluator, metric) of the metrics that any run has a value of."""
    points = list(points)
    return [
        (evaluator, metric)
        for evaluator in EVALUATORS
        for metric in SHOWN_METRICS
        if any(point.run.value(evaluator, metric) is not None for point in points)
    ]


def published_value(points: Sequence[Point], evaluator: str, metric: str) -> float | None:
    """Returns what the newest record calls the published value."""
    claim = points[-1].run.claim(evaluator, metric) if points else None
    return None if claim is None else float(claim["published"])


def as_json(points: Iterable[Point]) -> list[dict[str, Any]]:
    """Returns one JSON object for each run: its metrics unrounded, its claims, and what changed."""
    return [
        {
            "started": point.run.started,
            "record": str(point.run.path),
            "settings": point.run.settings,
            "metrics": point.run.record.get("metrics", {}),
            "verdicts": [
                {key: claim[key] for key in ("metric", "evaluator", "published", "measured", "verdict")}
                for claim in point.run.record["claims"]
            ],
            "changes": [change._asdict() for change in point.changes],
        }
        for point in points
    ]


def rows(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and one row of text for each run."""
    metrics = shown_metrics(points)
    values = [f"{metric_title(metric)} {evaluator}" for evaluator, metric in metrics]
    header = ["Date (UTC)", *values, "Verdicts", "Changed"]
    body = []
    for point, time in zip(points, moments(point.run for point in points), strict=True):
        numbers = (point.run.value(*key) for key in metrics)
        texts = ("" if number is None else f"{number:.3f}" for number in numbers)
        words = (point.verdicts(), describe_changes(point.changes))
        body.append([max(time, point.time, key=len), *texts, *words])
    return header, body


def describe_changes(changes: Iterable[ChangedCondition]) -> str:
    """Returns changes as one line of text."""
    return "; ".join(f"{name} {before} → {after}" for name, before, after in changes)


def terminal(points: Sequence[Point]) -> Any:
    """Returns the rows as a `FittedTable`; numbers that miss a claim are red."""
    from rich.text import Text

    from zoo.reports.tables.terminal import fitted_table

    header, body = rows(points)
    texts = [[Text(cell) for cell in cells] for cells in body]
    for point, cells in zip(points, texts, strict=True):
        for cell, key in zip(cells[1:], shown_metrics(points), strict=False):
            if point.verdict_of(*key) == MISMATCH:
                cell.stylize("bold red")
    return fitted_table(
        header,
        texts,
        header[1:-2],
        title=Text(points[0].run.title),
        leave_out_first=(header[-1], *reversed(header[2:-2])),
    )
