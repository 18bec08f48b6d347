"""The command line: commands parse, call, and print; data to stdout, progress and messages to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from zoo.errors import InterruptedRunError, UsageError, ZooError
from zoo.quiet import import_tensorflow

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.registry import Registry

# What the parser raises on a wrong call; its module differs between versions of Typer.
_ParserError: Any = typer.BadParameter.__base__


class _Commands(TyperGroup):
    """The commands; the parser's errors and an interrupt become one line each, like all other errors."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _errors_of_one_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _errors_of_one_line():
            return super().invoke(ctx)


@contextmanager
def _errors_of_one_line() -> Iterator[None]:
    try:
        yield
    except _ParserError as error:
        # A call without any arguments is answered with the help text, which is this error's message.
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        command = error.ctx.command_path if error.ctx is not None else "zoo"
        raise UsageError(f"{error.format_message().rstrip('.')}; `{command} --help` shows how") from None
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted") from None


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"zoo {version('panoptic-zoo')}")
        raise typer.Exit


app = typer.Typer(
    name="zoo",
    cls=_Commands,
    help="Panoptic-DeepLab models: list, fetch, verify, and reproduce their published numbers.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(help="The download cache: where it is, how large, and pruning.", no_args_is_help=True)
report_app = typer.Typer(help="Tables from run records.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
app.add_typer(report_app, name="report")

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON value on stdout and nothing else there.")
]

_registry_files: list[Path] = []


@app.callback()
def options(
    registry: Annotated[
        list[Path] | None,
        typer.Option(
            "--registry",
            metavar="FILE",
            help="A registry file of your own, beside the built-in one. May be given more than once.",
            envvar=None,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options that come before the command."""
    _registry_files[:] = registry or []


def _registry() -> Registry:
    from zoo.registry import load_registry

    return load_registry(_registry_files)


def _complete_name(incomplete: str) -> list[str]:
    try:
        registry = _registry()
        known = [entry.name for entry in (*registry.entries, *registry.backbones)]
        return [name for name in known if name.startswith(incomplete)]
    except ZooError:
        return []


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="An entry, as `zoo list` prints it.", autocompletion=_complete_name),
]


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=str))


def _console() -> Console:
    from rich.console import Console

    # Piped output is for programs: no wrapping at a width that nobody asked for.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


@app.command("list")
def list_entries(
    pattern: Annotated[
        list[str] | None, typer.Argument(help="Names or globs, e.g. `'cityscapes/*'`.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only entries of this data set.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Only entries with this backbone.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the entries with their published numbers.

    Examples: `zoo list`, `zoo list 'coco/*'`, `zoo list --dataset cityscapes --json`
    """
    entries = _registry().select(pattern or [], dataset=dataset, backbone=backbone)
    if as_json:
        _print_json([entry.model_dump(mode="json") for entry in entries])
        return
    from zoo.listing import entries_table

    console = _console()
    console.print(entries_table(entries, console.width if sys.stdout.isatty() else None))


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show everything the registry knows of one entry.

    Example: `zoo show cityscapes/resnet50_os32`
    """
    entry = _registry().find(name)
    if as_json:
        _print_json({**entry.model_dump(mode="json"), "digest": entry.digest()})
        return
    from zoo.listing import describe_entry

    typer.echo(describe_entry(entry))


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", autocompletion=_complete_name)],
    as_json: AsJson = False,
) -> None:
    """Download, verify and unpack checkpoints into the cache.

    Example: `zoo fetch cityscapes/resnet50_os32`
    """
    from zoo.fetching import fetch_checkpoint

    registry = _registry()
    found = []
    for entry in [registry.find(name) for name in names]:
        checkpoint = fetch_checkpoint(entry)
        found.append(
            {
                "entry": entry.name,
                "checkpoint": str(checkpoint.prefix),
                "sha256": checkpoint.sha256,
                "bytes": checkpoint.bytes,
                "url": checkpoint.url,
            }
        )
        if not as_json:
            typer.echo(f"{entry.name}: {checkpoint.prefix}")
    if as_json:
        _print_json(found)


@app.command()
def verify(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", autocompletion=_complete_name)],
    accept: Annotated[
        bool, typer.Option("--accept", help="Record the files as they are now as the ones to expect.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read fetched files again, whole, and check every digest down to each tensor's own.

    Example: `zoo verify minicity/mobilenet_v3_small_os16`
    """
    import_tensorflow()
    from zoo.fetching import verify_entry

    registry = _registry()
    reports = [verify_entry(registry.find(name), accept=accept) for name in names]
    if as_json:
        _print_json([report.to_json() for report in reports])
        return
    for report in reports:
        typer.echo(str(report))


@app.command("load-check")
def load_check(
    name: Name,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Another checkpoint: a prefix, a folder, or an archive.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the network, restore its checkpoint, and print the receipt.

    Example: `zoo load-check minicity/mobilenet_v3_small_os16`
    """
    import_tensorflow()
    from zoo.loading import load_check as check

    receipt = check(name, checkpoint=checkpoint, registry=_registry())
    if as_json:
        _print_json(receipt.to_json())
    else:
        typer.echo(str(receipt))


@app.command()
def reproduce(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", autocompletion=_complete_name)],
    data: Annotated[
        Path | None, typer.Option(help="The data set's folder. Bundled entries bring their own.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N images; claims are not judged.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the run keeps its files. The default is in the cache.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu, gpu:N, tpu, or tpu:NAME.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    scales: Annotated[str, typer.Option(help="Scales to average over, e.g. 0.75,1,1.25.")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an unfinished run instead of going on with it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate entries and compare with the published numbers.

    One pass over the images feeds the official scripts and the internal metrics. A run that was stopped
    goes on where it was. Exit code: 0 every claim holds, 1 a claim was missed, 2 usage, 3 could not run.

    Examples: `zoo reproduce minicity/mobilenet_v3_small_os16`,
    `zoo reproduce cityscapes/resnet50_os32 --data ~/cityscapes --limit 50`
    """
    registry = _registry()
    entries = [registry.resolve(name) for name in names]

    from zoo.reports.table import terminal
    from zoo.repro.claims import all_hold
    from zoo.repro.run import RunSettings, reproduce_entry

    settings = RunSettings(limit=limit, device=device, precision=precision, scales=_scales(scales), flip=flip)
    records = []
    for entry in entries:
        record = reproduce_entry(
            entry, registry=registry, data=data, out=out, settings=settings, restart=restart
        )
        records.append(record)
        if not as_json:
            _console().print(terminal([record]))
    if as_json:
        _print_json(records[0] if len(records) == 1 else records)
    if not all(all_hold(record["claims"]) for record in records):
        raise typer.Exit(1)


@cache_app.command("show")
def cache_show(as_json: AsJson = False) -> None:
    """Show where the cache is and how large each part of it is.

    Example: `zoo cache show --json`
    """
    from zoo.cache import Cache

    description = Cache().describe()
    if as_json:
        _print_json(description.to_json())
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
        _print_json(pruned.to_json())
    else:
        typer.echo(str(pruned))


@report_app.command("diff")
def report_diff(
    records: Annotated[
        list[Path], typer.Argument(metavar="RECORD...", help="Run records, or the folders of runs.")
    ],
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, or json.")] = "terminal",
) -> None:
    """Show published, measured, difference and verdict of run records.

    Example: `zoo report diff runs/minicity__mobilenet_v3_small_os16 --format markdown`
    """
    from zoo.reports import table
    from zoo.repro.record import read_record

    forms: dict[str, Any] = {"markdown": table.markdown, "csv": table.as_csv, "json": table.as_json}
    if form not in (*forms, "terminal"):
        raise UsageError(f"--format {form}: expected terminal, markdown, csv or json")
    found = [read_record(path) for path in records]
    if form == "terminal":
        _console().print(table.terminal(found))
    else:
        sys.stdout.write(forms[form](found))


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or any(not 0.1 <= scale <= 4 for scale in scales):
        raise UsageError(
            f"--scales {text}: expected numbers from 0.1 to 4 with commas between, e.g. 0.75,1,1.25"
        )
    return scales


def main() -> None:
    """Runs the command line; a user's mistake ends in one line on stderr, never a traceback."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except ZooError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", InterruptedRunError.exit_code)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has left. What is still buffered would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        _fail(f"{where}{reason}; check the path, its permissions, and the free space", ZooError.exit_code)


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"zoo: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
