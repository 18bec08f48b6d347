"""How commands print: JSON for programs, tables for people, both on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON alone on stdout: one object, or a list from `list` and for several names.",
    ),
]
"""The option of every command that can print JSON."""


def print_json(value: Any) -> None:
    """Prints one JSON value; what JSON cannot hold becomes text."""
    typer.echo(json.dumps(value, indent=1, default=str))


def print_each(values: list[Any]) -> None:
    """Prints what a command found for each of its names: one object for one, a list for several."""
    print_json(values[0] if len(values) == 1 else values)


def console() -> Console:
    """Returns a console on stdout."""
    from rich.console import Console

    # Piped output is for programs: no wrapping at a width that nobody asked for.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def expect_one_of(option: str, value: str, choices: Sequence[str]) -> None:
    """Checks an option that takes one of a few words.

    Raises:
      UsageError: it is none of them.
    """
    if value not in choices:
        listed = " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
        raise UsageError(f"{option} {value}: expected {listed}")
