"""The commands `zoo data ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson, chosen_registry, reads_registry
from zoo.cli.output import print_reports

data_app = typer.Typer(help="Data sets: whether a copy is complete and usable.", no_args_is_help=True)


@data_app.command("check")
@reads_registry
def data_check(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="cityscapes, coco, or another data set.")],
    data: Annotated[
        Path | None, typer.Option(help="The data set's folder. Bundled data sets bring their own.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Decode every image with its ground truth; takes minutes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check whether a copy of a data set is complete and can be evaluated.

    Checks the names and headers of all files, reads the annotations whole, and decodes some images; exit
    code 3 where something is missing or wrong.

    Example: `zoo data check coco --data ~/coco`
    """
    from zoo.fetch.fetcher import Fetcher
    from zoo.files.tensorflow import import_tensorflow

    declared = chosen_registry().dataset(dataset)
    import_tensorflow()
    from zoo.repro.datasets.checking import check_dataset

    check = check_dataset(declared, data, Fetcher(), full=full)
    print_reports([check], as_json=as_json)
    if not check.ok:
        raise typer.Exit(3)
