"""The command line: commands parse, call, and print; data to stdout, progress and messages to stderr."""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from zoo.cli.data import data_app
from zoo.cli.data_folders import data_folders
from zoo.cli.explain import explain
from zoo.cli.groups import cache_app
from zoo.cli.nightly import nightly
from zoo.cli.output import AsJson, console, expect_one_of, print_each, print_json
from zoo.cli.registry import REGISTRY_HELP, chosen_registry, reads_registry, registry_files
from zoo.cli.report import report_app
from zoo.errors import InterruptedRunError, UsageError, ZooError
from zoo.files.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from zoo.registry import Registry

# What the parser raises on a wrong call; its module differs between versions of Typer.
_ParserError: Any = typer.BadParameter.__base__


class _Commands(TyperGroup):
    """The commands; the parser's errors and an interrupt become one line each, like all other errors."""

    def make_context(self, info_name: Any, args: list[str], *more: Any, **options: Any) -> Any:
        with _errors_of_one_line():
            if not options.get("resilient_parsing"):
                _refuse_empty(args)
            return super().make_context(info_name, args, *more, **options)

    def invoke(self, ctx: Any) -> Any:
        with _errors_of_one_line():
            return super().invoke(ctx)


def _refuse_empty(words: list[str]) -> None:
    """Refuses empty arguments: as a path, one would be the current folder."""
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if not word or (equals and not value and option.startswith("--")):
            name = option or (before if before.startswith("-") else "an argument")
            raise UsageError(f"{name}: expected a value, found an empty one; is a variable not set?")


@contextmanager
def _errors_of_one_line() -> Iterator[None]:
    try:
        yield
    except _ParserError as error:
        # A call without any arguments is answered with the help text, which is this error's message.
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        command = error.ctx.command_path if error.ctx is not None else "zoo"
        reason = re.sub(r"[.,;]? +Did you mean:? (.+)\?$", r" (did you mean \1?)", error.format_message())
        reason = re.sub(r" \(Possible options: (.+)\)$", r" (did you mean \1?)", reason)
        raise UsageError(f"{reason.rstrip('.')}; `{command} --help` shows how") from None
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
app.add_typer(cache_app, name="cache")
app.add_typer(data_app, name="data")
app.add_typer(report_app, name="report")


