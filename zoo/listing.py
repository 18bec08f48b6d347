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


def entries_table(entries: Iterable[Entry]) -> Any:
    """Returns a `rich.table.Table` with a row for each entry: what it is, and its published numbers."""
    from rich.table import Table

    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("Name", no_wrap=True)
    table.add_column("Backbone", no_wrap=True)
    for column in ("Stride", "Input", "Parameters", *(title.replace("[", "\\[") for title, _, _ in _COLUMNS)):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        height, width = entry.input_resolution
        printed = {(claim.evaluator, claim.metric): str(claim.value) for claim in entry.published}
        table.add_row(
            entry.name,
            entry.title,
            str(entry.output_stride),
            f"{height} x {width}",
            "" if entry.parameters is None else f"{entry.parameters / 1e6:.1f} M",
            *(printed.get((evaluator, metric), "") for _, evaluator, metric in _COLUMNS),
        )
    return table


def describe_entry(entry: Entry | Backbone) -> str:
    """Returns everything the registry knows of one entry, as YAML with the published numbers as printed."""
    import yaml

    declared = entry.model_dump(mode="json", exclude_none=True)
    declared["digest"] = entry.digest()
    return str(yaml.safe_dump(declared, sort_keys=False, width=110, allow_unicode=True)).rstrip()
