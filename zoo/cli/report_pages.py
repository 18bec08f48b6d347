"""The commands `zoo report html`, `zoo report compare` and `zoo report history`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.output import AsJson, console, expect_one_of, print_json
from zoo.errors import UsageError


def register(report_app: typer.Typer) -> None:
    """Adds the commands to `zoo report`."""
    report_app.command("html")(html)
    report_app.command("compare")(compare)
    report_app.command("history")(history)


def html(
    records: Annotated[
        list[Path],
        typer.Argument(metavar="RECORD", help="Run records, the folders of runs, or folders above them."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
) -> None:
    """Write one page for the browser and for paper; it holds all it needs and asks no network.

    It shows published and measured numbers, the best, median and worst image, values per class, confused
    classes and, where there are several records of an entry, what changed over time.

    Example: `zoo report html runs --out report.html`
    """
    from zoo.files.atomic import write_atomically
    from zoo.reports.page.html import page
    from zoo.reports.runs import find_runs

    text = page(find_runs(records))
    write_atomically(out, text)
    print(f"zoo: page: {out} ({len(text.encode()) / 2**20:.1f} MiB)", file=sys.stderr)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A run record, or the folder of a run.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same entry and images.")],
    threshold: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            min=0.0,
            help="By how many percentage points a metric may fall before exit code 1.",
        ),
    ] = 0.1,
    top: Annotated[int, typer.Option(metavar="N", min=0, help="How many classes and images to show.")] = 10,
    form: Annotated[str, typer.Option("--format", help="terminal or markdown.")] = "terminal",
    as_json: AsJson = False,
) -> None:
    """Say what changed from run A to run B: metrics, classes, and the images that moved most.

    Exit code: 0 no metric fell by more than the threshold, 1 one did, 3 the runs cannot be compared (another
    entry, other data, other images). Other settings and versions are what a comparison is for: they are
    listed.

    Example: `zoo report compare runs/float32 runs/bfloat16 --threshold 0.2`
    """
    expect_one_of("--format", form, ("terminal", "markdown"))
    from zoo.reports.runs import open_run
    from zoo.reports.tables.compare import compare_runs, markdown, to_json, write_terminal

    found = compare_runs(open_run(before), open_run(after), threshold=threshold)
    if as_json:
        print_json(to_json(found))
    elif form == "markdown":
        sys.stdout.write(markdown(found, top))
    else:
        write_terminal(found, top, console())
    if found.fallen:
        raise typer.Exit(1)


def history(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An entry, as in the records.")],
    records: Annotated[
        list[Path],
        typer.Option(metavar="DIR", help="A folder with run records below it. May be given more than once."),
    ],
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the metrics over time, changes marked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what was measured for an entry over time, and what changed in between.

    Runs of other settings (precision, scales, images) have a history of their own.

    Example: `zoo report history minicity/mobilenet_v3_small_os16 --records nightly --picture history.svg`
    """
    if picture is not None and picture.suffix.lower() != ".svg":
        raise UsageError(f"--picture {picture}: expected a file name that ends in .svg")
    from zoo.files.atomic import write_atomically
    from zoo.reports.page.history_chart import history_picture
    from zoo.reports.runs import find_runs
    from zoo.reports.tables.history import as_json as to_json
    from zoo.reports.tables.history import histories, select_entry, terminal

    found = histories(select_entry(find_runs(records), name, ", ".join(map(str, records))))
    if picture is not None:
        write_atomically(picture, history_picture(found) + "\n")
    if as_json:
        print_json(to_json(point for points in found for point in points))
    else:
        for points in found:
            console().print(terminal(points))
