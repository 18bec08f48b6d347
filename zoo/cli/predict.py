"""The command `zoo predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import (
    DEFAULT_RUNTIME,
    AsJson,
    DeviceName,
    Flip,
    ModelPath,
    Name,
    Precision,
    PrecisionName,
    RuntimeName,
    Scales,
    chosen_model,
    chosen_registry,
    parse_scales,
    reads_registry,
    takes_fields,
)
from zoo.cli.output import print_json


@dataclass(frozen=True)
class PredictionOptions:
    """The options that say what is written, and how it is predicted."""

    write: Annotated[
        str,
        typer.Option(
            metavar="FORMS",
            help="What to write, with commas between: overlay or overlay.png (a picture of each picture, a "
            "video of each video), coco (panoptic and semantic PNG, panoptic.json), cityscapes (these, and "
            "masks of instances), table or table.parquet (all instances), video (overlays of videos alone).",
        ),
    ] = "overlay"
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Leave out, with a line each, files that cannot be used."),
    ] = False
    device: DeviceName = "auto"
    precision: PrecisionName = Precision.float32
    scales: Scales = "1"
    flip: Flip = False
    runtime: RuntimeName = DEFAULT_RUNTIME
    model: ModelPath = None


@reads_registry
@takes_fields
def predict(
    name: Name,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="Pictures, videos, folders (with their subfolders), or quoted patterns such as "
            "`'photos/**/*.jpg'`.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder that the predictions go to.")],
    run: PredictionOptions,
    as_json: AsJson = False,
) -> None:
    """Predict the panoptic maps of your own pictures and videos.

    Pictures of any size and kind are read as viewers show them: turned by their EXIF data, transparent pixels
    on white, 16 bits as 8, the first frame of animated ones. Videos keep their size and times, without sound.
    Each is shrunk to fit the network's input where it is larger, as where the published numbers were
    measured; predictions have its own size.

    The same command again resumes: what is written is not made again. A folder holds the predictions of one
    network with one choice of options.

    Exit code: 0 all is written, or all that could be used with --keep-going (the last line counts what was
    left out), 2 usage, 3 something could not be used or written, 130 interrupted.

    Examples: `zoo predict cityscapes/resnet50_os32 photo.jpg --out seen`,
    `zoo predict coco/resnet50_os32 holiday/ clip.mp4 --out seen --write overlay,coco,table --keep-going`
    """
    from zoo.network.devices import parse_device

    registry = chosen_registry()
    entry = registry.resolve(name)
    # Before TensorFlow is imported, which takes seconds.
    parse_device(run.device)
    averaged, model = parse_scales(run.scales), chosen_model(run.runtime, run.model)

    from zoo.network.predicting import PredictOptions, predict_files

    forms = tuple(dict.fromkeys(part.strip() for part in run.write.split(",")))
    options = PredictOptions(
        write=forms,
        device=run.device,
        precision=run.precision.value,
        scales=averaged,
        flip=run.flip,
        keep_going=run.keep_going,
        runtime=run.runtime,
        model=model,
    )
    summary = predict_files(entry, registry, what, out.expanduser().absolute(), options)
    if as_json:
        print_json(summary)
