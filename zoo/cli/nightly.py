"""The command `zoo nightly`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import (
    AsJson,
    GpusPerActor,
    RayOptions,
    RuntimeOptions,
    Strict,
    chosen_registry,
    data_folders,
    reads_registry,
    registry_files,
    takes_fields,
)
from zoo.cli.output import console, print_json
from zoo.errors import UsageError
from zoo.remote.path import path_at


@dataclass(frozen=True)
class NightOptions:
    """The options that say what a night measures, and within which limits."""

    out: Annotated[Path, typer.Option(help="The folder of all nights.")]
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATASET=DIR", help="The folder or URL of a data set. May be given more than once."
        ),
    ] = None
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download checkpoints and data sets that are not at hand.")
    ] = False
    timeout_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="End an entry that takes longer.")
    ] = None
    memory_gib: Annotated[
        float | None, typer.Option(min=0.01, help="End an entry whose processes hold more memory together.")
    ] = None
    threshold: Annotated[
        float, typer.Option(min=0, help="Percentage points by which a metric may fall since the last night.")
    ] = 0.1
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N images; claims are not judged.")
    ] = None
    strict: Strict = False
    date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The night's date; today's, UTC, by default.")
    ] = None


@reads_registry
@takes_fields
def nightly(
    options: NightOptions,
    network: RuntimeOptions,
    cluster: RayOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Entries or globs; all that are at hand where none is given."),
    ] = None,
    gpus_per_actor: GpusPerActor = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce every entry that is at hand, each in a process of its own, and compare with the last night.

    An entry is at hand where its data are bundled or named, and its checkpoint is bundled, in the cache, or a
    local file. One that fails, crashes, or exceeds a limit does not stop the others. A night that was stopped
    resumes when it is called again; a second one of the same date becomes `DATE.2`. With --ray the longest
    entries go first, and two at a time share the workers; limits hold for what runs here.

    Exit code: 0 every claim that was judged holds and nothing fell, 1 a claim was missed or a metric fell,
    2 usage, 3 an entry could not run, 4 with --strict: not judged, 130 interrupted.

    Examples: `zoo nightly --out nights`,
    `zoo nightly 'cityscapes/*' --data cityscapes=~/cityscapes --timeout-minutes 90 --out nights`
    """
    network_settings = network.settings()
    if network.model is not None and len(names or []) != 1:
        raise UsageError(f"--model {network.model}: expected the one entry whose network it is, as NAME")
    from zoo.reports.tables.night_summary import print_summary
    from zoo.repro.nights.nightly import NightSettings, run_night

    registry = chosen_registry()
    minutes, gib = options.timeout_minutes, options.memory_gib
    settings = NightSettings(
        **network_settings,
        data=data_folders(options.data or [], registry),
        fetch=options.fetch,
        timeout_s=None if minutes is None else minutes * 60,
        memory_bytes=None if gib is None else int(gib * 2**30),
        limit=options.limit,
        threshold=options.threshold,
        strict=options.strict,
        date=options.date,
        workers=cluster.workers(gpus_per_actor),
        registry_files=tuple(path_at(path).absolute() for path in registry_files),
    )
    summary = run_night(registry, names or [], options.out.expanduser().absolute(), settings)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary, console())
    if summary["exit_code"]:
        raise typer.Exit(summary["exit_code"])
