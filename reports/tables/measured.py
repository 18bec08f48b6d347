"""The published tables with measured numbers in them, from run records alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from zoo.errors import UsageError
from zoo.files.progress import say
from zoo.registry import Entry, Registry, load_registry
from zoo.registry.frames import csv_text
from zoo.registry.lookup import RegistryLike
from zoo.registry.schema import PublishedTable
from zoo.reports.runs import Run, find_runs, one_of_each_entry, open_run, runs_in_order
from zoo.reports.tables.efficiency import efficiency_columns
from zoo.reports.tables.frames import results_frame
from zoo.reports.tables.latex import latex_text
from zoo.reports.tables.markdown_table import Column, plain, table_text
from zoo.reports.tables.published import (
    BACKBONE,
    OFFICIAL_AP,
    NumberColumn,
    TableColumns,
    claim_in,
    columns_of,
    entries_in,
    headings_of,
    tables_of,
)
from zoo.reports.tables.side_by_side import reservations, side_by_side_frame, side_by_side_text
from zoo.repro.records.claim_words import EVALUATOR_MARKS, metric_title


def measured(
    *paths: str | os.PathLike[str],
    form: Literal["markdown", "csv", "latex"] = "markdown",
    side_by_side: bool = False,
    registry: RegistryLike = (),
) -> str:
    """Returns the published tables with the numbers of run records in them, or runs side by side, as text.

    Of several runs of an entry in a folder above them, the newest counts, and before all others one measured
    as the published numbers; a line on stderr names those left out.

    Args:
      paths: run records, run folders, or folders above them.
      form: `markdown`, `latex` (for the package booktabs), or `csv`: a row for each number, unrounded.
      side_by_side: one table instead, with a row for each run and all its metrics, in any form.
      registry: registry files of one's own, beside the built-in one.

    Raises:
      DataError: a path holds no run record, or a record cannot be read.
      UsageError: two runs of one entry, where they are not side by side, or another form.
      UnknownNameError: a run of an entry that the registry does not have, where they are not side by side.
    """
    if form not in (forms := ("markdown", "csv", "latex")):
        raise UsageError(f"form {form!r}: expected one of {', '.join(forms)}")
    # First, so that its faults are told in any form.
    loaded = load_registry(registry)
    if side_by_side:
        runs = runs_in_order(paths)
        if form == "csv":
            return csv_text(side_by_side_frame(runs))
        return side_by_side_text(runs, latex=form == "latex")
    given = list(map(Path, paths))
    named = [path for path in given if not path.is_dir() or (path / "record.json").exists()]
    found = find_runs(path for path in given if path not in named)
    chosen = one_of_each_entry(found)
    for run in found:
        if run not in chosen:
            say(f"left out: {run.path}: another run of {run.entry}")
    runs = [*map(open_run, named), *chosen]
    return (
        csv_text(results_frame(runs))
        if form == "csv"
        else measured_tables(loaded, runs, latex=form == "latex")
    )


def measured_tables(registry: Registry, runs: Iterable[Run], *, latex: bool = False) -> str:
    """Returns the published tables, the bundled entries and other measured ones, with measured numbers.

    Numbers are rounded to the decimals that were published; what was not run is blank. The reservations about
    its runs stand below a table in Markdown, and in the caption of one in LaTeX. Runs that have no row there,
    those of scored predictions, follow side by side; where nothing was published of any run, all runs do, and
    no other table is shown.

    Raises:
      UsageError: two runs of one entry.
      UnknownNameError: a run of an entry that the registry does not have.
    """
    runs = list(runs)
    scored = [run for run in runs if run.is_of_predictions]
    entries = {run.entry: registry.resolve(run.entry) for run in runs if run not in scored}
    if runs and not any(entry.published for entry in entries.values()):
        return side_by_side_text(runs, latex=latex)
    by_name: dict[str, Run] = {}
    for run in runs:
        if run in scored:
            continue
        name = entries[run.entry].name
        if name in by_name:
            raise UsageError(
                f"{run.path}: expected one record of each entry, found a second of {name}, "
                f"the first being {by_name[name].path}"
            )
        by_name[name] = run

    tables = tables_of(registry)
    published = {entry.name for known in tables for entry in entries_in(registry, *known)}
    projects = {entry.project for entry in entries.values()} or {tables[0][1].project}
    tables = [known for known in tables if known[1].project in projects]
    sections: list[tuple[str, list[Entry], PublishedTable | None]] = [
        (heading, entries_in(registry, dataset, table), table)
        for heading, (dataset, table) in zip(headings_of(tables), tables, strict=True)
    ]
    rest = [entry for entry in registry.entries if entry.name not in published]
    bundled = [entry for entry in rest if entry.checkpoint.url.startswith("package://")]
    others = [entry for entry in rest if entry.name in by_name and entry not in bundled]
    sections += [("Bundled entries", bundled, None), ("Other entries", others, None)]
    texts = [_section(*section, by_name, latex) for section in sections if section[1]]
    return "\n".join([*texts, *([side_by_side_text(scored, latex=latex)] if scored else [])])


def _section(
    heading: str,
    entries: Sequence[Entry],
    table: PublishedTable | None,
    runs: Mapping[str, Run],
    latex: bool,
) -> str:
    found = [runs[entry.name] for entry in entries if entry.name in runs]
    columns = columns_of(entries, table)
    if any(run.value(OFFICIAL_AP.evaluator, OFFICIAL_AP.metric) is not None for run in found):
        columns = _with_official_ap(columns)
    rows = [
        [
            *columns.about_entry(entry),
            *(_rounded(entry, column, runs.get(entry.name)) for column in columns.numbers),
        ]
        for entry in entries
    ]
    needed = efficiency_columns([runs.get(entry.name) for entry in entries])
    rows = [[*cells, *more] for cells, *more in zip(rows, *needed.values(), strict=True)]
    notes = [f"{run.entry}: {notes}" for run in found if (notes := reservations(run))]
    if latex:
        titles = [
            f"{metric_title(column.metric)} {EVALUATOR_MARKS[column.evaluator]}" for column in columns.numbers
        ]
        header = [BACKBONE.title, *columns.about, *titles, *needed]
        names = [entry.title if table else f"{entry.title} ({entry.name})" for entry in entries]
        rows = [[name, *cells[1:]] for name, cells in zip(names, rows, strict=True)]
        return latex_text(header, rows, ". ".join([heading, *notes]))
    below = "".join(["\n", *(f"- {plain(note)}\n" for note in notes)]) if notes else ""
    shown = [*columns.layout(table, entries), *(Column(title, is_centered=True) for title in needed)]
    return f"### {heading}\n\n{table_text(shown, rows)}{below}"


def _with_official_ap(columns: TableColumns) -> TableColumns:
    """Returns columns with that of the official AP at its place, where upstream could not measure it."""
    keys = [(column.evaluator, column.metric) for column in columns.numbers]
    if (OFFICIAL_AP.evaluator, OFFICIAL_AP.metric) in keys:
        return columns
    place = sum(evaluator == OFFICIAL_AP.evaluator for evaluator, _ in keys)
    return replace(columns, numbers=[*columns.numbers[:place], OFFICIAL_AP, *columns.numbers[place:]])


def _rounded(entry: Entry, column: NumberColumn, run: Run | None) -> str:
    value = run and run.value(column.evaluator, column.metric)
    if value is None:
        return ""
    claim = claim_in(entry, column)
    return f"{value:.{column.decimals if claim is None else claim.decimals}f}"
