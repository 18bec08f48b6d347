"""The command `zoo predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import (
    AsJson,
    Name,
    NetworkOptions,
    chosen_registry,
    reads_registry,
    takes_fields,
)
from zoo.cli.output import print_json


@dataclass(frozen=True)
class PredictionOptions:
    """The options that say what is written."""

    write: Annotated[
        str,
        typer.Option(
            metavar="FORMS",
            help="What to write, one or more with commas between: overlay (the prediction drawn over each "
            "picture and video, as JPEG and video files; overlay.png for PNG files), video (the same of "
            "videos only), coco (panoptic.json with PNG files, and semantic PNG files), cityscapes (these, "
            "and a mask of each instance), table (instances.csv; table.parquet for Parquet).",
        ),
    ] = "overlay"
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Leave out files that cannot be used, with a line for each."),
    ] = False


@reads_registry
@takes_fields
def predict(
    name: Name,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="Pictures, videos, folders (with their subfolders), or patterns in quotes such as "
            "`'photos/**/*.jpg'`.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for the predictions.")],
    run: PredictionOptions,
    network: NetworkOptions,
    as_json: AsJson = False,
) -> None:
    """Predict the panoptic maps of your own pictures and videos.

    Pictures are read as viewers show them: turned as their EXIF data say, transparent pixels on white, 16
    bits as 8, and of an animation the first frame. Videos keep their size and timing, but not their sound.
    What is larger than the network's input is shrunk to fit it, as for the published numbers; predictions
    are scaled back to the size of the picture.

    After an interruption, run the same command again: what is written is kept. A folder holds predictions of
    one network with one set of options; give another --out for others.

    Exit code: 0 everything is written (with --keep-going, everything that could be used: the last line
    counts what was left out), 2 wrong usage, 3 something could not be read or written, 130 interrupted.

    Examples: `zoo predict cityscapes/resnet50_os32 photo.jpg --out seen`,
    `zoo predict coco/resnet50_os32 holiday/ clip.mp4 --out seen --write overlay,coco,table --keep-going`
    """
    registry = chosen_registry()
    entry = registry.resolve(name)
    # Before TensorFlow is imported, which takes seconds.
    network_settings = network.settings()

    from zoo.network.predicting import PredictOptions, predict_files

    forms = tuple(dict.fromkeys(part.strip() for part in run.write.split(",")))
    options = PredictOptions(write=forms, keep_going=run.keep_going, **network_settings)
    options = network.on_the_fastest(options, entry, registry)
    summary = predict_files(entry, registry, what, out.expanduser().absolute(), options)
    if as_json:
        print_json(summary)
