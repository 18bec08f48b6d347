"""The numbers of run records as a pandas DataFrame; pandas is imported when one is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.registry.frames import typed_frame
from zoo.reports.runs import Run, find_runs
from zoo.reports.tables.claim_table import measured_rows
from zoo.reports.tables.efficiency import device_of, efficiency_of

if TYPE_CHECKING:
    from pandas import DataFrame

_PERCENTS = ("measured", "published", "difference", "tolerance", "low", "high")
_DTYPES = {
    "entry": "string",
    **dict.fromkeys(("dataset", "metric", "evaluator", "verdict"), "category"),
    **dict.fromkeys(_PERCENTS, "float64"),
    **dict.fromkeys(("reason", "printed"), "string"),
    **dict.fromkeys(("decimals", "images", "images_in_dataset"), "Int64"),
    **dict.fromkeys(("settings", "precision", "scales"), "string"),
    "flip": "boolean",
    "started": "datetime64[us, UTC]",
    **dict.fromkeys(("device", "device_name"), "string"),
    **dict.fromkeys(("parameters", "multiply_adds", "peak_memory_bytes"), "Int64"),
    "seconds_per_image": "float64",
    **dict.fromkeys(("zoo_version", "tensorflow_version", "path", "predictions"), "string"),
}


def results(*paths: str | os.PathLike[str]) -> DataFrame:
    """Returns a row for each number of the run records in files and folders, the oldest run first.

    Of each run come its claims, also those that could not be measured, then every other metric with a value.
    Paths are records, run folders, or folders above them; a record and its copies count once.

    Columns: `entry` (string); `dataset`, `metric`, `evaluator`, `verdict` (category); `measured`,
    `published`, `difference`, `tolerance`, `low`, `high` (float64, percent: the last two are the ends of a
    partial run's 95 % interval); `reason` (string: why there is no plain verdict), `printed` (string:
    `published` with all printed digits); `decimals`, `images`, `images_in_dataset` (Int64); `settings`
    (string: in words), `precision`, `scales` (string), `flip` (boolean); `started` (datetime64[us, UTC]);
    `device` (its kind), `device_name` (string); `parameters`, `multiply_adds`, `peak_memory_bytes` (Int64: of
    the process), `seconds_per_image` (float64: of the network alone); `zoo_version`, `tensorflow_version`,
    `path`, `predictions` (string: the scored ones; `entry` is their name then). What a record does not say,
    or nothing was published of, is missing.

    Raises:
      DataError: a path holds no run record, or a record cannot be read.
    """
    return results_frame(find_runs(map(Path, paths)))


def results_frame(runs: Iterable[Run]) -> DataFrame:
    """Returns the numbers of runs as `results` does, in the order given."""
    return typed_frame((row for run in runs for row in _rows(run)), _DTYPES)


def _rows(run: Run) -> Iterator[dict[str, Any]]:
    record = run.record
    settings, versions = record.get("settings", {}), record.get("versions", {})
    scales, flip = settings.get("scales"), settings.get("flip")
    about = {
        **settings,
        **record,
        **efficiency_of(record),
        "entry": run.entry,
        "predictions": record.get("predictions", {}).get("path"),
        "dataset": (record.get("dataset") or {}).get("name"),
        "scales": ",".join(f"{scale:g}" for scale in scales) if isinstance(scales, list) else None,
        "flip": flip if isinstance(flip, bool) else None,
        "settings": run.settings,
        "device": (record.get("device") or {}).get("kind"),
        "device_name": device_of(record),
        "started": run.when and run.when.astimezone(timezone.utc),
        "zoo_version": versions.get("panoptic-zoo"),
        "tensorflow_version": versions.get("tensorflow"),
        "path": str(run.path),
    }
    rows = measured_rows(record)
    known = {(row["evaluator"], row["metric"]) for row in rows}
    rows += [
        {"evaluator": evaluator, "metric": metric, "measured": value, "published": None}
        | {"interval": record.get("intervals", {}).get(evaluator, {}).get(metric)}
        for evaluator, metrics in record["metrics"].items()
        for metric, value in metrics.items()
        if value is not None and (evaluator, metric) not in known
    ]
    for row in rows:
        low, high = row.get("interval") or (None, None)
        if row["published"] is None:
            row["decimals"] = None  # of a table's column
        else:
            row["printed"] = f"{row['published']:.{row['decimals']}f}"
        yield {**about, **row, "low": low, "high": high}
