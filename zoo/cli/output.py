"""How commands print and end: JSON for programs, tables for people, both on stdout; verdicts as codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from zoo.files.progress import say
from zoo.files.words import visible

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 200
"""Characters of a line that no terminal shows: programs want no wrapping at a width that nobody asked for."""


def print_json(value: Any) -> None:
    """Prints one JSON value; what JSON cannot hold becomes text."""
    print_text(json.dumps(value, indent=1, default=str))


def print_text(text: str) -> None:
    """Prints a text on stdout, and an end of line where it has none; what a terminal obeys is written out."""
    typer.echo(visible(text.removesuffix("\n")))


def print_each(values: list[Any]) -> None:
    """Prints what a command found for each of its names: one object for one, a list for several."""
    print_json(values[0] if len(values) == 1 else values)


def print_reports(reports: Sequence[Any], *, as_json: bool) -> None:
    """Prints reports, which have `to_json()` and `str()`, one for each name of a command."""
    if as_json:
        print_each([report.to_json() for report in reports])
        return
    for report in reports:
        print_text(str(report))


def console() -> Console:
    """Returns a console on stdout; what a terminal obeys is written out, but for its own colours."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render(self, *renderable: Any, **options: Any) -> Iterator[Segment]:
            for part in super().render(*renderable, **options):
                yield part if part.control else Segment(visible(part.text), part.style)

    return Plain(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def exit_with_verdict(records: Sequence[Mapping[str, Any]], *, strict: bool) -> None:
    """Says which records have claims that were not judged, and exits with a code where not all is well."""
    from zoo.repro.records.claims import UNJUDGED_EXIT_CODE, all_hold, unjudged
    from zoo.repro.records.record import run_name

    reasons = {run_name(record): unjudged(record["claims"]) for record in records}
    for record in records:
        # Of predictions nothing is published; whoever gives no claim need not be told that none is judged.
        if record["entry"] is None and not record["claims"]:
            reasons[run_name(record)] = "nothing judged: no --claim was given" if strict else None
    for name, reason in reasons.items():
        if reason is not None:
            say(f"{name}: {reason}")
    if not all(all_hold(record["claims"]) for record in records):
        raise typer.Exit(1)
    if strict and any(reasons.values()):
        raise typer.Exit(UNJUDGED_EXIT_CODE)
