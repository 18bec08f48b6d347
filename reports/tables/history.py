"""What was measured for one entry over time, and what changed in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import DataError, UsageError
from zoo.reports.runs import Run, by_entry, changed_conditions
from zoo.repro.records.claim_words import EVALUATORS, HEADLINE_METRICS, metric_title

# The source changes from one nightly run to the next; a mark for each would hide those that tell something.
_NOT_MARKED = frozenset({"zoo's code"})

Change = tuple[str, str, str]
"""Name, before, after."""


@dataclass(frozen=True)
class Point:
    """One run in a history.

    Attributes:
      run: the record.
      changes: (name, before, after) of what differs from the run before.
    """

    run: Run
    changes: tuple[Change, ...]

    @property
    def marked_changes(self) -> tuple[Change, ...]:
        """The changes that a picture marks: all but the program's own source."""
        return tuple(change for change in self.changes if change[0] not in _NOT_MARKED)

    @property
    def time(self) -> str:
        """When the run began, to the minute."""
        return self.run.started[:16].replace("T", " ") or "?"

    def verdict_of(self, evaluator: str, metric: str) -> str | None:
        """Returns the verdict on one claim, None where nothing was published."""
        for claim in self.run.record["claims"]:
            if (claim["evaluator"], claim["metric"]) == (evaluator, metric):
                return str(claim["verdict"])
        return None

    def verdicts(self) -> str:
        """Returns the verdicts in a few words; missed claims by name."""
        claims = self.run.record["claims"]
        count: dict[str, int] = {}
        for claim in claims:
            count[claim["verdict"]] = count.get(claim["verdict"], 0) + 1
        missed = [
            f"{metric_title(claim['metric'])} {claim['evaluator']}"
            for claim in claims
            if claim["verdict"] == "mismatch"
        ]
        words = [f"{number} {verdict}" for verdict, number in count.items()]
        return ", ".join(words) + (f" ({', '.join(missed)})" if missed else "")


def history(runs: Iterable[Run]) -> list[Point]:
    """Returns runs of one entry and equal settings with what changed, the oldest first."""
    ordered = sorted(runs, key=lambda run: (run.started, str(run.path)))
    points: list[Point] = []
    for run in ordered:
        changes = changed_conditions(points[-1].run.record, run.record) if points else []
        points.append(Point(run, tuple(changes)))
    return points


def settings(run: Run) -> str:
    """Returns the settings of a run, in words."""
    return settings_of(run.record)


def settings_of(record: Mapping[str, Any]) -> str:
    """Returns what the run of a record was asked to compute, in words.

    Numbers of other settings are not comparable. Device, versions and data are not settings: where they
    change, a history says so.
    """
    asked, images, of = (record.get(key) for key in ("settings", "images", "images_in_dataset"))
    if not asked:
        return "settings not recorded"
    scales = asked.get("scales", [1.0])
    words = [
        str(asked.get("precision", "")),
        "" if scales == [1.0] else f"scales {', '.join(f'{scale:g}' for scale in scales)}",
        "with mirrored images" if asked.get("flip") else "",
        "all images" if images == of else f"{images} of {of or '?'} images",
    ]
    return " · ".join(word for word in words if word)


def title(run: Run) -> str:
    """Returns the entry and the settings of a run, which name its history."""
    return f"{run.entry}, {settings(run)}"


def histories(runs: Iterable[Run]) -> list[list[Point]]:
    """Returns the history of each entry and settings, in the order of the entries, then of the first runs."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.entry, settings(run)), []).append(run)
    entries = list(dict.fromkeys(entry for entry, _ in groups))
    return [history(groups[key]) for key in sorted(groups, key=lambda key: entries.index(key[0]))]


def moments(runs: Iterable[Run]) -> list[str]:
    """Returns when each run began, as day, or to the minute or second where several runs share a day."""
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
    """Returns (evaluator, metric) of the headline metrics that any run has a value of."""
    points = list(points)
    return [
        (evaluator, metric)
        for evaluator in EVALUATORS
        for metric in HEADLINE_METRICS
        if any(point.run.value(evaluator, metric) is not None for point in points)
    ]


def published_value(points: Sequence[Point], evaluator: str, metric: str) -> float | None:
    """Returns what the newest record calls the published value."""
    for claim in points[-1].run.record["claims"] if points else ():
        if (claim["evaluator"], claim["metric"]) == (evaluator, metric):
            return float(claim["published"])
    return None


def as_json(points: Iterable[Point]) -> list[dict[str, Any]]:
    """Returns one JSON object for each run: its metrics unrounded, its claims, and what changed."""
    return [
        {
            "started": point.run.started,
            "record": str(point.run.path),
            "settings": settings(point.run),
            "metrics": point.run.record.get("metrics", {}),
            "verdicts": [
                {key: claim[key] for key in ("metric", "evaluator", "published", "measured", "verdict")}
                for claim in point.run.record["claims"]
            ],
            "changes": [
                {"name": name, "before": before, "after": after} for name, before, after in point.changes
            ],
        }
        for point in points
    ]


def rows(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and one row of text for each run."""
    metrics = shown_metrics(points)
    header = ["Date (UTC)"]
    header += [f"{metric_title(metric)} {evaluator}" for evaluator, metric in metrics]
    header += ["Verdicts", "Changed"]
    body = []
    times = moments(point.run for point in points)
    for point, time in zip(points, times, strict=True):
        values = [point.run.value(*key) for key in metrics]
        body.append(
            [
                time if len(time) > len(point.time) else point.time,
                *("" if value is None else f"{value:.3f}" for value in values),
                point.verdicts(),
                describe_changes(point.changes),
            ]
        )
    return header, body


def describe_changes(changes: Iterable[Change]) -> str:
    """Returns changes as one line of text."""
    return "; ".join(f"{name} {before} → {after}" for name, before, after in changes)


def terminal(points: Sequence[Point]) -> Any:
    """Returns the rows as a `rich.table.Table`."""
    from rich.text import Text

    from zoo.reports.tables.terminal import FittedTable

    header, body = rows(points)
    table = FittedTable(
        title=Text(title(points[0].run)),
        header_style="bold",
        leave_out_first=(header[-1], *reversed(header[2:-2])),
    )
    for i, name in enumerate(header):
        is_number = 0 < i < len(header) - 2
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for point, cells in zip(points, body, strict=True):
        texts = [Text(cell) for cell in cells]
        for i, key in enumerate(shown_metrics(points), start=1):
            if point.verdict_of(*key) == "mismatch":
                texts[i].stylize("bold red")
        table.add_row(*texts)
    return table
