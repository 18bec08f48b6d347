"""How commands print: JSON for programs, tables for people, both on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def print_json(value: Any) -> None:
    """Prints one JSON value; what JSON cannot hold becomes text."""
    typer.echo(json.dumps(value, indent=1, default=str))


def print_each(values: list[Any]) -> None:
    """Prints what a command found for each of its names: one object for one, a list for several."""
    print_json(values[0] if len(values) == 1 else values)


def print_reports(reports: Sequence[Any], *, as_json: bool) -> None:
    """Prints reports, which have `to_json()` and `str()`, one for each name of a command."""
    if as_json:
        print_each([report.to_json() for report in reports])
        return
    for report in reports:
        typer.echo(str(report))


def console() -> Console:
    """Returns a console on stdout."""
    from rich.console import Console

    # Piped output is for programs: no wrapping at a width that nobody asked for.
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)
