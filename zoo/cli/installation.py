"""The commands about this installation: `zoo cache ...`, and `zoo doctor`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from zoo.cli.options import AsJson, chosen_registry, data_folders, reads_registry
from zoo.cli.output import print_json, print_reports
from zoo.errors import UsageError
from zoo.files.cache import Cache
from zoo.files.contents import describe, prune
from zoo.files.progress import say
from zoo.files.words import readable_size

cache_app = typer.Typer(help="The download cache: where it is, how large, and pruning.", no_args_is_help=True)


@cache_app.command("show")
def cache_show(as_json: AsJson = False) -> None:
    """Show where the cache is and how large each part of it is.

    Example: `zoo cache show --json`
    """
    print_reports([describe(Cache())], as_json=as_json)


@cache_app.command("prune")
def cache_prune(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="KIND", help="Parts of the cache; all where none is given."),
    ] = None,
    older_than_days: Annotated[
        float | None, typer.Option(help="Only what was not used for so many days; 0 or more.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove everything without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove cached files that no process is using; results of runs are never removed.

    Without KIND and `--older-than-days` everything is removed: the command asks first, and expects `--yes`
    where nobody can answer.

    Example: `zoo cache prune downloads --older-than-days 30 --dry-run`
    """
    if not (kinds or older_than_days is not None or dry_run or yes) and not _agreed():
        say("nothing was removed")
        return
    pruned = prune(Cache(), kinds=kinds or None, older_than_days=older_than_days, dry_run=dry_run)
    print_reports([pruned], as_json=as_json)


def _agreed() -> bool:
    cache = describe(Cache())
    if not sys.stdin.isatty():
        raise UsageError(
            f"expected --yes, a KIND, or --older-than-days: all of {cache.root} would be removed, "
            f"{readable_size(cache.bytes)}; --dry-run lists it"
        )
    return typer.confirm(f"Remove all of {cache.root}, {readable_size(cache.bytes)}?", err=True)


@reads_registry
def doctor(
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET=DIR", help="A data set to look for. May be given more than once."),
    ] = None,
    run: Annotated[
        bool,
        typer.Option(
            "--run", help="Reproduce the bundled entry too; takes a minute, and decides the exit code."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Describe this installation: versions, devices, runtimes, extras, cache, lock file, data sets.

    Made for reports of errors: it names neither user nor machine, and shortens the home folder to `~`.

    Examples: `zoo doctor`, `zoo doctor --run --json`
    """
    from zoo.installation import describe_installation, readable

    registry = chosen_registry()
    found = describe_installation(registry, data_folders(data or [], registry), reproduces=run)
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(readable(found)))
    if run and found["run"]["exit_code"]:
        raise typer.Exit(found["run"]["exit_code"])
