"""Writes Markdown tables, those in upstream's layout (bars only between cells) too, and reads them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zoo.files.words import visible

_BAR = re.compile(r"(?<!\\)\|")
_RULE_CELL = re.compile(r":?-+:?")
_HEADING = re.compile(r" {0,3}#{1,6}\s+(.*?)(?:\s+#+)?\s*")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")


@dataclass(frozen=True)
class Column:
    """A column to be written."""

    title: str
    is_centered: bool = False
    """Whether the rule asks for centered cells; the source text is aligned to the left anyway."""
    extra_width: int = 0
    """Characters by which the rule and the rows are wider than the widest cell."""
    wider_rows: Mapping[int, int] = field(default_factory=dict)
    """Row -> characters by which its cell is wider than the column, which is laid out without them."""


def table_text(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table whose columns are as wide as their widest cell, with a newline at its end."""
    texts = [_escaped(row) for row in rows]
    titles, widths = [column.title for column in columns], []
    for i, column in enumerate(columns):
        cells = (len(text[i]) - column.wider_rows.get(n, 0) for n, text in enumerate(texts))
        # A rule of one dash between two colons is the shortest there is.
        widths.append(max(3, len(column.title), *cells))
    wider = [width + column.extra_width for width, column in zip(widths, columns, strict=True)]

    def line(cells: Sequence[str], to: Sequence[int]) -> str:
        return " | ".join(cell.ljust(width) for cell, width in zip(cells, to, strict=True)).rstrip() + "\n"

    rule = [
        f":{'-' * (width - 2)}:" if column.is_centered else "-" * width
        for column, width in zip(columns, wider, strict=True)
    ]
    lines = [line(titles, widths), line(rule, wider)]
    for n, text in enumerate(texts):
        more = (column.wider_rows.get(n, 0) for column in columns)
        lines.append(line(text, [width + extra for width, extra in zip(wider, more, strict=True)]))
    return "".join(lines)


def aligned_text(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str]) -> str:
    """Returns a table with bars on both sides, whose columns line up; no newline at its end.

    The columns that `numbers` names are aligned to the right.
    """
    texts = [_escaped(header), *(_escaped(map(plain, row)) for row in rows)]
    # A rule of two dashes and a colon is the shortest there is.
    widths = [max(3, *map(len, cells)) for cells in zip(*texts, strict=True)]
    padded = [
        [
            cell.rjust(width) if title in numbers else cell.ljust(width)
            for title, cell, width in zip(header, text, widths, strict=True)
        ]
        for text in texts
    ]
    rule = ["-" * (width - 1) + ("-:"[title in numbers]) for title, width in zip(header, widths, strict=True)]
    return _with_bars([padded[0], rule, *padded[1:]])


def compact_text(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str]) -> str:
    """Returns a table as `aligned_text` does, but no wider than its text: its columns do not line up."""
    rule = ["---:" if title in numbers else "---" for title in header]
    return _with_bars([header, rule, *(_escaped(map(plain, row)) for row in rows)])


def _with_bars(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escaped(cells: Iterable[str]) -> list[str]:
    return [cell.replace("|", r"\|") for cell in cells]


def plain(text: str) -> str:
    """Returns a text from anywhere, such as the name of a class, on one line, without HTML and links."""
    return visible(" ".join(text.splitlines())).replace("<", "&lt;").replace("](", r"]\(")


@dataclass(frozen=True)
class Row:
    """A row that was read: its line, from 1, and its cells without the spaces around them."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table that was read, with the text of the last heading before it; empty where there is none."""

    heading: str
    header: Row
    rows: tuple[Row, ...]

    @property
    def line(self) -> int:
        """Line of the header, from 1."""
        return self.header.line


def read_tables(text: str) -> list[Table]:
    """Returns the tables of a Markdown text, in order, without those in fenced code."""
    return list(_tables(text.splitlines()))


def _tables(lines: Sequence[str]) -> Iterator[Table]:
    heading, fence = "", ""
    at = 0
    while at < len(lines):
        line = lines[at]
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif fence:
            # A fence ends with one of its kind that is as long, and nothing after it.
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif found := _HEADING.fullmatch(line):
            heading = found[1]
        elif _starts_a_table(lines, at):
            header, rows = Row(at + 1, _cells(line)), []
            # The rule is left out.
            at += 2
            while at < len(lines) and _BAR.search(lines[at]):
                rows.append(Row(at + 1, _cells(lines[at])))
                at += 1
            yield Table(heading, header, tuple(rows))
            continue
        at += 1


def _starts_a_table(lines: Sequence[str], at: int) -> bool:
    if at + 1 == len(lines) or not _BAR.search(lines[at]) or not _BAR.search(lines[at + 1]):
        return False
    rule = _cells(lines[at + 1])
    return len(rule) == len(_cells(lines[at])) and all(map(_RULE_CELL.fullmatch, rule))


def _cells(line: str) -> tuple[str, ...]:
    cells = _BAR.split(line.strip())
    # Bars at the ends are decoration.
    if len(cells) > 1 and not cells[0]:
        del cells[0]
    if len(cells) > 1 and not cells[-1]:
        del cells[-1]
    return tuple(cell.strip().replace(r"\|", "|") for cell in cells)
