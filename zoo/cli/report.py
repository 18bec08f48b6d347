"""The commands `zoo report ...`: tables from the registry and from run records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli import report_pages as cli_report_pages
from zoo.cli.output import AsJson, console, expect_one_of, print_json
from zoo.cli.registry import chosen_registry, reads_registry

report_app = typer.Typer(help="Tables and pages from the registry and run records.", no_args_is_help=True)
cli_report_pages.register(report_app)

Records = Annotated[
    list[Path],
    typer.Argument(metavar="RECORD", help="Run records, the folders of runs, or folders above them."),
]
OneTable = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only the table of this data set: cityscapes or coco.")
]


@report_app.command("diff")
def report_diff(
    records: Records,
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, or json.")] = "terminal",
) -> None:
    """Show published, measured, difference and verdict of run records.

    Example: `zoo report diff runs/minicity__mobilenet_v3_small_os16 --format markdown`
    """
    expect_one_of("--format", form, ("terminal", "markdown", "csv", "json"))
    from zoo.reports.runs import record_files
    from zoo.reports.tables import run_table as table
    from zoo.repro.records.record import read_record

    forms: dict[str, Any] = {"markdown": table.markdown, "csv": table.as_csv, "json": table.as_json}
    found = [read_record(path) for path in record_files(records)]
    if form == "terminal":
        console().print(table.terminal(found))
    else:
        sys.stdout.write(forms[form](found))


@report_app.command("published")
@reads_registry
def report_published(dataset: OneTable = None) -> None:
    """Print the published tables again from the registry, byte for byte.

    Example: `zoo report published --dataset cityscapes`
    """
    from zoo.reports.tables.published import published_tables

    sys.stdout.write(published_tables(chosen_registry(), dataset))


@report_app.command("measured")
@reads_registry
def report_measured(records: Records) -> None:
    """Print the published tables with the numbers of run records in them.

    Numbers are rounded as the published ones; what was not run is blank. Bundled entries have a table of
    their own. Of several runs of an entry in a folder above them, the newest counts, and before all others
    one over all images with the settings of the published numbers.

    Example: `zoo report measured runs`
    """
    from zoo.reports.runs import find_runs, one_of_each_entry
    from zoo.reports.tables.measured import measured_tables, read_measured

    registry = chosen_registry()
    named = [path for path in records if not path.is_dir() or (path / "record.json").exists()]
    runs = find_runs(path for path in records if path not in named)
    chosen = one_of_each_entry(runs)
    for run in runs:
        if run not in chosen:
            typer.echo(f"zoo: left out: {run.path}: another run of {run.entry}", err=True)
    paths = [*named, *(run.path for run in chosen)]
    sys.stdout.write(measured_tables(registry, map(read_measured, paths)))


@report_app.command("write")
@reads_registry
def report_write(
    folder: Annotated[Path, typer.Option(help="Where the generated files are.")] = Path("reports"),
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit code 1 if a file is not as it would be written."),
    ] = False,
) -> None:
    """Write the generated tables of a checkout again, or check that they are up to date.

    Example: `zoo report write --check`
    """
    from zoo.reports.tables import generated

    if not check:
        for path in generated.write_generated(chosen_registry(), folder):
            typer.echo(f"{path}: written")
        return
    stale = generated.stale_files(chosen_registry(), folder)
    if stale:
        names = ", ".join(map(str, stale))
        typer.echo(f"zoo: {names}: not as generated from the registry; run `{generated.COMMAND}`", err=True)
        raise typer.Exit(1)


@report_app.command("lint")
@reads_registry
def report_lint(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Markdown with tables like the published ones.")
    ],
    dataset: OneTable = None,
    as_json: AsJson = False,
) -> None:
    """Compare the tables of a Markdown file with the registry: numbers, links, rows and columns.

    One line for each difference. Irregularities of upstream's that the registry records are listed as known.
    Links are compared, not followed. Exit code: 0 nothing else was found, 1 there are differences, 2 usage,
    3 no such file or table.

    Example: `zoo report lint g3doc/projects/panoptic_deeplab.md`
    """
    from zoo.reports.lint.lint import lint_file

    report = lint_file(file, chosen_registry(), dataset)
    if as_json:
        print_json(report.to_json())
    elif report.findings:
        typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)
