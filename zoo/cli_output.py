"""How commands print: JSON for programs, tables for people, both on stdout."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON value on stdout and nothing else there.")
]
"""The option of every command that can print JSON."""


def print_json(value: Any) -> None:
    """Prints one JSON value; what JSON cannot hold becomes text."""
    typer.echo(json.dumps(value, indent=1, default=str))


def console() -> Console:
    """Returns a console on stdout."""
    from rich.console import Console

    # Piped output is for programs: no wrapping at a width that nobody asked for.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)
