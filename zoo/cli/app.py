"""The command line: commands parse, call, and print; data to stdout, progress and messages to stderr."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from zoo.cli.options import RegistryFiles, registry_files
from zoo.errors import InterruptedRunError, RegistryError, UsageError, ZooError
from zoo.files.progress import say
from zoo.files.tensorflow import keep_feature_maps

_PLACES = {
    "list": "entries:list_entries",
    "show": "entries:show",
    "fetch": "checkpoints:fetch",
    "verify": "checkpoints:verify",
    "load-check": "checkpoints:load_check",
    "convert": "checkpoints:convert",
    "export": "checkpoints:export",
    "predict": "predict:predict",
    "reproduce": "reproduce:reproduce",
    "score": "score:score",
    "explain": "report:explain",
    "nightly": "nightly:nightly",
    "doctor": "installation:doctor",
    "cache": "installation:cache_app",
    "data": "data:data_app",
    "registry": "registry:registry_app",
    "report": "report:report_app",
}
"""Command, or group of commands -> the module of this folder that has it, and its name there."""

# What the parser raises on a wrong call; its module differs between versions of Typer.
_ParserError: Any = typer.BadParameter.__base__


# The message of the parser about a value that is not one of an option's choices.
_NOT_A_CHOICE = re.compile(r"Invalid value for '(--[\w-]+)': (?:Value error, )?'(.*)' is not one of (.+)")


def _expected_choice(refused: re.Match[str]) -> str:
    option, value, choices = refused.groups()
    return f"{option} {value}: expected {' or '.join(choices.replace(chr(39), '').rsplit(', ', 1))}"


class _CalledCommands(Mapping[str, Any]):
    """The commands by name. The module of one is imported, and its options are read, when it is asked for."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            module, _, attribute = _PLACES[name].partition(":")
            found = getattr(import_module(f"zoo.cli.{module}"), attribute)
            alone = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)
            if isinstance(found, typer.Typer):
                alone.add_typer(found, name=name)
            else:
                alone.command(name)(found)
            self._built[name] = typer.main.get_group(alone).commands[name]
        return self._built[name]

    def __contains__(self, name: object) -> bool:
        return name in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


class _Commands(TyperGroup):
    """The commands; the parser's errors and an interrupt become one line each, like all other errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _CalledCommands()

    def make_context(self, info_name: Any, args: list[str], *more: Any, **options: Any) -> Any:
        with _errors_of_one_line():
            if not options.get("resilient_parsing"):
                _refuse_empty(args)
                args = _with_ray_address(args)
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


def _with_ray_address(words: list[str]) -> list[str]:
    """Returns the words with `auto` after a `--ray` that is followed by no address."""
    if "--ray" not in words:
        return words
    from zoo.repro.cluster.workers import AUTO, is_address

    completed: list[str] = []
    for word, after in itertools.pairwise([*words, ""]):
        completed += [word, AUTO] if word == "--ray" and not is_address(after) else [word]
    return completed


@contextmanager
def _errors_of_one_line() -> Iterator[None]:
    try:
        yield
    except _ParserError as error:
        # A call without any arguments prints the help text, which is this error's message.
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        command = error.ctx.command_path if error.ctx is not None else "zoo"
        reason = re.sub(r"[.,;]? +Did you mean:? (.+)\?$", r" (did you mean \1?)", error.format_message())
        reason = re.sub(r" \(Possible options: (.+)\)$", r" (did you mean \1?)", reason)
        reason = re.sub(_NOT_A_CHOICE, _expected_choice, reason.rstrip("."))
        raise UsageError(f"{reason}; `{command} --help` shows how") from None
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


@app.callback()
def options(
    registry: RegistryFiles = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Reads the options that precede the command."""
    registry_files[:] = registry or []


def main() -> None:
    """Runs the command line; every error is one line on stderr, and none ends in exit code 1."""
    # Python has None for a stream that the caller closed (`zoo list >&-`).
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the program ends
    if sys.stdout is None:
        _fail("standard output is closed; send it to a file or to /dev/null", ZooError.exit_code)
    keep_feature_maps()
    code = 0
    try:
        try:
            # Otherwise the parser would turn an abandoned question into 1.
            code = app(prog_name="zoo", standalone_mode=False) or 0
        finally:
            sys.stdout.flush()
    except _ParserError as error:
        error.show()
        code = UsageError.exit_code
    except ZooError as error:
        _fail(str(error), error.exit_code, error)
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
        # The parser's own `--show-completion` ends like this.
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
    """Returns one line for an error that the user did not cause."""
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


def _fail(message: str, exit_code: int, error: BaseException | None = None) -> NoReturn:
    from zoo.repro.nights.exit_file import write_exit_file

    # A registry error has a line for each problem.
    texts = message.splitlines() if isinstance(error, RegistryError) else [message]
    lines = [" ".join(text.split()) for text in texts]
    write_exit_file("; ".join(lines), exit_code, error)
    for line in lines:
        say(f"error: {line}")
    sys.exit(exit_code)
