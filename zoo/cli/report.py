"""The commands `zoo report ...` and `zoo explain`: what run records and the registry say."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.options import AsJson, Records, check_svg_name, chosen_registry, reads_registry, registry_files
from zoo.cli.output import console, print_json, print_text
from zoo.files.progress import say

report_app = typer.Typer(help="Tables and pages from the registry and run records.", no_args_is_help=True)

CompareForm = Enum("CompareForm", {"terminal": "terminal", "markdown": "markdown"}, type=str)
DiffForm = Enum(
    "DiffForm", {"terminal": "terminal", "markdown": "markdown", "csv": "csv", "json": "json"}, type=str
)
ExplainForm = Enum("ExplainForm", {"terminal": "terminal", "markdown": "markdown", "json": "json"}, type=str)
MeasuredForm = Enum("MeasuredForm", {"markdown": "markdown", "csv": "csv", "latex": "latex"}, type=str)
OneTable = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Only the tables of this data set: cityscapes, coco or ade20k."),
]
OneProject = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Only the tables of this project: panoptic_deeplab, axial_deeplab or kmax_deeplab.",
    ),
]


@report_app.command("diff")
def report_diff(
    records: Records,
    form: Annotated[DiffForm, typer.Option("--format", help="How to print them.")] = DiffForm.terminal,
) -> None:
    """Show published, measured, difference and verdict of run records.

    Example: `zoo report diff runs/minicity__mobilenet_v3_small_os16 --format markdown`
    """
    from zoo.reports.runs import record_files
    from zoo.reports.tables import claim_table as table
    from zoo.repro.records.record import read_record

    forms: dict[str, Any] = {"markdown": table.markdown, "csv": table.as_csv, "json": table.as_json}
    found = [read_record(path) for path in record_files(records)]
    if form == "terminal":
        console().print(table.terminal(found))
    else:
        print_text(forms[form.value](found))


@report_app.command("published")
@reads_registry
def report_published(dataset: OneTable = None, project: OneProject = None) -> None:
    """Print the published tables again from the registry, byte for byte.

    Examples: `zoo report published --dataset cityscapes`, `zoo report published --project axial_deeplab`
    """
    from zoo.reports.tables.published import published_tables

    print_text(published_tables(chosen_registry(), dataset, project))


@report_app.command("measured")
@reads_registry
def report_measured(
    records: Records,
    form: Annotated[
        MeasuredForm, typer.Option("--format", help="How to print them.")
    ] = MeasuredForm.markdown,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="One table, with a row for each run and all its metrics.")
    ] = False,
) -> None:
    """Print the published tables with the numbers of run records in them, or runs side by side.

    Numbers are rounded as the published ones; what was not run is blank. Bundled entries have a table of
    their own. Of several runs of an entry in a folder above them, the newest counts, and before all others
    one over all images with the settings of the published numbers. `--format csv` has a row for each number
    of these runs, unrounded; `--format latex` needs the package booktabs. Scored predictions stand side by
    side, below the other tables; where nothing was published of any run, all runs do, and alone.

    Examples: `zoo report measured runs --format latex`, `zoo report measured runs --side-by-side`
    """
    from zoo.reports.tables.measured import measured

    text = measured(*records, form=form.value, side_by_side=side_by_side, registry=registry_files)
    print_text(text)


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
    from zoo.reports.tables import published_page

    if not check:
        for path in published_page.write_generated(chosen_registry(), folder):
            print_text(f"{path}: written")
        return
    stale = published_page.stale_files(chosen_registry(), folder)
    if stale:
        names = ", ".join(map(str, stale))
        say(f"{names}: not as generated from the registry; run `{published_page.COMMAND}`")
        raise typer.Exit(1)


@report_app.command("lint")
@reads_registry
def report_lint(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Markdown with tables like the published ones.")
    ],
    dataset: OneTable = None,
    project: OneProject = None,
    as_json: AsJson = False,
) -> None:
    """Compare the tables of a Markdown file with the registry: numbers, links, rows and columns.

    One line for each difference. Irregularities of upstream's that the registry records are listed as known.
    Links are compared, not followed. Exit code: 0 nothing else was found, 1 there are differences, 2 usage,
    3 no such file or table.

    Example: `zoo report lint g3doc/projects/panoptic_deeplab.md`
    """
    from zoo.reports.lint.markdown_file import lint_file

    report = lint_file(file, chosen_registry(), dataset, project)
    if as_json:
        print_json(report.to_json())
    elif report.findings:
        print_text(str(report))
    if not report.ok:
        raise typer.Exit(1)


@report_app.command("html")
def report_html(
    records: Records,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
) -> None:
    """Write one page for the browser and for paper; it holds all it needs and asks no network.

    It shows published and measured numbers, the best, median and worst image, values per class, confused
    classes and, where there are several records of an entry, what changed over time.

    Example: `zoo report html runs --out report.html`
    """
    from zoo.files.atomic import write_atomically
    from zoo.reports.page.html import html_page

    text = html_page(*records)
    write_atomically(out, text)
    say(f"page: {out} ({len(text.encode()) / 2**20:.1f} MiB)")


@report_app.command("compare")
def report_compare(
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
    form: Annotated[CompareForm, typer.Option("--format", help="How to print it.")] = CompareForm.terminal,
    as_json: AsJson = False,
) -> None:
    """Say what changed from run A to run B: metrics, classes, and the images that moved most.

    Exit code: 0 no metric fell by more than the threshold, 1 one did, 3 the runs cannot be compared (another
    entry, other data, other images). Other settings and versions are what a comparison is for: they are
    listed.

    Example: `zoo report compare runs/float32 runs/bfloat16 --threshold 0.2`
    """
    from zoo.reports.tables.compare import compare, markdown, to_json, write_terminal

    found = compare(before, after, threshold=threshold)
    if as_json:
        print_json(to_json(found))
    elif form == "markdown":
        print_text(markdown(found, top))
    else:
        write_terminal(found, top, console())
    if found.fallen:
        raise typer.Exit(1)


@report_app.command("history")
def report_history(
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
    check_svg_name(picture)
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


def explain(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="The folder of a run, or the record.json in it.")
    ],
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also which classes carry the difference.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw it too, as a picture in this file.")
    ] = None,
    form: Annotated[ExplainForm, typer.Option("--format", help="How to print it.")] = ExplainForm.terminal,
    as_json: AsJson = False,
) -> None:
    """Explain why the internal and the official number of a run differ.

    Recomputes panoptic quality and mean IoU from the run's per-image statistics, with one rule changed at a
    time, until the official script's own number is reached; says how many percentage points each rule is
    worth. From there, on to what PanopticQuality of torchmetrics makes of the same maps.

    Examples: `zoo explain runs/minicity__mobilenet_v3_small_os16`,
    `zoo explain runs/minicity__mobilenet_v3_small_os16 --per-class --picture gap.svg`
    """
    check_svg_name(picture)
    from zoo.files.atomic import write_atomically
    from zoo.reports.explain import step_tables
    from zoo.reports.explain.steps import explain as explain_run
    from zoo.reports.page import waterfall_svg
    from zoo.reports.runs import open_run

    explanation = explain_run(open_run(record).path)
    if picture is not None:
        write_atomically(picture, waterfall_svg.draw(explanation))
    if as_json or form == "json":
        print_json(explanation.to_json())
    elif form == "markdown":
        print_text(step_tables.markdown(explanation, per_class=per_class))
    else:
        console().print(step_tables.terminal(explanation, per_class=per_class))
