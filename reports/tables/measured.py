"""The published tables with measured numbers in them, from run records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zoo.errors import UsageError
from zoo.registry import Entry, Registry
from zoo.registry.schema import PublishedTable
from zoo.reports.runs import Run
from zoo.reports.tables.markdown_table import table_text
from zoo.reports.tables.published import (
    ENTRY_COLUMNS,
    NUMBER_COLUMNS,
    OFFICIAL_AP,
    NumberColumn,
    claim_in,
    entries_in,
    entry_cells,
    layout,
    number_columns,
    tables_of,
)
from zoo.repro.records.claim_words import EVALUATOR_MARKS, metric_title

_NAMES = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
_ESCAPED = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {c: f"\\text{_NAMES[c]}{{}}" for c in _NAMES})


def _reservations(run: Run) -> str:
    """Returns what to know before comparing a run's numbers, such as "15 of 30 images"; mostly nothing."""
    reasons = [claim["reason"] for claim in run.record["claims"] if claim.get("reason")]
    images, in_dataset = run.record["images"], run.record["images_in_dataset"]
    part = f"{images} of {in_dataset} images"
    # An entry without published numbers has no claims that could tell.
    if images != in_dataset and not any(part in reason for reason in reasons):
        reasons.insert(0, part)
    return "; ".join(dict.fromkeys(reasons))


def measured_tables(registry: Registry, runs: Iterable[Run], *, latex: bool = False) -> str:
    """Returns the published tables, the bundled entries and other measured ones, with measured numbers.

    Numbers are rounded to the decimals that were published; what was not run is blank. The reservations about
    its runs stand below a table in Markdown, and in the caption of one in LaTeX.

    Raises:
      UsageError: two runs of one entry.
      UnknownNameError: a run of an entry that the registry does not have.
    """
    by_name: dict[str, Run] = {}
    for run in runs:
        name = registry.resolve(run.entry).name
        if name in by_name:
            raise UsageError(
                f"{run.path}: expected one record of each entry, found a second of {name}, "
                f"the first being {by_name[name].path}"
            )
        by_name[name] = run

    sections: list[tuple[str, list[Entry], PublishedTable | None]] = [
        (table.heading, entries_in(registry, dataset, table), table) for dataset, table in tables_of(registry)
    ]
    shown = {entry.name for _, entries, _ in sections for entry in entries}
    rest = [entry for entry in registry.entries if entry.name not in shown]
    bundled = [entry for entry in rest if entry.checkpoint.url.startswith("package://")]
    others = [entry for entry in rest if entry.name in by_name and entry not in bundled]
    sections += [("Bundled entries", bundled, None), ("Other entries", others, None)]
    return "\n".join(
        _section(heading, entries, table, by_name, latex) for heading, entries, table in sections if entries
    )


def _section(
    heading: str,
    entries: Sequence[Entry],
    table: PublishedTable | None,
    runs: Mapping[str, Run],
    latex: bool,
) -> str:
    found = [runs[entry.name] for entry in entries if entry.name in runs]
    numbers = set(number_columns(entries))
    if any(run.value(OFFICIAL_AP.evaluator, OFFICIAL_AP.metric) is not None for run in found):
        numbers.add(OFFICIAL_AP)
    columns = [column for column in NUMBER_COLUMNS if column in numbers]
    rows = [
        [*entry_cells(entry), *(_rounded(entry, column, runs.get(entry.name)) for column in columns)]
        for entry in entries
    ]
    notes = [f"{run.entry}: {notes}" for run in found if (notes := _reservations(run))]
    if latex:
        titles = [f"{metric_title(column.metric)} {EVALUATOR_MARKS[column.evaluator]}" for column in columns]
        header = [*(column.title for column in ENTRY_COLUMNS), *titles]
        names = [entry.title if table else f"{entry.title} ({entry.name})" for entry in entries]
        rows = [[name, *cells[1:]] for name, cells in zip(names, rows, strict=True)]
        return latex_text(header, rows, ". ".join([heading, *notes]))
    below = "".join(["\n", *(f"- {note}\n" for note in notes)]) if notes else ""
    return f"### {heading}\n\n{table_text(layout(columns, table), rows)}{below}"


def _rounded(entry: Entry, column: NumberColumn, run: Run | None) -> str:
    value = run and run.value(column.evaluator, column.metric)
    if value is None:
        return ""
    claim = claim_in(entry, column)
    return f"{value:.{column.decimals if claim is None else claim.decimals}f}"


def latex_text(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Returns a LaTeX table for the package booktabs, whose first column alone is aligned to the left."""
    lines = [" & ".join(cell.translate(_ESCAPED) for cell in cells) for cells in (header, *rows)]
    # A bracket or a star would be an argument of the line before.
    first, *rest = (f"    {'{}' * line.startswith(('[', '*'))}{line} \\\\\n" for line in lines)
    return (
        f"\\begin{{table}}\n  \\caption{{{caption.translate(_ESCAPED)}}}\n"
        f"  \\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n"
        f"    \\toprule\n{first}    \\midrule\n{''.join(rest)}    \\bottomrule\n"
        "  \\end{tabular}\n\\end{table}\n"
    )
