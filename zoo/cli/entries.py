"""The commands `zoo list` and `zoo show`, and the tables that they print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import AsJson, Name, chosen_registry, reads_registry
from zoo.cli.output import PIPED_WIDTH, console, print_json, print_text
from zoo.errors import UsageError
from zoo.repro.records.claim_words import (
    CLAIM_ORDER,
    EVALUATOR_MARKS,
    EVALUATORS,
    HEADLINE_METRICS,
    LEGEND,
    NOT_MEASURABLE,
    SERVER,
    metric_title,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from zoo.model.summary import Stage, Summary
    from zoo.registry.schema import Backbone, Entry

ListForm = Enum(
    "ListForm", {"table": "table", "csv": "csv", "json": "json", "markdown": "markdown"}, type=str
)

_TEXT_COLUMNS = ("Name", "Backbone", "Training", "Data", "On disk", "Stage")

# The columns that a narrow terminal leaves out, in this order; `zoo show` prints them all.
_LEFT_OUT_FIRST = (
    *("Data", "Training"),
    *("PQ stuff [server]", "PQ things [server]", "PQ [server]", "PQ stuff [*]", "PQ things [*]"),
    *("Mult-adds", "Parameters", "Input", "AP [*]", "On disk", "Stride"),
    *("Backbone", "AP [**]", "mIoU [**]", "PQ [**]", "mIoU [*]", "PQ [*]"),
)


@reads_registry
def list_entries(
    pattern: Annotated[
        list[str] | None, typer.Argument(help="Names or globs, e.g. `'cityscapes/*'`.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only entries of this data set.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Only entries with this backbone: a name, a title, a part of one, or a glob."),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="Only entries of this project of upstream's, e.g. axial_deeplab.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="name, parameters, multiply_adds, or a published number: pq, miou, ap, internal_pq, ...",
        ),
    ] = None,
    backbones: Annotated[
        bool,
        typer.Option("--backbones", help="List the ImageNet backbones to start a training from instead."),
    ] = False,
    form: Annotated[ListForm, typer.Option("--format", help="How to print them.")] = ListForm.table,
    as_json: AsJson = False,
) -> None:
    """List the entries with their published numbers.

    The column *On disk* says where a checkpoint is found without a download: `cache`, `bundled`, or `disk`.
    [*] numbers are from the official scripts, [**] from the reference implementation's pipeline; those of a
    [server] are not measurable here.
    `--format csv` has unrounded sizes, URLs, and the published numbers as printed.

    Examples: `zoo list`, `zoo list 'coco/*' --sort pq`, `zoo list --dataset cityscapes --format csv`
    """
    if as_json and form not in ("table", "json"):
        raise UsageError(f"--json: expected no --format {form.value} with it")
    form = ListForm.json if as_json else form
    registry = chosen_registry()
    if backbones:
        if dataset or backbone or project or sort:
            raise UsageError("--backbones: expected no --dataset, --backbone, --project or --sort with it")
        networks = registry.select_backbones(pattern or [])
        _print_list(form, networks, backbones_columns(networks))
        return
    entries = registry.select(pattern or [], dataset=dataset, backbone=backbone, project=project)
    if sort is not None:
        entries = sort_entries(entries, sort)
    _print_list(form, entries, entries_columns(entries))
    if form == "table" and sys.stdout.isatty():
        print_text(f"\n{LEGEND}")


def _print_list(form: ListForm, listed: Sequence[Any], columns: Mapping[str, Sequence[str]]) -> None:
    if form == "json":
        print_json(_declarations(listed))
    elif form == "csv":
        print_text(_csv(listed))
    elif form == "markdown":
        from zoo.reports.tables.markdown_table import aligned_text

        numbers = columns.keys() - set(_TEXT_COLUMNS)
        print_text(aligned_text(list(columns), zip(*columns.values(), strict=True), numbers))
    else:
        _print_table(columns)


def _print_table(columns: Mapping[str, Sequence[str]]) -> None:
    """Prints what `_table` shows; on a pipe without `rich`, whose import takes a good part of the time."""
    widths = {title: max(map(len, (title, *cells))) for title, cells in columns.items()}
    left_out = []
    for title in _LEFT_OUT_FIRST:
        if sum(widths.values()) + 2 * len(widths) - 2 <= PIPED_WIDTH:
            break
        if widths.pop(title, None):
            left_out.append(title)
    sides = ["<" if title in _TEXT_COLUMNS else ">" for title in widths]
    rows = zip(*((title, *columns[title]) for title in widths), strict=True)
    lines = ["  ".join(map("{:{}{}}".format, row, sides, widths.values())) for row in rows]
    is_styled = sys.stdout.isatty() or {"FORCE_COLOR", "TTY_COMPATIBLE"} & os.environ.keys()
    if is_styled or len(lines[0]) > PIPED_WIDTH or not "".join(lines).isascii():
        console().print(_table(columns, _LEFT_OUT_FIRST))
        return
    if left_out:
        lines.append(f"Not shown in {PIPED_WIDTH} characters: {', '.join(left_out)}.")
    print_text("\n".join(lines))


def _csv(listed: Sequence[Any]) -> str:
    """Returns a row for each declaration; published numbers with all their digits."""
    from zoo.registry.frames import csv_text, entries_frame, typed_frame

    if listed and listed[0].kind == "panoptic":
        frame = entries_frame(listed)
        for evaluator, metric in CLAIM_ORDER:
            numbers = [_published(entry).get((evaluator, metric), "") for entry in listed]
            frame[f"{evaluator}_{metric}"] = [str(number) for number in numbers]
    else:
        names = ("name", "title", "strategy", "data", "source", "checkpoint")
        rows = [{**dict(each), "checkpoint": each.checkpoint.url} for each in listed]
        frame = typed_frame(rows, dict.fromkeys(names, "string")).set_index("name")
    return csv_text(frame.assign(on_disk=_on_disk(listed)), index=True)


@reads_registry
def show(
    name: Name,
    network: Annotated[
        bool,
        typer.Option(
            "--network", help="Build the network, and show its stages: sizes, parameters, multiply-adds."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show everything the registry knows of one entry.

    With `--network`, exit code 1 means that the size of the built network differs from the declared one.

    Examples: `zoo show cityscapes/resnet50_os32`, `zoo show cityscapes/resnet50_os32 --network`
    """
    entry = chosen_registry().find(name)
    shown: dict[str, Any] = {**entry.model_dump(mode="json"), "digest": entry.digest()}
    if not as_json:
        print_text(describe_entry(entry))
    if not network:
        if as_json:
            print_json(shown)
        return
    from zoo.files.keras_backend import import_backend

    import_backend()
    from zoo.network.entry_summary import summarize_entry

    built = summarize_entry(entry)
    if as_json:
        print_json({**shown, "built": built.to_json()})
    else:
        typer.echo()
        console().print(_summary_table(built.summary))
        print_text(f"\n{built}")
    if not built.ok:
        raise typer.Exit(1)


