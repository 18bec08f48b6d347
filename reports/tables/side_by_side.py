"""A table with a row for each run and all its metrics, for models that nothing was published of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.registry.frames import typed_frame
from zoo.reports.runs import Run, runs_in_order
from zoo.reports.tables.claim_table import run_names
from zoo.reports.tables.efficiency import EFFICIENCY, device_of, efficiency_columns, efficiency_of
from zoo.reports.tables.latex import latex_text
from zoo.reports.tables.markdown_table import aligned_text, plain
from zoo.repro.records.claim_words import EVALUATOR_MARKS, EVALUATORS, LEGEND, metric_title

if TYPE_CHECKING:
    from pandas import DataFrame

# In the order of the columns.
_METRICS = ("pq", "sq", "rq", "pq_things", "pq_stuff", "miou", "ap", "boundary_pq", "boundary_iou")
_COUNTS = ("images", "images_in_dataset")
HEADING = "Runs side by side"


def _metrics_of(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Returns (evaluator, metric) of the metrics that any run has a value of, the official ones first."""
    keys = ((evaluator, metric) for evaluator in EVALUATORS for metric in _METRICS)
    return [key for key in keys if any(run.value(*key) is not None for run in runs)]


def _columns_of(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Returns title -> a cell for each run: its name, its metrics in percent, and what it needed."""
    columns = {"Run": run_names([run.record for run in runs])}
    columns |= {"Images": [str(run.record["images"]) for run in runs]}
    for evaluator, metric in _metrics_of(runs):
        values = (run.value(evaluator, metric) for run in runs)
        texts = ["" if value is None else f"{value:.2f}" for value in values]
        columns[f"{metric_title(metric)} {EVALUATOR_MARKS[evaluator]}"] = texts
    return columns | efficiency_columns(runs)


def side_by_side(*paths: str | os.PathLike[str]) -> DataFrame:
    """Returns a row for each run whose record is in files and folders, in the order given, each once.

    Columns: `run` (string: its entry or the name of the scored predictions, and what tells it from others of
    that name); `images`, `images_in_dataset` (Int64); `official_pq`, `internal_miou` and so on, of the
    metrics that any run has (float64, percent, unrounded); `parameters`, `multiply_adds`,
    `peak_memory_bytes` (Int64), `seconds_per_image` (float64: of the network alone); `device`, `path`
    (string). What a record does not say is missing.

    Raises:
      DataError: a path holds no run record, or a record cannot be read.
    """
    return side_by_side_frame(runs_in_order(paths))


def side_by_side_frame(runs: Sequence[Run]) -> DataFrame:
    """Returns runs as `side_by_side` does."""
    metrics = _metrics_of(runs)
    rows = [
        {"run": name, "device": device_of(run.record), "path": str(run.path), **efficiency_of(run.record)}
        | {key: run.record[key] for key in _COUNTS}
        | {f"{evaluator}_{metric}": run.value(evaluator, metric) for evaluator, metric in metrics}
        for name, run in zip(run_names([run.record for run in runs]), runs, strict=True)
    ]
    dtypes = {"run": "string", **dict.fromkeys(_COUNTS, "Int64")}
    dtypes |= {f"{evaluator}_{metric}": "float64" for evaluator, metric in metrics}
    dtypes |= {key: "float64" if key.startswith("seconds") else "Int64" for key in EFFICIENCY}
    return typed_frame(rows, dtypes | {"device": "string", "path": "string"})


def side_by_side_text(runs: Sequence[Run], *, latex: bool = False) -> str:
    """Returns the table as text, in Markdown or LaTeX, with the reservations about the runs.

    A metric or a column of what runs needed is shown where any run has it; values are in percent.
    """
    columns = _columns_of(runs)
    header, rows = list(columns), list(zip(*columns.values(), strict=True))
    notes = [
        f"{name}: {about}"
        for name, run in zip(columns["Run"], runs, strict=True)
        if (about := reservations(run))
    ]
    if latex:
        return latex_text(header, rows, ". ".join([HEADING, *notes]))
    below = [f"- {plain(note)}" for note in [*notes, LEGEND]]
    return "\n".join([f"### {HEADING}\n", aligned_text(header, rows, header[1:]), "", *below]) + "\n"


def reservations(run: Run) -> str:
    """Returns what to know before comparing a run's numbers, such as "15 of 30 images"; mostly nothing."""
    reasons = [claim["reason"] for claim in run.record["claims"] if claim.get("reason")]
    images, in_dataset = run.record["images"], run.record["images_in_dataset"]
    part = f"{images} of {in_dataset} images"
    # An entry without published numbers has no claims that could tell.
    if images != in_dataset and not any(part in reason for reason in reasons):
        reasons.insert(0, part)
    return "; ".join(dict.fromkeys(reasons))
