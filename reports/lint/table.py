"""Compares one table of a Markdown file with the registry's entries: columns, rows, and cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation

from zoo.registry import Entry
from zoo.registry.schema import PublishedTable
from zoo.reports.lint.links import (
    BackboneCell,
    Finding,
    backbone_cell,
    check_cell,
    check_links_of_stranger,
    config_link,
)
from zoo.reports.tables.markdown_table import Row, Table
from zoo.reports.tables.published import BACKBONE, SourceLine, TableColumns, claim_in, columns_of, printed

_Line = tuple[Row, BackboneCell]
"""A row of the file, and its first cell taken apart."""


def check_table(
    found: Table, places: Sequence[tuple[SourceLine, Entry]], table: PublishedTable
) -> Iterator[Finding]:
    """Compares a table with the registry's rows, those of later editions too, in the order of their lines."""
    columns = columns_of((entry for place, entry in places if not place.edition), table)
    yield from _check_columns(found, columns.titles)
    if BACKBONE.title not in found.header.cells:
        return
    first = found.header.cells.index(BACKBONE.title)
    lines = [(row, backbone_cell(row.cells[first] if first < len(row.cells) else "")) for row in found.rows]
    entries = [entry for _, entry in places]
    matched = _match(lines, entries)
    for number, (row, cell) in enumerate(lines):
        if number in matched:
            yield from check_cell(row.line, cell, matched[number], table)
            yield from _check_cells(row, found.header.cells, matched[number], columns)
        else:
            yield from _check_stranger(row.line, cell, entries, table)
    yield from _check_rows(found, lines, matched, places)


def _check_columns(found: Table, titles: Sequence[str]) -> Iterator[Finding]:
    for title in titles:
        if title not in found.header.cells:
            yield Finding(found.line, f"column {title!r}", "one", "none")
    for title, count in Counter(found.header.cells).items():
        if title not in titles:
            yield Finding(found.line, f"column {title!r}", "no such column", "one")
        elif count > 1:
            yield Finding(found.line, f"column {title!r}", "one", str(count))
    shared = [title for title in found.header.cells if title in titles]
    if sorted(shared) == sorted(titles) and shared != titles:
        yield Finding(found.line, "order of the columns", ", ".join(titles), ", ".join(shared))


def _match(lines: Sequence[_Line], entries: Sequence[Entry]) -> dict[int, Entry]:
    """Returns row -> its entry: by both links first, then by what an edit has left."""
    rules: tuple[Callable[[Row, BackboneCell, Entry], bool], ...] = (
        lambda row, cell, entry: _has_links_of(entry, cell),
        lambda row, cell, entry: cell.checkpoint == entry.checkpoint.url,
        lambda row, cell, entry: cell.config == config_link(entry) != "" and cell.title == entry.title,
        lambda row, cell, entry: cell.title == entry.title and str(entry.output_stride) in row.cells,
    )
    matched: dict[int, Entry] = {}
    free = list(entries)
    for rule in rules:
        for number, line in enumerate(lines):
            found = next((entry for entry in free if rule(*line, entry)), None)
            if number not in matched and found is not None:
                matched[number] = found
                free.remove(found)
    return matched


def _has_links_of(entry: Entry, cell: BackboneCell) -> bool:
    return cell.config == config_link(entry) != "" and cell.checkpoint == entry.checkpoint.url


def _check_stranger(
    line: int, cell: BackboneCell, entries: Sequence[Entry], table: PublishedTable
) -> Iterator[Finding]:
    for entry in entries:
        if _has_links_of(entry, cell):
            yield Finding(line, f"row of {entry.name}", "one", "a second")
            return
    links = cell.checkpoint or cell.config or "no links"
    yield Finding(line, f"row {cell.title!r}", "no row that the registry lacks", links)
    yield from check_links_of_stranger(line, cell, table)


def _check_cells(row: Row, header: Sequence[str], entry: Entry, columns: TableColumns) -> Iterator[Finding]:
    if len(row.cells) != len(header):
        yield Finding(row.line, f"row of {entry.name}", f"{len(header)} cells", str(len(row.cells)))
        return
    found = dict(zip(header, row.cells, strict=True))
    for title, text_of in columns.about.items():
        text = text_of(entry)
        if found.get(title, text) != text:
            yield Finding(row.line, f"{title} of {entry.name}", text, found[title] or "none")
    for column in columns.numbers:
        text = printed(entry, column)
        if claim_in(entry, column) and found.get(column.title, text) != text:
            number = _number(found[column.title], text)
            yield Finding(row.line, f"{column.title} of {entry.name}", text, number)


def _number(found: str, expected: str) -> str:
    try:
        is_same_value = Decimal(found) == Decimal(expected)
    except InvalidOperation:
        return f"{found!r}, not a number" if found else "none"
    return f"{found} (the same value with other decimals)" if is_same_value else found


def _check_rows(
    found: Table,
    lines: Sequence[_Line],
    matched: dict[int, Entry],
    places: Sequence[tuple[SourceLine, Entry]],
) -> Iterator[Finding]:
    """Yields the rows that are missing, replaced, or in another order."""
    line_of = {entry.name: lines[number][0].line for number, entry in matched.items()}
    for place, entry in places:
        if place.edition:
            continue
        later = {
            other.name: f"{where.file}@{where.edition}"
            for where, other in places
            if where.edition and where.line == place.line and other.name in line_of
        }
        row = f"row of {entry.name}"
        for name, edition in later.items():
            if entry.name in line_of:
                expected = f"none beside {entry.name}, which it replaced in {edition}"
                yield Finding(line_of[name], f"row of {name}", expected, "both")
            else:
                yield Finding(line_of[name], row, "it", f"{name}, as in {edition}", known=True)
        if not later and entry.name not in line_of:
            yield Finding(found.line, row, "one", "none")
    order = {entry.name: place.line for place, entry in places}
    last = ""
    for _, entry in sorted(matched.items()):
        if last and order[entry.name] < order[last]:
            yield Finding(line_of[entry.name], f"row of {entry.name}", f"it before {last}", "it after that")
        else:
            last = entry.name