def _published(entry: Entry) -> dict[tuple[str, str], Decimal]:
    return {(claim.evaluator, claim.metric): claim.value for claim in entry.published}


def _published_as(evaluator: str, metric: str) -> Callable[[Entry], Any]:
    return lambda entry: _published(entry).get((evaluator, metric))


SORT_KEYS: dict[str, tuple[Callable[[Entry], Any], bool]] = {
    "name": (lambda entry: entry.name, False),
    "parameters": (lambda entry: entry.parameters, False),
    "multiply_adds": (lambda entry: entry.multiply_adds, False),
    **{
        f"{evaluator}_{metric}".removeprefix("official_"): (_published_as(evaluator, metric), True)
        for evaluator, metric in CLAIM_ORDER
    },
}
"""`--sort KEY` -> the value to sort by, and whether the largest comes first."""


def sort_entries(entries: Iterable[Entry], key: str) -> list[Entry]:
    """Returns entries sorted by a key of `SORT_KEYS`; those that have no such number come last.

    Raises:
      UsageError: there is no such key.
    """
    if key not in SORT_KEYS:
        raise UsageError(f"--sort {key}: expected one of {', '.join(SORT_KEYS)}")
    value, largest_first = SORT_KEYS[key]
    entries = list(entries)
    known = sorted((e for e in entries if value(e) is not None), key=value, reverse=largest_first)
    return known + [e for e in entries if value(e) is None]


