"""The commands `zoo data ...`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import AsJson, DataCache, chosen_registry, reads_registry, registry_files
from zoo.cli.output import print_reports, print_text
from zoo.errors import UsageError
from zoo.files.progress import say
from zoo.remote.path import path_at

if TYPE_CHECKING:
    from zoo.repro.datasets.survey import Survey

data_app = typer.Typer(
    help="Data sets: whether a copy is complete and usable, and your own ones.", no_args_is_help=True
)
Format = Enum("Format", {"cityscapes": "cityscapes", "coco": "coco", "ade20k": "ade20k"}, type=str)


@data_app.command("check")
@reads_registry
def data_check(
    dataset: Annotated[
        str, typer.Argument(metavar="NAME", help="cityscapes, coco, ade20k, or another data set.")
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The data set's folder or URL. Bundled data sets bring their own."),
    ] = None,
    data_cache: DataCache = None,
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
    from zoo.files.keras_backend import import_backend

    declared = chosen_registry().dataset(dataset)
    import_backend()
    from zoo.repro.datasets.checking import check_dataset

    folder = None if data is None else path_at(data, data_cache)
    check = check_dataset(declared, folder, Fetcher(), full=full)
    print_reports([check], as_json=as_json)
    if not check.ok:
        raise typer.Exit(3)


@data_app.command("add")
@reads_registry
def data_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the data set shall be called.")],
    data: Annotated[str, typer.Option(metavar="DIR", help="The data set's folder or URL.")],
    data_format: Annotated[
        Format | None, typer.Option("--format", help="The format. The default is to see by the folders.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which split. The default is the only one, or the one called val.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A JSON file of classes like COCO's `categories`, for the Cityscapes layout: its files of "
            "ground truth name none.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The registry file to add to. The default is standard output."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace the declaration of this name; classes and title are kept."),
    ] = False,
    data_cache: DataCache = None,
) -> None:
    """Declare a data set of your own, of any number of images and with its own classes.

    Looks at all ground truth in the folder, says what it found, and writes the lines of a registry file.

    Example: `zoo data add mine --data ~/pictures --out mine.yaml`
    """
    from zoo.files.atomic import write_atomically
    from zoo.registry.lookup import load_registry
    from zoo.registry.registry_text import with_dataset
    from zoo.registry.yaml_file import parse, read_text

    label = str(out or "the new registry file")
    text = read_text(out, "a registry file") if out is not None and out.exists() else ""
    # Whether the name is free is said at once; what the file has besides may depend on the new data set.
    new = {"title": name, "format": "coco", "split": "val", "images": 1}
    load_registry(registry_files, [parse(with_dataset("", label, name, new), label)])
    old = (parse(text, label).content if text.strip() else {}).get("datasets") or {}
    if name in old and not replace:
        raise UsageError(f"{name}: {label} has a data set of this name; --replace replaces it")
    survey = _survey_of(name, path_at(data, data_cache), data_format, split, classes, old.get(name) or {})
    text = with_dataset(text, label, name, survey.body())
    if out is None:
        print_text(text)
        return
    write_atomically(out, text)
    say(
        f"{name}: in {out}; `zoo --registry {out} data check {name}` checks it; ZOO_REGISTRY={out} in the "
        "environment makes every command know it"
    )


def _survey_of(
    name: str,
    data: Path,
    data_format: Format | None,
    split: str | None,
    classes: Path | None,
    replaced: dict[str, Any],
) -> Survey:
    from zoo.repro.datasets.survey import read_classes, survey_folder

    survey = survey_folder(
        name,
        data,
        data_format=data_format.value if data_format else None,
        split=split,
        classes=read_classes(classes) if classes else (),
        replaced=replaced,
    )
    for line in str(survey).splitlines():
        say(line)
    return survey
