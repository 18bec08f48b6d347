"""The summary of a night: as JSON, for a terminal, and in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from zoo.errors import DataError
from zoo.files.words import counted, readable_size
from zoo.reports.runs import open_run
from zoo.reports.tables.claim_table import claim_rows, markdown
from zoo.reports.tables.compare import Comparison, compare_runs, to_json
from zoo.reports.tables.history import tally
from zoo.reports.tables.markdown_table import compact_text, plain
from zoo.reports.tables.terminal import fitted_table
from zoo.repro.records.claim_words import MISMATCH, metric_title
from zoo.repro.records.claims import UNJUDGED_EXIT_CODE, unjudged
from zoo.repro.records.night_folder import FAILED, MISSED, NOT_RUN, RESULTS, UNFINISHED, Night, last_record
from zoo.repro.records.record import read_record

COLUMNS = ("Entry", "Result", "Claims", "Since the last night", "Time", "Peak memory")

Values = Mapping[str, Any]


def summarize(night: Night, threshold: float, *, strict: bool = False) -> dict[str, Any]:
    """Returns everything about a night, finished or not, as one JSON object.

    Since an entry's last record, a metric may fall by `threshold` percentage points. `strict`: claims that
    were not judged have an exit code of their own.
    """
    rows = []
    for entry, outcome in night.outcomes.items():
        row: dict[str, Any] = {"entry": entry, "result": outcome.result, "reason": outcome.reason}
        path = night.record_path(entry)
        if path.exists():
            record = read_record(path)
            row |= {
                "images": record["images"],
                "images_in_dataset": record["images_in_dataset"],
                "claims": record["claims"],
                "change": change_since_last(night.folder, entry, path, threshold),
                "record": str(path.relative_to(night.folder)),
            }
        if night.log_path(entry).exists():
            row["log"] = str(night.log_path(entry).relative_to(night.folder))
        rows.append({**vars(outcome), **row})
    return {**night.to_json(), "entries": rows, "exit_code": exit_code(rows, strict=strict)}


def change_since_last(folder: Path, entry: str, record: Path, threshold: float) -> dict[str, Any]:
    """Compares an entry's record with its newest one of the nights before that in `folder`.

    Returns:
      As JSON values: `night`, the earlier one, or None where there is none; `not_comparable`, why not, or
      None; `metrics`, of both records, in percent; of these `fell` and `rose`, by more than the threshold;
      `conditions`, what was measured differently.
    """
    before = last_record(folder, entry)
    found: dict[str, Any] = {"night": None, "not_comparable": None, "threshold": threshold}
    changes: dict[str, Any] = {"fell": [], "rose": [], "metrics": [], "conditions": []}
    if before is not None:
        found["night"] = before.parent.parent.name
        try:
            changes = _changes(compare_runs(open_run(before), open_run(record), threshold=threshold))
        except DataError as error:
            found["not_comparable"] = str(error)
    return {**found, **changes}


def _changes(compared: Comparison) -> dict[str, Any]:
    shown = to_json(compared)
    rows = dict(zip(compared.metrics, shown["metrics"], strict=True))
    fell = compared.fallen
    rose = [key for key, change in compared.metrics.items() if change.size > compared.threshold]
    return {
        "fell": [rows[key] for key in fell],
        "rose": [rows[key] for key in rose if key not in fell],
        "metrics": shown["metrics"],
        "conditions": shown["conditions"],
    }


def exit_code(rows: Sequence[Values], *, strict: bool = False) -> int:
    """Returns a night's exit code.

    Returns:
      3 where an entry could not run, else 1 where a claim was missed or a metric fell, else with `strict` 4
      where a claim was not judged, else 0.
    """
    could_not = [row for row in rows if row["result"] in (FAILED, UNFINISHED) or _is_missing(row)]
    if could_not or not any("claims" in row for row in rows):
        return 3
    if any(row["result"] == MISSED or _fallen(row) for row in rows):
        return 1
    not_judged = any(unjudged(row["claims"]) for row in rows if "claims" in row)
    return UNJUDGED_EXIT_CODE if strict and not_judged else 0


def _is_missing(row: Values) -> bool:
    return bool(row["result"] == NOT_RUN and row["wanted"])


def _fallen(row: Values) -> list[Values]:
    return list(row["change"]["fell"]) if "change" in row else []


def summary_markdown(summary: Values, night: Night) -> str:
    """Returns the summary as a Markdown page, with the claims of every record."""
    rows = [row for row in summary["entries"] if row["result"] != NOT_RUN]
    blocks = [f"# Night {summary['night']}", headline(summary)]
    if rows:
        blocks.append(compact_text(COLUMNS, map(_cells, rows), COLUMNS[-2:]))
    for title, notes in _notes(summary):
        blocks += [f"## {title}", "\n".join(f"- {plain(note)}" for note in notes)]
    records = [read_record(night.record_path(entry)) for entry in night.measured()]
    if records:
        blocks += ["## Claims", markdown(records).rstrip("\n")]
    return "\n\n".join(blocks) + "\n"


def print_summary(summary: Values, console: Console) -> None:
    """Prints the summary for a person."""
    colours = {FAILED: "bold red", MISSED: "bold red", UNFINISHED: "yellow"}
    rows = []
    for row in summary["entries"]:
        if row["result"] != NOT_RUN:
            style = colours.get(row["result"], "bold red" if _fallen(row) else "")
            rows.append([Text(cell, style) for cell in _cells(row)])
    console.print(Text(f"Night {summary['night']}", style="bold"))
    if rows:
        console.print(fitted_table(COLUMNS, rows, COLUMNS[-2:], leave_out_first=COLUMNS[:2:-1]))
    for title, notes in _notes(summary):
        console.print(Text(title, style="bold"))
        for note in notes:
            console.print(Text(f"- {note}"), soft_wrap=True)
    console.print(Text(headline(summary)))


def headline(summary: Values) -> str:
    """Returns in one line how many entries ended how, and the exit code."""
    counts = Counter(row["result"] for row in summary["entries"])
    fell = sum(bool(_fallen(row)) for row in summary["entries"])
    parts = [f"{counts[result]} {result}" for result in RESULTS if counts[result]]
    parts += [f"{fell} with a metric that fell"] if fell else []
    state = "" if summary["finished"] else "Unfinished: "
    total = counted(sum(counts.values()), "entry", "entries")
    return f"{state}{total}: {', '.join(parts)}. Exit code {summary['exit_code']}."


def _cells(row: Values) -> tuple[str, ...]:
    duration_s, memory = row["duration_s"], row["peak_memory_bytes"]
    return (
        row["entry"],
        row["result"],
        tally(row.get("claims", ())),
        _change(row["change"]) if "change" in row else "",
        "" if duration_s is None else _duration(duration_s),
        "" if memory is None else readable_size(memory),
    )


def _change(change: Values) -> str:
    if change["night"] is None:
        return "measured for the first time"
    if change["not_comparable"]:
        return f"not comparable with {change['night']}"
    parts = [f"{counted(len(change[way]), 'metric')} {way}" for way in ("fell", "rose") if change[way]]
    moved = [abs(value["difference"]) for value in change["metrics"] if value["difference"]]
    if not parts:
        parts = [f"moved by at most {max(moved):.2g} points" if moved else "the same numbers"]
    return f"{', '.join(parts)} ({change['night']})"


def _notes(summary: Values) -> Iterator[tuple[str, list[str]]]:
    """Yields title and lines of what a person should read."""
    rows = summary["entries"]
    failures = [
        f"{row['entry']}: {row['reason']}" + (f" (output: {row['log']})" if "log" in row else "")
        for row in rows
        if row["result"] in (FAILED, UNFINISHED)
    ]
    failures += [f"{row['entry']}: not run: {row['reason']}" for row in rows if _is_missing(row)]
    missed = [
        f"{name}: {metric}: published {published}, measured {measured}"
        for row in rows
        for name, metric, _, published, measured, *_, verdict in claim_rows([{"claims": (), **row}])
        if verdict == MISMATCH
    ]
    changes = {row["entry"]: row["change"] for row in rows if "change" in row}
    moved: dict[str, list[str]] = {"fell": [], "rose": []}
    conditions, other = [], []
    for entry, change in changes.items():
        for way, notes in moved.items():
            notes += [
                f"{entry}: {metric_title(value['metric'])}, {value['evaluator']}: "
                f"{_value(value['before'])} in {change['night']}, now {_value(value['after'])}"
                for value in change[way]
            ]
        if change["conditions"] and any(value["before"] != value["after"] for value in change["metrics"]):
            words = ("{name}: {before}, now {after}".format(**it) for it in change["conditions"])
            conditions.append(f"{entry}: {', '.join(words)}")
        if change["not_comparable"]:
            other.append(f"{entry}: {change['night']}: {change['not_comparable']}")
    absent: dict[str, list[str]] = {}
    for row in rows:
        if row["result"] == NOT_RUN and not row["wanted"]:
            absent.setdefault(row["reason"], []).append(row["entry"])
    not_run = [f"{reason}: {', '.join(names)}" for reason, names in absent.items()]
    titled = {
        "Could not run": failures,
        "Claims missed": missed,
        "Fell": moved["fell"],
        "Rose": moved["rose"],
    }
    titled |= {"Measured differently": conditions, "Not comparable": other, "Not run": not_run}
    yield from ((title, notes) for title, notes in titled.items() if notes)


def _value(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
