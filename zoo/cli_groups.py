"""The commands `zoo cache ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli_output import AsJson, print_json

cache_app = typer.Typer(help="The download cache: where it is, how large, and pruning.", no_args_is_help=True)


@cache_app.command("show")
def cache_show(as_json: AsJson = False) -> None:
    """Show where the cache is and how large each part of it is.

    Example: `zoo cache show --json`
    """
    from zoo.cache import Cache

    description = Cache().describe()
    if as_json:
        print_json(description.to_json())
    else:
        typer.echo(str(description))


@cache_app.command("prune")
def cache_prune(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND...]", help="Parts of the cache; all where none is given."),
    ] = None,
    older_than_days: Annotated[
        float | None, typer.Option(help="Only what was not used for so many days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove cached files that no process is using; results of runs are never removed.

    Example: `zoo cache prune downloads --older-than-days 30 --dry-run`
    """
    from zoo.cache import Cache

    pruned = Cache().prune(kinds=kinds or None, older_than_days=older_than_days, dry_run=dry_run)
    if as_json:
        print_json(pruned.to_json())
    else:
        typer.echo(str(pruned))
