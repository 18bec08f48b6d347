"""Tables of published and measured numbers, from run records alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.reports.markdown_table import aligned_text

_METRIC_TITLES = {"pq": "PQ", "miou": "mIoU", "ap": "AP"}
# What the published tables call the two evaluators.
_EVALUATOR_MARKS = {"official": "[*]", "internal": "[**]"}
COLUMNS = ("Entry", "Metric", "Evaluator", "Published", "Measured", "Difference", "Verdict")


def claim_rows(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Returns one row of text for each published number of each record, under `COLUMNS`.

    Measured values are shown with one digit more than was published, so that a near miss can be seen.
    """
    rows: list[tuple[str, ...]] = []
    for record in records:
        for claim in record["claims"]:
            rows.append(
                (
                    record["entry"],
                    f"{_METRIC_TITLES[claim['metric']]} {_EVALUATOR_MARKS[claim['evaluator']]}",
                    claim["evaluator"],
                    f"{claim['published']:.{claim['decimals']}f}",
                    _number(claim["measured"], claim["decimals"] + 1),
                    _number(claim["difference"], claim["decimals"] + 1, sign=True),
                    claim["verdict"],
                )
            )
    return rows


def markdown(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns the rows as a Markdown table whose columns line up, and below it the reasons of verdicts."""
    records = list(records)
    rows = claim_rows(records)
    right = [i for i, name in enumerate(COLUMNS) if name in ("Published", "Measured", "Difference")]
    reasons = _reasons(records)
    notes = ["", *(f"- {reason}" for reason in reasons)] if reasons else []
    return "\n".join([aligned_text(COLUMNS, rows, right), *notes]) + "\n"


def _reasons(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why claims were not judged, or hold by a partial run's uncertainty: one line for each reason."""
    about: dict[str, dict[str, None]] = {}
    for record in records:
        for claim in record["claims"]:
            if "reason" in claim:
                about.setdefault(f"{claim['verdict']}: {claim['reason']}", {})[record["entry"]] = None
    if _is_one_entry(records):
        return list(about)
    return [f"{reason} ({', '.join(entries)})" for reason, entries in about.items()]


def as_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns the rows as comma-separated values with a header; measured values are unrounded.

    After `COLUMNS` come the ends of the interval of a partial run, and the reason of the verdict.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*(name.lower() for name in COLUMNS), "low", "high", "reason"])
    for record in records:
        for claim in record["claims"]:
            writer.writerow(
                [
                    record["entry"],
                    claim["metric"],
                    claim["evaluator"],
                    f"{claim['published']:.{claim['decimals']}f}",
                    "" if claim["measured"] is None else repr(claim["measured"]),
                    "" if claim["difference"] is None else repr(claim["difference"]),
                    claim["verdict"],
                    *(map(repr, claim["interval"]) if "interval" in claim else ("", "")),
                    claim.get("reason", ""),
                ]
            )
    return buffer.getvalue()


def as_json(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns the claims of all records as one JSON list."""
    rows = [{"entry": record["entry"], **claim} for record in records for claim in record["claims"]]
    return json.dumps(rows, indent=1) + "\n"


def terminal(records: Iterable[Mapping[str, Any]]) -> Any:
    """Returns the rows as a `rich.table.Table`, verdicts in colour."""
    from rich.table import Table
    from rich.text import Text

    records = list(records)
    colours = {"match": "green", "within": "yellow", "mismatch": "bold red", "not judged": "dim"}
    one_entry = _is_one_entry(records)
    reasons = _reasons(records)
    table = Table(
        title=Text(records[0]["entry"]) if one_entry else None,
        caption=Text("\n".join(reasons)) if reasons else None,
        header_style="bold",
    )
    shown = [i for i, name in enumerate(COLUMNS) if not (one_entry and name == "Entry")]
    for i in shown:
        justify: Any = "right" if COLUMNS[i] in ("Published", "Measured", "Difference") else "left"
        # Names may go over two lines, so that a narrow terminal still shows every number.
        table.add_column(COLUMNS[i], justify=justify, no_wrap=COLUMNS[i] != "Entry", overflow="fold")
    for row in claim_rows(records):
        cells = [Text(row[i]) for i in shown]
        cells[-1].stylize(colours.get(row[-1], ""))
        table.add_row(*cells)
    return table


def _is_one_entry(records: Sequence[Mapping[str, Any]]) -> bool:
    return len({record["entry"] for record in records}) == 1


def _number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    if value is None:
        return ""
    return f"{value:{'+' if sign else ''}.{decimals}f}"
