"""What changed of one entry since the newest record of the nights before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.reports.runs import open_run
from zoo.reports.tables.compare import Comparison, compare_runs
from zoo.repro.records.night_folder import last_record


def change_since_last(folder: Path, entry: str, record: Path, threshold: float) -> dict[str, Any]:
    """Compares an entry's record with its newest one of the nights before.

    Args:
      folder: the night's folder.
      entry: full name.
      record: the entry's record of this night.
      threshold: percentage points by which a metric may fall.

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
            compared = compare_runs(open_run(before), open_run(record), threshold=threshold)
        except DataError as error:
            found["not_comparable"] = str(error)
        else:
            changes = _changes(compared)
    return {**found, **changes}


def _changes(compared: Comparison) -> dict[str, Any]:
    rows = {
        (evaluator, metric): {
            "evaluator": evaluator,
            "metric": metric,
            "before": change.before,
            "after": change.after,
            "difference": change.difference,
        }
        for (evaluator, metric), change in compared.metrics.items()
    }
    fell = set(compared.fallen)
    rose = {
        key
        for key, change in compared.metrics.items()
        if change.size > compared.threshold and key not in fell
    }
    return {
        "fell": [row for key, row in rows.items() if key in fell],
        "rose": [row for key, row in rows.items() if key in rose],
        "metrics": list(rows.values()),
        "conditions": [{"name": name, "before": old, "after": new} for name, old, new in compared.conditions],
    }
