"""What `zoo list` and `zoo show` print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.fetch.places import place_of
from zoo.files.cache import Cache
from zoo.repro.records.claim_words import LEGEND as LEGEND

if TYPE_CHECKING:
    from decimal import Decimal

    from zoo.model.summary import Stage, Summary
    from zoo.registry.schema import Backbone, Entry

_COLUMNS = (
    ("PQ [*]", "official", "pq"),
    ("mIoU [*]", "official", "miou"),
    ("AP [*]", "official", "ap"),
    ("PQ [**]", "internal", "pq"),
    ("mIoU [**]", "internal", "miou"),
    ("AP [**]", "internal", "ap"),
)


# What a narrow terminal does without, first to go first; `zoo show` has it all.
_LEFT_OUT_FIRST = (
    *("Mult-adds", "Parameters", "Input", "AP [*]", "On disk", "Stride"),
    *("Backbone", "AP [**]", "mIoU [**]", "PQ [**]", "mIoU [*]", "PQ [*]"),
)
_GAP = 2


def _number(entry: Entry, evaluator: str, metric: str) -> Decimal | None:
    found = [c.value for c in entry.published if (c.evaluator, c.metric) == (evaluator, metric)]
    return found[0] if found else None


def _number_of(evaluator: str, metric: str) -> Callable[[Entry], Any]:
    return lambda entry: _number(entry, evaluator, metric)


# What is compared, and whether the largest comes first.
SORT_KEYS: dict[str, tuple[Callable[[Entry], Any], bool]] = {
    "name": (lambda entry: entry.name, False),
    "parameters": (lambda entry: entry.parameters, False),
    "multiply_adds": (lambda entry: entry.multiply_adds, False),
    **{metric: (_number_of("official", metric), True) for metric in ("pq", "miou", "ap")},
    **{f"internal_{metric}": (_number_of("internal", metric), True) for metric in ("pq", "miou", "ap")},
}
"""`--sort KEY` -> what is compared; sizes rise, published numbers fall."""


def sort_entries(entries: Iterable[Entry], key: str) -> list[Entry]:
    """Returns entries sorted by a key of `SORT_KEYS`; those that have no such number come last.

    Raises:
      UsageError: there is no such key.
    """
    if key not in SORT_KEYS:
        raise UsageError(f"--sort {key}: expected one of {', '.join(SORT_KEYS)}")
    value, falling = SORT_KEYS[key]
    entries = list(entries)
    known = sorted((e for e in entries if value(e) is not None), key=value, reverse=falling)
    return known + [e for e in entries if value(e) is None]


def entries_table(entries: Iterable[Entry], cache: Cache | None = None) -> Any:
    """Returns a `FittedTable` with a row for each entry: what it is, and its published numbers.

    Args:
      entries: the rows.
      cache: where checkpoints may be; None for the default one.
    """
    cache = cache or Cache()
    entries = list(entries)
    columns = {"Name": [entry.name for entry in entries], "Backbone": [entry.title for entry in entries]}
    columns["Stride"] = [str(entry.output_stride) for entry in entries]
    columns["Input"] = ["{} x {}".format(*entry.input_resolution) for entry in entries]
    columns["Parameters"] = [
        "" if entry.parameters is None else f"{entry.parameters / 1e6:.1f} M" for entry in entries
    ]
    columns["Mult-adds"] = [
        "" if entry.multiply_adds is None else f"{entry.multiply_adds / 1e9:,.1f} G" for entry in entries
    ]
    columns["On disk"] = [place_of(entry.checkpoint.url, cache) for entry in entries]
    printed: list[dict[tuple[str, str], str]] = [
        {(claim.evaluator, claim.metric): str(claim.value) for claim in entry.published} for entry in entries
    ]
    for title, evaluator, metric in _COLUMNS:
        columns[title] = [numbers.get((evaluator, metric), "") for numbers in printed]

    return _table(columns, _LEFT_OUT_FIRST)


def backbones_table(backbones: Iterable[Backbone], cache: Cache | None = None) -> Any:
    """Returns a `FittedTable` with a row for each ImageNet backbone."""
    cache = cache or Cache()
    backbones = list(backbones)
    return _table(
        {
            "Name": [backbone.name for backbone in backbones],
            "Backbone": [backbone.title for backbone in backbones],
            "Training": [backbone.strategy for backbone in backbones],
            "Data": [backbone.data for backbone in backbones],
            "On disk": [place_of(backbone.checkpoint.url, cache) for backbone in backbones],
        },
        ("Data", "Training", "On disk", "Backbone"),
    )


def as_json(entries: Iterable[Entry | Backbone], cache: Cache | None = None) -> list[dict[str, Any]]:
    """Returns declarations as JSON values, each with its `on_disk`: see `zoo.fetch.places.PLACES`."""
    cache = cache or Cache()
    return [
        {**entry.model_dump(mode="json"), "on_disk": place_of(entry.checkpoint.url, cache) or None}
        for entry in entries
    ]


def summary_table(summary: Summary) -> Any:
    """Returns a `FittedTable` with a row for each stage of a network, and their sum."""
    stages = summary.stages
    whole: list[Stage | Summary] = [*stages, summary]
    return _table(
        {
            "Stage": [*(stage.name for stage in stages), "all"],
            "Height": [*(str(stage.output_size[0]) for stage in stages), ""],
            "Width": [*(str(stage.output_size[1]) for stage in stages), ""],
            "Channels": [*(str(stage.output_channels) for stage in stages), ""],
            "Parameters": [f"{each.parameters:,}" for each in whole],
            "Mult-adds": [f"{each.multiply_adds / 1e9:,.3f} G" for each in whole],
        },
        ("Channels", "Width", "Height"),
    )


_TEXT_COLUMNS = ("Name", "Backbone", "Training", "Data", "On disk", "Stage")


def _table(columns: Mapping[str, Sequence[str]], leave_out_first: Sequence[str] = ()) -> Any:
    from zoo.reports.tables.terminal import FittedTable

    table = FittedTable(
        header_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
        leave_out_first=leave_out_first,
    )
    for title in columns:
        justify: Any = "left" if title in _TEXT_COLUMNS else "right"
        table.add_column(title.replace("[", "\\["), justify=justify, no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def describe_entry(entry: Entry | Backbone) -> str:
    """Returns everything the registry knows of one entry, as YAML with the published numbers as printed.

    Without `name`, `kind` and `digest` it is what a registry file may say of the entry.
    """
    import yaml

    declared = entry.model_dump(mode="json", exclude_none=True)
    if entry.kind == "panoptic":
        declared.pop("published")
        if entry.published:
            declared["published"] = _published_columns(entry)
    declared["digest"] = entry.digest()
    return str(yaml.safe_dump(declared, sort_keys=False, width=110, allow_unicode=True)).rstrip()


def _published_columns(entry: Entry) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for claim in entry.published:
        columns.setdefault(claim.evaluator, {})[claim.metric] = str(claim.value)
    return {**columns, "source": entry.published[0].source}
