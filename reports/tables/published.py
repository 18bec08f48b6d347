"""The published tables, from the registry alone: byte for byte as upstream printed them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from zoo.errors import RegistryError, UsageError
from zoo.registry import Claim, DatasetDeclaration, Entry, Registry
from zoo.registry.schema import ClaimedEvaluator, ColumnQuirk, MetricName, PublishedTable
from zoo.reports.tables.markdown_table import Column, plain, table_text

# From upstream's folder of project pages to the root of its repository.
TO_ROOT = "../../"

_SOURCE = re.compile(r"(?P<file>[^:@]+)(@(?P<edition>[^:@]+))?:(?P<line>\d+)")


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers, with as many decimals as upstream's columns usually print."""

    title: str
    evaluator: ClaimedEvaluator
    metric: MetricName
    decimals: int


OFFICIAL_AP = NumberColumn("AP<sup>Mask</sup> [*]", "official", "ap", 1)
"""Upstream has no such column: its predictions could not be converted for the official script."""

NUMBER_COLUMNS = (
    NumberColumn("PQ [*]", "official", "pq", 1),
    NumberColumn("mIoU [*]", "official", "miou", 1),
    OFFICIAL_AP,
    NumberColumn("PQ [**]", "internal", "pq", 2),
    NumberColumn("mIoU [**]", "internal", "miou", 2),
    NumberColumn("AP<sup>Mask</sup> [**]", "internal", "ap", 2),
)

BACKBONE = Column("Backbone")
"""The first column of every table."""


_CELLS: dict[str, Callable[[Entry], str]] = {
    "output_stride": lambda entry: str(entry.output_stride),
    "input_resolution": lambda entry: "{} x {}".format(*entry.input_resolution),
}
_USUAL_COLUMNS = {
    "Output stride": _CELLS["output_stride"],
    "Input resolution": _CELLS["input_resolution"],
}


@dataclass(frozen=True)
class SourceLine:
    """Where the numbers of an entry stand; lines count from 1.

    `edition` is a later state of the file, empty for the one whose tables are regenerated here. A row of a
    later edition replaced the row that stands on the same line.
    """

    file: str
    edition: str
    line: int


def source_line_of(entry: Entry) -> SourceLine | None:
    """Returns where the entry's numbers stand, or None where that is not a line of a file."""
    found = _SOURCE.fullmatch(entry.published[0].source) if entry.published else None
    return SourceLine(found["file"], found["edition"] or "", int(found["line"])) if found else None


def tables_of(
    registry: Registry, dataset: str | None = None, project: str | None = None
) -> list[tuple[DatasetDeclaration, PublishedTable]]:
    """Returns the published tables with their data sets, project by project, or those that are asked for.

    Raises:
      UsageError: there is no published table of `dataset`, or of `project`.
    """
    tables = [(known, table) for known in registry.datasets for table in known.tables]
    projects = list(dict.fromkeys(table.project for _, table in tables))
    tables.sort(key=lambda pair: projects.index(pair[1].project))
    for option, value, known in (
        ("--dataset", dataset, list(dict.fromkeys(known.name for known, _ in tables))),
        ("--project", project, projects),
    ):
        if value is not None and value not in known:
            raise UsageError(f"{option} {value}: expected one with a published table: {' or '.join(known)}")
    chosen = [
        (known, table)
        for known, table in tables
        if dataset in (None, known.name) and project in (None, table.project)
    ]
    if not chosen:
        raise UsageError(f"--dataset {dataset} --project {project}: expected both of one table; drop one")
    return chosen


def headings_of(tables: Sequence[tuple[DatasetDeclaration, PublishedTable]]) -> list[str]:
    """Returns a heading for each table: upstream's, with the file where an earlier table has the same."""
    seen: set[str] = set()
    headings = []
    for _, table in tables:
        is_new = table.heading not in seen
        headings.append(table.heading if is_new else f"{table.heading} ({table.source})")
        seen.add(table.heading)
    return headings


def places_in(
    registry: Registry, dataset: DatasetDeclaration, table: PublishedTable
) -> list[tuple[SourceLine, Entry]]:
    """Returns the rows of a table and of its later editions, in the order of their lines."""
    rows = [(source_line_of(entry), entry) for entry in registry.entries if entry.dataset == dataset.name]
    found = [(place, entry) for place, entry in rows if place is not None and place.file == table.source]
    return sorted(found, key=lambda row: (row[0].line, row[0].edition))


