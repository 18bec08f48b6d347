"""The registry as pandas DataFrames; pandas is imported when one is asked for."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.registry.lookup import RegistryLike, list_entries
from zoo.registry.schema import Entry

if TYPE_CHECKING:
    from pandas import DataFrame

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_SIZES = ("output_stride", "input_height", "input_width", "parameters", "multiply_adds")
_ENTRY_DTYPES = {
    **dict.fromkeys(("name", "title"), "string"),
    **dict.fromkeys(("dataset", "backbone"), "category"),
    **dict.fromkeys(_SIZES, "Int64"),
    **dict.fromkeys(("config", "checkpoint", "saved_model", "digest"), "string"),
}
_PUBLISHED_DTYPES = {
    "entry": "string",
    **dict.fromkeys(("dataset", "metric", "evaluator"), "category"),
    **dict.fromkeys(("value", "tolerance"), "float64"),
    "decimals": "Int64",
    **dict.fromkeys(("printed", "source"), "string"),
}


def entries(
    *patterns: str, dataset: str | None = None, backbone: str | None = None, registry: RegistryLike = ()
) -> DataFrame:
    """Returns a row for each entry that matches, in the registry's order, under its full `name` as the index.

    Columns: `title` (string); `dataset`, `backbone` (category); `output_stride`, `input_height`,
    `input_width`, `parameters`, `multiply_adds` (Int64); `config` (string: the published one's path);
    `checkpoint`, `saved_model` (string: URLs); `digest` (string: SHA-256 of the declaration). What is not
    declared is `pandas.NA`. Patterns and filters are those of `Registry.select`.

    Raises:
        UnknownNameError: Nothing matches.
        RegistryError: A file that does not follow the schema.
    """
    return entries_frame(list_entries(*patterns, dataset=dataset, backbone=backbone, files=registry))


def published(
    *patterns: str, dataset: str | None = None, backbone: str | None = None, registry: RegistryLike = ()
) -> DataFrame:
    """Returns a row for each published number of entries; arguments and errors are those of `entries`.

    Columns: `entry` (string: its full name); `dataset`, `metric` (pq, pq_things, pq_stuff, miou, ap),
    `evaluator` (official, internal, server) (category); `value` (float64, percent), `tolerance` (float64,
    percentage points), `decimals` (Int64: digits after the point), `printed` (string: `value` with all its
    digits), `source` (string: file and line).
    """
    found = list_entries(*patterns, dataset=dataset, backbone=backbone, files=registry)
    rows = [
        {**dict(claim), "entry": entry.name, "dataset": entry.dataset, "decimals": claim.decimals}
        | {"printed": str(claim.value)}
        for entry in found
        for claim in entry.published
    ]
    return typed_frame(rows, _PUBLISHED_DTYPES)


def entries_frame(found: Iterable[Entry]) -> DataFrame:
    """Returns entries as `entries` does, in the order given."""
    rows = [
        {
            **dict(entry),
            "output_stride": entry.output_stride,
            **dict(zip(("input_height", "input_width"), entry.input_resolution, strict=True)),
            "backbone": entry.network.backbone.name,
            "checkpoint": entry.checkpoint.url,
            "saved_model": entry.saved_model and entry.saved_model.url,
            "digest": entry.digest(),
        }
        for entry in found
    ]
    return typed_frame(rows, _ENTRY_DTYPES).set_index("name")


def typed_frame(rows: Iterable[Mapping[str, Any]], dtypes: Mapping[str, str]) -> DataFrame:
    """Returns rows as a DataFrame with exactly these columns; what a row lacks, or has as None, is NA."""
    import pandas as pd

    # From objects: large integers beside missing values would be rounded to floats first.
    return pd.DataFrame(list(rows), columns=list(dtypes), dtype=object).astype(dict(dtypes))


def csv_text(frame: DataFrame, *, index: bool = False) -> str:
    """Returns a DataFrame as comma-separated values, unrounded; what is missing is empty.

    Texts are in quotes, and those that a spreadsheet would compute are as `csv_cell` makes them. Reading them
    with pandas gives the texts again after `texts.str.replace(r"^'(?=[=+@\\t\\r-])", "", regex=True)`.
    """
    frame = frame.reset_index() if index else frame
    texts = frame.select_dtypes(["string", "category", "object"]).astype(object)
    frame = frame.assign(**{name: column.map(csv_cell) for name, column in texts.items()})
    return str(frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))


def csv_cell(value: Any) -> Any:
    """Returns a value as it is written into a CSV.

    A text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe before it, as
    OWASP advises: spreadsheets would take it for a formula, which may come from a file's name.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
