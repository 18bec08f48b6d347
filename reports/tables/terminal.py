"""Tables for terminals: on a narrow one they drop lines, then columns, and say so, but never a digit."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.table import Column, Table
from rich.text import Text

# What a column of text that goes over several lines needs at least.
_NARROWEST_TEXT = 12


class FittedTable(Table):
    """A `rich` table that shows each cell of a column whole, or not at all.

    Where the terminal is too narrow, the lines between the columns go first, then the columns of
    `leave_out_first`, with a line below that names them. Where even the rest is too wide, each row becomes a
    few lines, `title: cell`, of all its columns. Columns with `no_wrap` are as wide as their widest cell;
    others go over several lines.
    """

    def __init__(self, *args: Any, leave_out_first: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.leave_out_first = leave_out_first

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        table = copy.copy(self)
        if table._needed(options.max_width) and table.box is not None:
            table.box, table.padding, table.pad_edge = None, (0, 1, 0, 0), False
        left_out = []
        for title in self.leave_out_first:
            if not table._needed(options.max_width):
                break
            kept = [column for column in table.columns if _title(column) != title]
            if len(kept) < len(table.columns):
                left_out.append(title)
                table.columns = [replace(column, _index=index) for index, column in enumerate(kept)]
        if table._needed(options.max_width):
            yield from self._as_lines()
            return
        yield from Table.__rich_console__(table, console, options)
        if left_out:
            yield Text(f"Not shown in {options.max_width} characters: {', '.join(left_out)}.", style="dim")

    def _needed(self, width: int) -> bool:
        """Returns whether the columns need more than `width` characters."""
        _, right, _, left = self.padding
        gaps = (left + right) * len(self.columns) + (len(self.columns) + 1 if self.box is not None else 0)
        if self.box is None and not self.pad_edge:
            gaps -= right
        return sum(map(_least_width, self.columns)) + gaps > width

    def _as_lines(self) -> Iterator[Text]:
        if self.title:
            yield Text(str(self.title), style="bold", overflow="fold")
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            for column, cell in zip(self.columns, cells, strict=True):
                yield Text(f"{_title(column)}: {_plain(cell)}".removeprefix(": "), overflow="fold")
            yield Text("")
        if self.caption:
            yield Text(str(self.caption), overflow="fold")


def fitted_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    numbers: Collection[str],
    *,
    whole: Collection[str] | None = None,
    **options: Any,
) -> FittedTable:
    """Returns a table of texts, which are shown as they are, without markup.

    Columns titled in `numbers` are aligned to the right; those in `whole`, else these, stay on one line.
    """
    table = FittedTable(header_style="bold", **options)
    whole = numbers if whole is None else whole
    for title in header:
        justify: Any = "right" if title in numbers else "left"
        table.add_column(title, justify=justify, no_wrap=title in whole, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def _least_width(column: Column) -> int:
    widths = [len(_title(column)), *(len(_plain(cell)) for cell in column.cells)]
    return max(widths) if column.no_wrap else min(max(widths), _NARROWEST_TEXT)


def _title(column: Column) -> str:
    return _plain(column.header)


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else Text.from_markup(cell).plain
