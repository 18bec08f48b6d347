"""What `zoo list` and `zoo show` print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.registry import Entry
    from zoo.schema import Backbone

# Columns of the published tables: [*] the official scripts, [**] the reference implementation's pipeline.
_COLUMNS = (
    ("PQ [*]", "official", "pq"),
    ("mIoU [*]", "official", "miou"),
    ("AP [*]", "official", "ap"),
    ("PQ [**]", "internal", "pq"),
    ("mIoU [**]", "internal", "miou"),
    ("AP [**]", "internal", "ap"),
)


# What a narrow terminal does without, first to go first; `zoo show` has it all.
_LEFT_OUT_FIRST = ("Parameters", "Input", "AP [*]", "Stride", "Backbone", "AP [**]", "mIoU [**]", "PQ [**]")
_GAP = 2


def entries_table(entries: Iterable[Entry], width: int | None = None) -> Any:
    """Returns a `rich.table.Table` with a row for each entry: what it is, and its published numbers.

    Args:
      entries: the rows.
      width: characters in a line; columns are left out until names and numbers fit whole. None for no limit.
    """
    from rich.table import Table

    entries = list(entries)
    columns = {"Name": [entry.name for entry in entries], "Backbone": [entry.title for entry in entries]}
    columns["Stride"] = [str(entry.output_stride) for entry in entries]
    columns["Input"] = ["{} x {}".format(*entry.input_resolution) for entry in entries]
    columns["Parameters"] = [
        "" if entry.parameters is None else f"{entry.parameters / 1e6:.1f} M" for entry in entries
    ]
    printed = [
        {(claim.evaluator, claim.metric): str(claim.value) for claim in entry.published} for entry in entries
    ]
    for title, evaluator, metric in _COLUMNS:
        columns[title] = [numbers.get((evaluator, metric), "") for numbers in printed]

    widths = {title: max(map(len, (title, *cells))) + _GAP for title, cells in columns.items()}
    for title in _LEFT_OUT_FIRST:
        if width is not None and sum(widths.values()) - _GAP > width:
            del widths[title]

    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for title in widths:
        justify: Any = "left" if title in ("Name", "Backbone") else "right"
        table.add_column(title.replace("[", "\\["), justify=justify, no_wrap=True)
    for row in zip(*(columns[title] for title in widths), strict=True):
        table.add_row(*row)
    return table


def describe_entry(entry: Entry | Backbone) -> str:
    """Returns everything the registry knows of one entry, as YAML with the published numbers as printed."""
    import yaml

    declared = entry.model_dump(mode="json", exclude_none=True)
    declared["digest"] = entry.digest()
    return str(yaml.safe_dump(declared, sort_keys=False, width=110, allow_unicode=True)).rstrip()
