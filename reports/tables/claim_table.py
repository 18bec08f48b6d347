"""Tables of claims: what was published, what was measured, and the verdict, from run records alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zoo.registry.frames import csv_cell
from zoo.reports.runs import settings_of
from zoo.reports.tables.markdown_table import aligned_text, plain
from zoo.repro.records.claim_words import (
    BOUNDARY_METRICS,
    CLAIM_ORDER,
    EVALUATOR_MARKS,
    EVALUATORS,
    HEADLINE_METRICS,
    LEGEND,
    MATCH,
    MISMATCH,
    NOT_JUDGED,
    NOT_MEASURABLE,
    WITHIN,
    metric_title,
)
from zoo.repro.records.record import run_name

COLUMNS = ("Entry", "Metric", "Evaluator", "Published", "Measured", "Difference", "Verdict")
INTERVAL = "95 % interval"
_NUMBERS = ("Published", "Measured", "Difference", INTERVAL)
# Digits after the point of a metric that nothing was published of, as the published tables have them.
_DECIMALS = {(e, metric): 1 if e == "official" else 2 for e in EVALUATORS for metric in HEADLINE_METRICS}
_DECIMALS |= {("internal", metric): 2 for metric in BOUNDARY_METRICS}


def measured_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the claims of a record, and a row of the same form for each other metric it measured.

    These are the headline metrics and the boundary metrics. Such a row has no `published`, `difference` and
    `verdict`: they are None. Every row of a partial run has an `interval` where one could be computed.
    """
    metrics, intervals = record.get("metrics", {}), record.get("intervals", {})
    rows = [dict(claim) for claim in record["claims"]]
    order = [*CLAIM_ORDER, *(key for key in _DECIMALS if key not in CLAIM_ORDER)]
    for (evaluator, metric), decimals in _DECIMALS.items():
        places = [order.index((row["evaluator"], row["metric"])) for row in rows]
        place = order.index((evaluator, metric))
        value = metrics.get(evaluator, {}).get(metric)
        if value is not None and place not in places:
            row = {"metric": metric, "evaluator": evaluator, "decimals": decimals, "measured": value}
            row |= {"published": None, "difference": None, "verdict": None}
            rows.insert(next((i for i, other in enumerate(places) if other > place), len(rows)), row)
    for row in rows:
        interval = intervals.get(row["evaluator"], {}).get(row["metric"])
        if row.get("interval") is None and interval is not None:
            row["interval"] = interval
    return rows