def entries_in(registry: Registry, dataset: DatasetDeclaration, table: PublishedTable) -> list[Entry]:
    """Returns the rows of a published table, in its order, without those of later editions."""
    return [entry for place, entry in places_in(registry, dataset, table) if not place.edition]


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table behind the backbone.

    Attributes:
      about: title -> text of an entry's cell, of the columns that say what the entry is.
      numbers: the columns of numbers, which follow.
    """

    about: Mapping[str, Callable[[Entry], str]] = field(default_factory=lambda: _USUAL_COLUMNS)
    numbers: Sequence[NumberColumn] = NUMBER_COLUMNS

    @property
    def titles(self) -> list[str]:
        """The titles of all columns."""
        return [BACKBONE.title, *self.about, *(column.title for column in self.numbers)]

    def about_entry(self, entry: Entry) -> list[str]:
        """Returns an entry's cells before the numbers."""
        # Without links, the name says which of several rows of the same backbone this is.
        backbone = f"{plain(entry.title)} {links_of(entry) or f'(`{entry.name}`)'}"
        return [backbone, *(text(entry) for text in self.about.values())]

    def layout(self, table: PublishedTable | None = None, entries: Sequence[Entry] = ()) -> list[Column]:
        """Returns how the columns are written, with the quirks of the published table of these entries."""
        columns = [BACKBONE, *(Column(title, is_centered=True) for title in self.titles[1:])]
        quirks: dict[str, ColumnQuirk] = {quirk.column: quirk for quirk in table.quirks} if table else {}
        for at, column in enumerate(columns):
            quirk = quirks.get(column.title)
            if quirk and quirk.rows:
                rows = [n for n, entry in enumerate(entries) if entry.short_name in quirk.rows]
                columns[at] = replace(column, wider_rows=dict.fromkeys(rows, quirk.extra_width))
            elif quirk:
                columns[at] = replace(column, extra_width=quirk.extra_width)
        return columns


def columns_of(entries: Iterable[Entry], table: PublishedTable | None = None) -> TableColumns:
    """Returns a table's columns: as it declares them, or the usual ones as far as any entry has a number."""
    if table is None or not table.columns:
        entries = list(entries)
        numbers = [column for column in NUMBER_COLUMNS if any(claim_in(entry, column) for entry in entries)]
        return TableColumns(numbers=numbers)
    about = {title: _CELLS[cell] for title, cell in table.columns.items() if cell in _CELLS}
    declared = []
    for title, cell in table.columns.items():
        if title in about:
            continue
        evaluator, _, metric = cell.partition(".")
        decimals = 2 if evaluator == "internal" else 1
        declared.append(
            NumberColumn(title, cast("ClaimedEvaluator", evaluator), cast("MetricName", metric), decimals)
        )
    return TableColumns(about, declared)


def claim_in(entry: Entry, column: NumberColumn) -> Claim | None:
    """Returns the entry's published number of a column, or None."""
    key = column.evaluator, column.metric
    return next((claim for claim in entry.published if (claim.evaluator, claim.metric) == key), None)


def printed(entry: Entry, column: NumberColumn) -> str:
    """Returns a published number as it was printed, or nothing."""
    claim = claim_in(entry, column)
    return "" if claim is None else str(claim.value)


def with_quirks(entry: Entry, place: str, regular: str) -> str:
    """Returns what upstream printed in place of a regular text: an entry's links, or the name of a file.

    Raises:
      RegistryError: the entry records a quirk of a part that the text does not have.
    """
    for quirk in entry.quirks:
        if quirk.place == place:
            before, found, after = regular.rpartition(quirk.regular)
            if not found:
                expected = f"expected a part of {regular!r}, found {quirk.regular!r}"
                raise RegistryError(f"{entry.name}: quirks: {expected}")
            regular = f"{before}{quirk.printed}{after}"
    return regular


def links_of(entry: Entry) -> str:
    """Returns the links of an entry's row, quirks included; nothing where there is nothing to link to."""
    links = [f"[config]({TO_ROOT}{entry.config})"] if entry.config else []
    if entry.checkpoint.url.startswith(("http://", "https://")):
        links.append(f"[ckpt]({entry.checkpoint.url})")
    return with_quirks(entry, "links", f"({', '.join(links)})") if links else ""


def published_table(registry: Registry, dataset: DatasetDeclaration, table: PublishedTable) -> str:
    """Returns one published table: header, rule and rows."""
    entries = entries_in(registry, dataset, table)
    columns = columns_of(entries, table)
    rows = [
        [*columns.about_entry(entry), *(printed(entry, number) for number in columns.numbers)]
        for entry in entries
    ]
    return table_text(columns.layout(table, entries), rows)


def published_tables(registry: Registry, dataset: str | None = None, project: str | None = None) -> str:
    """Returns the published tables, each under its heading.

    Raises:
      UsageError: there is no published table of `dataset`, or of `project`.
    """
    tables = tables_of(registry, dataset, project)
    return "\n".join(
        f"### {heading}\n\n{published_table(registry, known, table)}"
        for heading, (known, table) in zip(headings_of(tables), tables, strict=True)
    )
