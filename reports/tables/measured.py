"""The published tables with measured numbers in them, from run records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError
from zoo.reports.tables.markdown_table import table_text
from zoo.reports.tables.published import (
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
from zoo.repro.records.record import read_record

if TYPE_CHECKING:
    from zoo.registry import Entry, Registry
    from zoo.registry.schema import PublishedTable


@dataclass(frozen=True)
class Measured:
    """What a table needs of a run record.

    Attributes:
      path: where it was read.
      entry: full name.
      metrics: evaluator -> metric -> value in percent, or None where there is none.
      reservations: what to know before comparing the numbers, such as "15 of 30 images".
    """

    path: Path
    entry: str
    metrics: Mapping[str, Mapping[str, float | None]]
    reservations: tuple[str, ...]

    def value(self, column: NumberColumn) -> float | None:
        """Returns the measured number of a column, unrounded, in percent; None where there is none."""
        return self.metrics.get(column.evaluator, {}).get(column.metric)


def read_measured(path: Path) -> Measured:
    """Returns what the run record in `path` holds, a file or the folder of a run.

    Raises:
      DataError: there is no run record, or it does not follow the schema.
    """
    record = read_record(path)
    reservations = [claim["reason"] for claim in record["claims"] if claim.get("reason")]
    images, in_dataset = record["images"], record["images_in_dataset"]
    part = f"{images} of {in_dataset} images"
    # An entry without published numbers has no claims that could tell.
    if images != in_dataset and not any(part in reservation for reservation in reservations):
        reservations.insert(0, part)
    return Measured(Path(path), record["entry"], record["metrics"], tuple(dict.fromkeys(reservations)))


def measured_tables(registry: Registry, records: Iterable[Measured]) -> str:
    """Returns the published tables, the bundled entries and other measured ones, with measured numbers.

    Numbers are rounded to the decimals that were published; what was not run is blank. Below a table stand
    the reservations about its runs.

    Raises:
      UsageError: two records of one entry.
      UnknownNameError: a record of an entry that the registry does not have.
    """
    by_name: dict[str, Measured] = {}
    for record in records:
        name = registry.resolve(record.entry).name
        if name in by_name:
            raise UsageError(
                f"{record.path}: expected one record of each entry, found a second of {name}, "
                f"the first being {by_name[name].path}"
            )
        by_name[name] = record

    sections: list[tuple[str, list[Entry], PublishedTable | None]] = [
        (table.heading, entries_in(registry, dataset, table), table) for dataset, table in tables_of(registry)
    ]
    shown = {entry.name for _, entries, _ in sections for entry in entries}
    rest = [entry for entry in registry.entries if entry.name not in shown]
    bundled = [entry for entry in rest if entry.checkpoint.url.startswith("package://")]
    others = [entry for entry in rest if entry.name in by_name and entry not in bundled]
    sections += [("Bundled entries", bundled, None), ("Other entries", others, None)]
    return "\n".join(
        _section(heading, entries, table, by_name) for heading, entries, table in sections if entries
    )


def _section(
    heading: str, entries: Sequence[Entry], table: PublishedTable | None, records: Mapping[str, Measured]
) -> str:
    found = [records[entry.name] for entry in entries if entry.name in records]
    numbers = set(number_columns(entries))
    if any(record.value(OFFICIAL_AP) is not None for record in found):
        numbers.add(OFFICIAL_AP)
    columns = [column for column in NUMBER_COLUMNS if column in numbers]
    rows = [
        [*entry_cells(entry), *(_rounded(entry, column, records.get(entry.name)) for column in columns)]
        for entry in entries
    ]
    notes = [
        f"- {record.entry}: {'; '.join(record.reservations)}\n" for record in found if record.reservations
    ]
    below = "\n" + "".join(notes) if notes else ""
    return f"### {heading}\n\n{table_text(layout(columns, table), rows)}{below}"


def _rounded(entry: Entry, column: NumberColumn, record: Measured | None) -> str:
    value = None if record is None else record.value(column)
    if value is None:
        return ""
    claim = claim_in(entry, column)
    return f"{value:.{column.decimals if claim is None else claim.decimals}f}"
