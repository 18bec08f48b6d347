"""The command `zoo reproduce`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import (
    AsJson,
    DataCache,
    GpusPerActor,
    KeepGoing,
    Limit,
    Names,
    NetworkOptions,
    RayOptions,
    Restart,
    RunsFolder,
    Strict,
    chosen_registry,
    data_folders,
    reads_registry,
    takes_fields,
)
from zoo.cli.output import console, exit_with_verdict, print_each
from zoo.errors import UsageError
from zoo.remote.path import path_at
from zoo.runtimes.choice import DEFAULT

if TYPE_CHECKING:
    from zoo.registry import Entry, Registry
    from zoo.repro.run.settings import RunSettings


@dataclass(frozen=True)
class RunOptions:
    """The options that say how runs are made."""

    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="The data set's folder or URL (s3://, gs://, https://); DATASET=DIR, once for each, where "
            "entries need several data sets. Bundled entries bring their own.",
        ),
    ] = None
    data_cache: DataCache = None
    limit: Limit = None
    out: RunsFolder = None
    restart: Restart = False
    keep_going: KeepGoing = False


@reads_registry
@takes_fields
def reproduce(
    names: Names,
    run: RunOptions,
    network: NetworkOptions,
    cluster: RayOptions,
    gpus_per_actor: GpusPerActor = None,
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
    out = None if run.out is None else path_at(run.out)
    # Before TensorFlow is imported, which takes seconds.
    network_settings, workers = network.settings(), cluster.workers(gpus_per_actor)
    folders = _needed_folders(run, entries, registry)

    from zoo.reports.tables.claim_table import terminal
    from zoo.repro.run.settings import RunSettings

    settings = RunSettings(
        **network_settings,
        limit=run.limit,
        keep_going=run.keep_going,
        restart=run.restart,
        workers=workers,
    )
    records = []
    for record in _run(entries, registry, folders, out, settings, network):
        records.append(record)
        if not as_json:
            console().print(terminal([record]))
    if as_json:
        print_each(records)
    exit_with_verdict(records, strict=strict)


def _needed_folders(run: RunOptions, entries: Sequence[Entry], registry: Registry) -> dict[str, Path]:
    """Returns data set -> its folder, from the values of `--data`."""
    needed = list(dict.fromkeys(entry.dataset for entry in entries))
    folders = data_folders(run.data or [], registry, needed[0] if len(needed) == 1 else None, run.data_cache)
    for dataset in folders:
        if dataset not in needed:
            names = " or ".join(needed)
            raise UsageError(f"--data {dataset}=…: expected a data set of the entries, {names}")
    return folders


def _run(
    entries: Sequence[Entry],
    registry: Registry,
    folders: Mapping[str, Path],
    out: Path | None,
    settings: RunSettings,
    network: NetworkOptions,
) -> Iterator[dict[str, Any]]:
    """Reproduces entries one after the other, and yields their records."""
    from zoo.fetch.fetcher import Fetcher
    from zoo.network.fastest import say_what_is_faster
    from zoo.repro.cluster.connection import connected
    from zoo.repro.datasets.opening import open_dataset
    from zoo.repro.run.reproduce import reproduce_entry

    fetcher = Fetcher()
    if len(entries) > 1:
        # A mistake in the last one's data is told now, not after hours with the others.
        for dataset, name in {entry.dataset: entry.name for entry in entries}.items():
            declared, folder = registry.dataset(dataset), folders.get(dataset)
            open_dataset(declared, folder, fetcher, keep_going=settings.keep_going, needed_by=name)
    # One connection for all of them.
    with connected(settings.workers) if settings.workers and len(entries) > 1 else nullcontext():
        for entry in entries:
            data, own = folders.get(entry.dataset), network.on_the_fastest(settings, entry, registry)
            record = reproduce_entry(
                entry, registry=registry, data=data, out=out, settings=own, fetcher=fetcher
            )
            yield record
            if own.runtime == DEFAULT and not own.changes_numbers():
                say_what_is_faster(entry, record["checkpoint"]["sha256"], fetcher.cache)
