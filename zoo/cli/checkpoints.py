"""The commands `zoo fetch`, `zoo verify`, `zoo load-check`, `zoo convert` and `zoo export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import (
    DEFAULT_RUNTIME,
    AsJson,
    ModelPath,
    Name,
    Names,
    RuntimeName,
    Trust,
    chosen_model,
    chosen_registry,
    reads_registry,
)
from zoo.cli.output import print_each, print_json, print_reports, print_text
from zoo.errors import UsageError
from zoo.files.tensorflow import import_tensorflow
from zoo.runtimes.choice import FILE_RUNTIMES
from zoo.runtimes.own_exports import require_published

Against = Enum("Against", {"saved_model": "saved_model"}, type=str)


@reads_registry
def fetch(names: Names, as_json: AsJson = False) -> None:
    """Download, verify and unpack checkpoints into the cache.

    Example: `zoo fetch cityscapes/resnet50_os32`
    """
    from zoo.fetch.fetcher import Fetcher

    fetcher = Fetcher()
    found = []
    for entry in chosen_registry().find_all(names):
        checkpoint = fetcher.checkpoint(entry)
        found.append(
            {
                "entry": entry.name,
                "checkpoint": str(checkpoint.path),
                "sha256": checkpoint.sha256,
                "bytes": checkpoint.bytes,
                "url": checkpoint.url,
            }
        )
        if not as_json:
            print_text(f"{entry.name}: {checkpoint.path}")
    if as_json:
        print_each(found)


@reads_registry
def verify(
    names: Names,
    accept: Annotated[
        bool, typer.Option("--accept", help="Pin the files as they are now: later calls expect these.")
    ] = False,
    against: Annotated[
        Against | None,
        typer.Option(help="Run the built network and the published SavedModel on one image, and compare."),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="With --against, the image, PNG or JPEG; a bundled one if not given.")
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Read fetched files again, whole, and check every digest down to each tensor's own.

    A checkpoint that is not on disk yet is downloaded first.

    With `--against saved_model`, compare the network that is built here with the published SavedModel
    instead; exit code 1 if they differ by more than rounding. A SavedModel is a program: one that your own
    registry names needs --trust.

    Examples: `zoo verify minicity/mobilenet_v3_small_os16`,
    `zoo verify cityscapes/resnet50_beta_os32 --against saved_model --image street.png`
    """
    if against is not None:
        if accept:
            raise UsageError("--accept: cannot be given with --against, which compares and pins nothing")
        _verify_against_saved_model(names, image, trust=trust, as_json=as_json)
        return
    if image is not None:
        raise UsageError("--image: needs --against")
    entries = chosen_registry().find_all(names)
    import_tensorflow()
    from zoo.fetch.fetcher import Fetcher

    fetcher = Fetcher()
    print_reports([fetcher.verify(entry, accept=accept) for entry in entries], as_json=as_json)


def _verify_against_saved_model(names: list[str], image: Path | None, *, trust: bool, as_json: bool) -> None:
    if image is not None and not image.is_file():
        raise UsageError(f"--image {image}: no such file")
    registry = chosen_registry()
    entries = registry.resolve_all(names)
    for entry in entries:
        if entry.saved_model is not None and not trust:
            require_published(f"{entry.name}: {entry.saved_model.url}", entry.saved_model.url)
    import_tensorflow()
    from zoo.network.agreement import compare_with_saved_model

    reports = [compare_with_saved_model(entry, registry=registry, image_file=image) for entry in entries]
    print_reports(reports, as_json=as_json)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@reads_registry
def load_check(
    name: Name,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Another checkpoint: a prefix, a folder, an archive, or its URL."),
    ] = None,
    runtime: RuntimeName = DEFAULT_RUNTIME,
    model: ModelPath = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Build the network, restore its checkpoint, and print the receipt.

    With `--model`, load a file of `zoo convert` or `zoo export` instead, and print the receipt that it holds.

    Example: `zoo load-check minicity/mobilenet_v3_small_os16`
    """
    model = chosen_model(runtime, model, trust=trust)
    from zoo.network import loading

    network = loading.load(
        name, checkpoint=checkpoint, registry=chosen_registry(), runtime=runtime, model=model
    )
    print_reports([network.receipt], as_json=as_json)


def _size_of(text: str | None) -> tuple[int, int] | None:
    """Returns the (height, width) of `--size`; raises a UsageError for anything else."""
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"--size {text}: expected height and width in pixels, e.g. 513x1025")
    return int(height), int(width)


@reads_registry
def export(
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="RUNTIME", help=f"{', '.join(FILE_RUNTIMES)}.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="What to write, in place of an earlier one: FILE.onnx, FILE.xml and FILE.bin (openvino), "
            "FILE.tflite (litert), or a folder (saved_model).",
        ),
    ],
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION",
            help="float32; float16, which halves the file (onnx, openvino, litert); or bfloat16, to "
            "compute in (openvino, saved_model).",
        ),
    ] = "float32",
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="The image that it takes; the published crop by default."),
    ] = None,
    with_post_processing: Annotated[
        bool,
        typer.Option(
            "--with-post-processing",
            help="Write all that surrounds the network too (saved_model): it takes a picture of any size, "
            "uint8, and gives its panoptic map, as the SavedModels published beside checkpoints do.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify", help="Run the file, and compare its maps with the network's; the default."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Write an entry's network as a file for another runtime.

    It takes one image of one size, float32, RGB 0 to 255, and gives the stride-4 maps. It says itself whose
    network it is, how images are prepared and maps post-processed, its classes, and its licence.
    `zoo reproduce NAME --runtime RUNTIME --model FILE` gives its verdicts.

    Exit code: 0 written, 2 usage, 3 it could not be written, or a float32 file computes other maps than the
    network by more than 1e-4 of their standard deviation; then it is not kept.

    Example: `zoo export minicity/mobilenet_v3_small_os16 --to onnx --out minicity.onnx`
    """
    registry = chosen_registry()
    entry = registry.resolve(name)
    chosen_size = _size_of(size)
    from zoo.network.exporting import ExportOptions, export_entry

    options = ExportOptions(to, precision, chosen_size, with_post_processing, verify)
    report = export_entry(entry, registry, out.expanduser().absolute(), options)
    print_reports([report], as_json=as_json)


@reads_registry
def convert(
    name: Name,
    file: Annotated[Path, typer.Argument(help="What to write: NAME.safetensors or NAME.weights.h5.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Another checkpoint: a prefix, a folder, an archive, or its URL."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Restore a network and write its weights for a machine without TensorFlow.

    There, `zoo.load(NAME, weights=FILE)` loads them with `KERAS_BACKEND=jax` or `torch`; `zoo predict` and
    `zoo reproduce` do with `--weights FILE --runtime jax` or `torch`. The file holds the receipt of what was
    restored, and its digest.

    Example: `zoo convert minicity/mobilenet_v3_small_os16 minicity.safetensors`
    """
    from zoo.network.weights import check_weights_path, write_weights

    check_weights_path(file)
    import_tensorflow()
    from zoo.network import loading

    network = loading.load(name, checkpoint=checkpoint, registry=chosen_registry())
    receipt = write_weights(network, file)
    if as_json:
        print_json({"entry": network.entry.name, "file": str(file), "receipt": receipt.to_json()})
    else:
        print_text(f"{network.entry.name}: {file}, sha256 of the weights {receipt.sha256}")
