"""The commands of `zoo data ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.output import AsJson, print_json
from zoo.cli.registry import chosen_registry, reads_registry

data_app = typer.Typer(help="Data sets: whether a copy is complete and fit.", no_args_is_help=True)


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
    """Say whether a copy of a data set is complete and fit to be evaluated on.

    Looks at the names and headers of all files, reads the annotations whole, and decodes some images; exit
    code 3 where something is missing or wrong.

    Example: `zoo data check coco --data ~/coco`
    """
    from zoo.files.cache import Cache
    from zoo.files.tensorflow import import_tensorflow

    declared = chosen_registry().dataset(dataset)
    import_tensorflow()
    from zoo.repro.datasets.opening import check_dataset

    check = check_dataset(declared, data, Cache(), full=full)
    if as_json:
        print_json(check.to_json())
    else:
        typer.echo(str(check))
    if not check.ok:
        raise typer.Exit(3)