@app.callback()
def options(
    registry: Annotated[
        list[Path] | None,
        typer.Option(
            "--registry",
            metavar="FILE",
            help=REGISTRY_HELP,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Takes the options that come before the command."""
    registry_files[:] = registry or []


def _registry() -> Registry:
    return chosen_registry()


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

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME", help="Entries or globs, e.g. `'cityscapes/*'`.", autocompletion=_complete_name
    ),
]


@app.command("list")
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
    as_json: AsJson = False,
) -> None:
    """List the entries with their published numbers.

    The column *On disk* says where a checkpoint is found without a download: `cache`, `bundled`, or `disk`.
    [*] numbers are from the official scripts, [**] from the reference implementation's pipeline.

    Examples: `zoo list`, `zoo list 'coco/*' --sort pq`, `zoo list --dataset cityscapes --json`
    """
    from zoo.cli import listing

    registry = _registry()
    if backbones:
        if dataset or backbone or sort:
            raise UsageError("--backbones: expected no --dataset, --backbone or --sort with it")
        found = registry.select_backbones(pattern or [])
        if as_json:
            print_json(listing.as_json(found))
        else:
            console().print(listing.backbones_table(found))
        return
    entries = registry.select(pattern or [], dataset=dataset, backbone=backbone)
    if sort is not None:
        entries = listing.sort_entries(entries, sort)
    if as_json:
        print_json(listing.as_json(entries))
        return
    console().print(listing.entries_table(entries))
    if sys.stdout.isatty():
        typer.echo(f"\n{listing.LEGEND}")


@app.command()
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

    With `--network`, exit code 1 means that the built network is not as large as declared.

    Examples: `zoo show cityscapes/resnet50_os32`, `zoo show cityscapes/resnet50_os32 --network`
    """
    entry = _registry().find(name)
    shown: dict[str, Any] = {**entry.model_dump(mode="json"), "digest": entry.digest()}
    from zoo.cli import listing

    if not as_json:
        typer.echo(listing.describe_entry(entry))
    if not network:
        if as_json:
            print_json(shown)
        return
    import_tensorflow()
    from zoo.network.parameters import summarize_entry

    built = summarize_entry(entry)
    if as_json:
        print_json({**shown, "built": built.to_json()})
    else:
        typer.echo()
        console().print(listing.summary_table(built.summary))
        typer.echo(f"\n{built}")
    if not built.ok:
        raise typer.Exit(1)


@app.command()
@reads_registry
def fetch(
    names: Names,
    as_json: AsJson = False,
) -> None:
    """Download, verify and unpack checkpoints into the cache.

    Example: `zoo fetch cityscapes/resnet50_os32`
    """
    from zoo.fetch.entries import fetch_checkpoint

    registry = _registry()
    found = []
    for entry in registry.find_all(names):
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
        print_each(found)


@app.command()
@reads_registry
def verify(
    names: Names,
    accept: Annotated[
        bool, typer.Option("--accept", help="Record the files as they are now as the ones to expect.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="saved_model",
            help="Run the built network and the published SavedModel on one image, and compare.",
        ),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="With --against, the image, PNG or JPEG; a bundled one if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read fetched files again, whole, and check every digest down to each tensor's own.

    A checkpoint that is not on disk yet is downloaded first.

    With `--against saved_model`, compare the network that is built here with the published SavedModel
    instead; exit code 1 if they differ by more than rounding.

    Examples: `zoo verify minicity/mobilenet_v3_small_os16`,
    `zoo verify cityscapes/resnet50_beta_os32 --against saved_model --image street.png`
    """
    if against is not None or image is not None:
        _verify_against(names, against, image, accept=accept, as_json=as_json)
        return
    entries = _registry().find_all(names)
    import_tensorflow()
    from zoo.fetch.entries import verify_entry

    reports = [verify_entry(entry, accept=accept) for entry in entries]
    if as_json:
        print_each([report.to_json() for report in reports])
        return
    for report in reports:
        typer.echo(str(report))


def _verify_against(
    names: list[str], against: str | None, image: Path | None, *, accept: bool, as_json: bool
) -> None:
    if against != "saved_model":
        raise UsageError(
            f"--against {against}: expected saved_model" if against else "--image: needs --against"
        )
    if accept:
        raise UsageError("--accept: expected none with --against, which compares outputs and records nothing")
    if image is not None and not image.is_file():
        raise UsageError(f"--image {image}: no such file")
    registry = _registry()
    entries = registry.resolve_all(names)
    import_tensorflow()
    from zoo.network.load_check import compare_with_saved_model

    reports = [compare_with_saved_model(entry, registry=registry, image_file=image) for entry in entries]
    if as_json:
        print_each([report.to_json() for report in reports])
    else:
        for report in reports:
            typer.echo(str(report))
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@app.command("load-check")
@reads_registry
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
    from zoo.network.loading import load_check as check

    receipt = check(name, checkpoint=checkpoint, registry=_registry())
    if as_json:
        print_json(receipt.to_json())
    else:
        typer.echo(str(receipt))


@app.command()
@reads_registry
def reproduce(
    names: Names,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="The data set's folder; DATASET=DIR, once for each, where entries need several data sets. "
            "Bundled entries bring their own.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N images, with 95 % intervals for all.")
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
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help="Leave out images that cannot be used; claims are not judged then."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 4 where a claim was not judged, or nothing published.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate entries and compare with the published numbers.

    One pass over the images feeds the official scripts and the internal metrics. A run that was stopped
    goes on where it was. Results of other settings are kept beside each other; results of the same are
    replaced when the new ones are complete. Exit code: 0 every claim that was judged holds (the last line
    says which was not), 1 a claim was missed, 2 usage, 3 could not run, 4 with --strict: not judged.

    Examples: `zoo reproduce minicity/mobilenet_v3_small_os16`,
    `zoo reproduce cityscapes/resnet50_os32 --data ~/cityscapes --limit 50`
    """
    registry = _registry()
    entries = registry.resolve_all(names)
    from zoo.network.devices import parse_device

    # Before TensorFlow is imported, which takes seconds.
    parse_device(device)
    expect_one_of("--precision", precision, ("float32", "bfloat16"))
    averaged_scales = _scales(scales)
    needed = {entry.dataset: entry.name for entry in entries}
    folders = data_folders(data or [], registry, next(iter(needed)) if len(needed) == 1 else None)
    for dataset in folders.keys() - needed.keys():
        raise UsageError(f"--data {dataset}=…: expected a data set of the entries, {' or '.join(needed)}")

    from zoo.files.cache import Cache
    from zoo.reports.tables.run_table import terminal
    from zoo.repro.datasets.opening import open_dataset
    from zoo.repro.run.claims import UNJUDGED_EXIT_CODE, all_hold, unjudged
    from zoo.repro.run.reproduce import RunSettings, reproduce_entry, say

    settings = RunSettings(limit=limit, device=device, precision=precision, scales=averaged_scales, flip=flip)
    if len(entries) > 1:
        # A slip in the last one's data is told now, not after hours with the others.
        for dataset, name in needed.items():
            open_dataset(
                registry.dataset(dataset),
                folders.get(dataset),
                Cache(),
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
            restart=restart,
            keep_going=keep_going,
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


app.command()(explain)
app.command()(reads_registry(nightly))


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
    """Runs the command line; every error ends in one line on stderr, and never in exit code 1 by chance."""
    # Python has None for a stream that the caller closed (`zoo list >&-`).
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the program ends
    if sys.stdout is None:
        _fail("standard output is closed; send it to a file or to /dev/null", ZooError.exit_code)
    code = 0
    try:
        try:
            # Otherwise the parser would turn an abandoned question into 1.
            code = app(standalone_mode=False) or 0
        finally:
            sys.stdout.flush()
    except _ParserError as error:
        error.show()
        code = UsageError.exit_code
    except ZooError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", InterruptedRunError.exit_code)
    except BrokenPipeError:
        _leave_reader()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        _fail(f"{where}{reason}; check the path, its permissions, and the free space", ZooError.exit_code)
    except (Exception, SystemExit) as error:
        # Rich and the parser turn a broken pipe into an exit with 1.
        if isinstance(error.__context__, BrokenPipeError):
            _leave_reader()
        # The parser's own `--show-completion` ends so.
        if isinstance(error, SystemExit) and not error.code:
            raise
        _fail(_describe_unexpected(error), ZooError.exit_code)
    sys.exit(code)


def _leave_reader() -> NoReturn:
    """Ends quietly where the reader of a pipe (head, less) has left."""
    # What is still buffered would fail again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(ZooError.exit_code)


def _describe_unexpected(error: BaseException) -> str:
    """Returns one line for an error that is nobody's mistake but ours, or the machine's."""
    if os.environ.get("ZOO_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "there is not enough memory; free some, or use a machine with more"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}, line {frame.lineno}"
    words = shlex.join(sys.argv[1:])
    return (
        f"unexpected {type(error).__name__} in {place}: {str(error)[:200]}; this is a defect: "
        f"please report it with what `ZOO_TRACEBACK=1 zoo {words}` prints"
    )


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"zoo: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