def entries_columns(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Returns title -> cells of a table with a row for each entry: what it is, and its published numbers."""
    columns = {
        "Name": [entry.name for entry in entries],
        "Backbone": [entry.title for entry in entries],
        "Stride": [str(entry.output_stride) for entry in entries],
        "Input": ["{} x {}".format(*entry.input_resolution) for entry in entries],
        "Parameters": ["" if (n := entry.parameters) is None else f"{n / 1e6:.1f} M" for entry in entries],
        "Mult-adds": ["" if (n := entry.multiply_adds) is None else f"{n / 1e9:,.1f} G" for entry in entries],
        "On disk": _on_disk(entries),
    }
    published = [_published(entry) for entry in entries]
    for evaluator, metric in CLAIM_ORDER:
        numbers = [str(values.get((evaluator, metric), "")) for values in published]
        if any(numbers) or (evaluator in EVALUATORS and metric in HEADLINE_METRICS):
            columns[f"{metric_title(metric)} {EVALUATOR_MARKS[evaluator]}"] = numbers
    return columns


def backbones_columns(backbones: Sequence[Backbone]) -> dict[str, list[str]]:
    """Returns title -> cells of a table with a row for each ImageNet backbone."""
    return {
        "Name": [backbone.name for backbone in backbones],
        "Backbone": [backbone.title for backbone in backbones],
        "Training": [backbone.strategy for backbone in backbones],
        "Data": [backbone.data for backbone in backbones],
        "On disk": _on_disk(backbones),
    }


def _declarations(entries: Sequence[Entry | Backbone]) -> list[dict[str, Any]]:
    """Returns declarations as JSON values, each with its `on_disk`: see `zoo.fetch.locations.on_disk`."""
    return [
        {**entry.model_dump(mode="json"), "on_disk": place or None}
        for entry, place in zip(entries, _on_disk(entries), strict=True)
    ]


def _on_disk(entries: Sequence[Entry | Backbone]) -> list[str]:
    from zoo.fetch.locations import on_disk
    from zoo.files.cache import Cache

    cache = Cache()
    return [on_disk(entry.checkpoint.url, cache) for entry in entries]


def _summary_table(summary: Summary) -> Any:
    """Returns a `FittedTable` with a row for each stage of a network, and their sum."""
    stages = summary.stages
    rows: list[Stage | Summary] = [*stages, summary]
    return _table(
        {
            "Stage": [*(stage.name for stage in stages), "all"],
            "Height": [*(str(stage.output_size[0]) for stage in stages), ""],
            "Width": [*(str(stage.output_size[1]) for stage in stages), ""],
            "Channels": [*(str(stage.output_channels) for stage in stages), ""],
            "Parameters": [f"{row.parameters:,}" for row in rows],
            "Mult-adds": [f"{row.multiply_adds / 1e9:,.3f} G" for row in rows],
        },
        ("Channels", "Width", "Height"),
    )


def _table(columns: Mapping[str, Sequence[str]], leave_out_first: Sequence[str]) -> Any:
    from zoo.reports.tables.terminal import FittedTable

    table = FittedTable(
        header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0), leave_out_first=leave_out_first
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
        del declared["published"]
        columns: dict[str, Any] = {}
        for (evaluator, metric), value in _published(entry).items():
            columns.setdefault(evaluator, {})[metric] = str(value)
        if columns:
            declared["published"] = {**columns, "source": entry.published[0].source}
    declared["digest"] = entry.digest()
    text = str(yaml.safe_dump(declared, sort_keys=False, width=110, allow_unicode=True)).rstrip()
    return text.replace(f"\n  {SERVER}:\n", f"\n  {SERVER}:  # {NOT_MEASURABLE}\n")