def claim_rows(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Returns one row of text for each row of `measured_rows`, under `columns_of(records)`.

    Where an entry was measured more than once, its settings and start tell the runs apart.
    """
    records = list(records)
    has_intervals = INTERVAL in columns_of(records)
    rows: list[tuple[str, ...]] = []
    for name, record in zip(run_names(records), records, strict=True):
        for row in measured_rows(record):
            title = f"{metric_title(row['metric'])} {EVALUATOR_MARKS[row['evaluator']]}"
            *numbers, interval = numbers_in_print(row, row["decimals"]).values()
            cells = [name, title, row["evaluator"], *numbers, *([interval] if has_intervals else [])]
            rows.append((*cells, row["verdict"] or ""))
    return rows


def numbers_in_print(row: Mapping[str, Any], decimals: int) -> dict[str, str]:
    """Returns the numbers of a row of `measured_rows` as text: published, measured, difference, interval.

    What was measured has one digit more than what was published, so that a near miss can be seen.
    """
    more = decimals + 1
    forms = {"published": f".{decimals}f", "measured": f".{more}f", "difference": f"+.{more}f"}
    numbers = {key: "" if row[key] is None else format(row[key], form) for key, form in forms.items()}
    return {**numbers, "interval": " to ".join(f"{end:.{decimals}f}" for end in row.get("interval") or ())}


def run_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns what each record is called: its entry, and where that is not unique its settings and start."""
    names = [run_name(record) for record in records]
    for more in (settings_of, _started):
        is_shared = {name for name in names if names.count(name) > 1}
        words = [more(record) if "settings" in record else "" for record in records]
        names = [
            f"{name}, {word}" if name in is_shared and word else name
            for name, word in zip(names, words, strict=True)
        ]
    return names


def _started(record: Mapping[str, Any]) -> str:
    return str(record.get("timings", {}).get("started", ""))


def columns_of(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns `COLUMNS`, with `INTERVAL` before the verdict where any run is a partial one with intervals."""
    if any(row.get("interval") for record in records for row in measured_rows(record)):
        return (*COLUMNS[:-1], INTERVAL, COLUMNS[-1])
    return COLUMNS


def markdown(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns the rows as a Markdown table whose columns line up, and below it the reasons of verdicts."""
    records = list(records)
    table = aligned_text(columns_of(records), claim_rows(records), _NUMBERS)
    reasons = _reasons(records)
    notes = ["", *(f"- {plain(reason)}" for reason in reasons)] if reasons else []
    return "\n".join([table, *notes]) + "\n"


def _reasons(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns why claims were not judged, or hold by a partial run's interval: one line for each reason."""
    about: dict[str, dict[str, None]] = {}
    for name, record in zip(run_names(records), records, strict=True):
        reasons = [
            f"{claim['verdict']}: {claim['reason']}" for claim in record["claims"] if claim.get("reason")
        ]
        if not record["claims"]:
            reasons.append("no verdict: nothing was published for it")
        images, in_dataset = record.get("images"), record.get("images_in_dataset")
        part = f"{images} of {in_dataset} images"
        if images != in_dataset and not any(part in reason for reason in reasons):
            reasons.append(f"measured on {part}")
        for reason in reasons:
            about.setdefault(reason, {})[name] = None
    if len(records) == 1:
        return list(about)
    return [f"{reason} ({'; '.join(names)})" for reason, names in about.items()]


def as_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns the rows as comma-separated values with a header; measured values are unrounded.

    After `COLUMNS` come the ends of the interval of a partial run, the reason of the verdict, and the run's
    settings and start.
    """
    buffer = io.StringIO()
    header = [*(name.lower() for name in COLUMNS), "low", "high", "reason", "settings", "started"]
    writer = csv.DictWriter(buffer, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in _rows_with_runs(records):
        low, high = row.get("interval") or ("", "")
        published = numbers_in_print(row, row["decimals"])["published"]
        cells = {**row, "published": published, "low": low, "high": high}
        writer.writerow({name: csv_cell(cell) for name, cell in cells.items()})
    return buffer.getvalue()


def as_json(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns the rows of all records, as `measured_rows` has them, with their runs, as one JSON list."""
    return json.dumps(list(_rows_with_runs(records)), indent=1) + "\n"


def _rows_with_runs(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        about = {"settings": settings_of(record), "started": _started(record)}
        yield from ({"entry": run_name(record), **row, **about} for row in measured_rows(record))


def terminal(records: Iterable[Mapping[str, Any]]) -> Any:
    """Returns the rows as a `FittedTable`, verdicts in colour."""
    from rich.text import Text

    from zoo.reports.tables.terminal import fitted_table

    records = list(records)
    colours = {
        MATCH: "green",
        WITHIN: "yellow",
        MISMATCH: "bold red",
        NOT_JUDGED: "dim",
        NOT_MEASURABLE: "dim",
    }
    # Runs of one entry are named by what tells them apart.
    one_entry = run_name(records[0]) if len(set(map(run_name, records))) == 1 else None
    header = ["Run" if one_entry else "Entry", *columns_of(records)[1:]]
    first = 1 if len(records) == 1 else 0
    rows: list[list[Any]] = [
        [name.removeprefix(f"{one_entry}, "), *cells, Text(verdict, colours.get(verdict, ""))][first:]
        for name, *cells, verdict in claim_rows(records)
    ]
    return fitted_table(
        header[first:],
        rows,
        _NUMBERS,
        # Names may go over two lines, so that a narrow terminal still shows every number.
        whole=header[1:],
        leave_out_first=("Evaluator", "Difference", INTERVAL),
        title=None if one_entry is None else Text(one_entry),
        caption=Text("\n".join([*_reasons(records), LEGEND])),
    )
