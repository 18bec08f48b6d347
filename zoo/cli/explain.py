"""The command `zoo explain`: why the internal and the official number of a run differ."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson, check_svg_name
from zoo.cli.output import console, print_json

Form = Enum("Form", {"terminal": "terminal", "markdown": "markdown", "json": "json"}, type=str)


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
    form: Annotated[Form, typer.Option("--format", help="How to print it.")] = Form.terminal,
    as_json: AsJson = False,
) -> None:
    """Explain why the internal and the official number of a run differ.

    Recomputes panoptic quality and mean IoU from the run's per-image statistics, with one rule changed at a
    time, until the official script's own number is reached; says how many percentage points each rule is
    worth.

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
        sys.stdout.write(step_tables.markdown(explanation, per_class=per_class))
    else:
        console().print(step_tables.terminal(explanation, per_class=per_class))
