"""The command `zoo reproduce`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson, DeviceName, Names, chosen_registry, data_folders, reads_registry
from zoo.cli.output import console, print_each
from zoo.errors import UsageError

Precision = Enum("Precision", {"float32": "float32", "bfloat16": "bfloat16"}, type=str)

Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DIR",
        help="The data set's folder; DATASET=DIR, once for each, where entries need several data sets. "
        "Bundled entries bring their own.",
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only the first N images, with 95 % intervals for all.")
]
Out = Annotated[Path | None, typer.Option(help="Where the run keeps its files. The default is in the cache.")]
PrecisionName = Annotated[Precision, typer.Option(help="What convolutions compute in.")]
Scales = Annotated[str, typer.Option(help="Scales to average over, e.g. 0.75,1,1.25.")]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]
Restart = Annotated[bool, typer.Option("--restart", help="Discard an unfinished run instead of resuming it.")]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Leave out images that cannot be used; claims are not judged then."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit code 4 where a claim was not judged, or nothing published.")
]


@reads_registry
def reproduce(
    names: Names,
    data: Data = None,
    limit: Limit = None,
    out: Out = None,
    device: DeviceName = "auto",
    precision: PrecisionName = Precision.float32,
    scales: Scales = "1",
    flip: Flip = False,
    restart: Restart = False,
    keep_going: KeepGoing = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate entries and compare with the published numbers.

    One pass over the images feeds the official scripts and the internal metrics. A run that was stopped
    resumes where it was. Results of different settings are kept beside each other; results of the same
    settings are replaced when the new ones are complete.

    Exit code: 0 every claim that was judged holds (the last line says which was not), 1 a claim was missed,
    2 usage, 3 could not run, 4 with --strict: not judged.

    Examples: `zoo reproduce minicity/mobilenet_v3_small_os16`,
    `zoo reproduce cityscapes/resnet50_os32 --data ~/cityscapes --limit 50`
    """
    registry = chosen_registry()
    entries = registry.resolve_all(names)
    from zoo.network.devices import parse_device

    # Before TensorFlow is imported, which takes seconds.
    parse_device(device)
    averaged_scales = _parse_scales(scales)
    needed = {entry.dataset: entry.name for entry in entries}
    folders = data_folders(data or [], registry, next(iter(needed)) if len(needed) == 1 else None)
    for dataset in folders.keys() - needed.keys():
        raise UsageError(f"--data {dataset}=…: expected a data set of the entries, {' or '.join(needed)}")

    from zoo.fetch.fetcher import Fetcher
    from zoo.files.progress import say
    from zoo.reports.tables.claim_table import terminal
    from zoo.repro.datasets.opening import open_dataset
    from zoo.repro.records.claims import UNJUDGED_EXIT_CODE, all_hold, unjudged
    from zoo.repro.run.reproduce import reproduce_entry
    from zoo.repro.run.settings import RunSettings

    settings = RunSettings(limit, device, precision.value, averaged_scales, flip, keep_going, restart)
    fetcher = Fetcher()
    if len(entries) > 1:
        # A mistake in the last one's data is told now, not after hours with the others.
        for dataset, name in needed.items():
            open_dataset(
                registry.dataset(dataset),
                folders.get(dataset),
                fetcher,
                keep_going=keep_going,
                needed_by=name,
            )
    records = []
    for entry in entries:
        record = reproduce_entry(
            entry,
            registry=registry,
            data=folders.get(entry.dataset),
            out=out,
            settings=settings,
            fetcher=fetcher,
        )
        records.append(record)
        if not as_json:
            console().print(terminal([record]))
    if as_json:
        print_each(records)
    reasons = {record["entry"]: unjudged(record["claims"]) for record in records}
    for name, reason in reasons.items():
        if reason is not None:
            say(f"{name}: {reason}")
    if not all(all_hold(record["claims"]) for record in records):
        raise typer.Exit(1)
    if strict and any(reasons.values()):
        raise typer.Exit(UNJUDGED_EXIT_CODE)


def _parse_scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or any(not 0.1 <= scale <= 4 for scale in scales):
        raise UsageError(
            f"--scales {text}: expected numbers from 0.1 to 4 with commas between, e.g. 0.75,1,1.25"
        )
    return scales
