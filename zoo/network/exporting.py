"""Writes a restored network as a file of another runtime, and checks what that file computes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError, VerificationError
from zoo.fetch.fetcher import Fetcher
from zoo.files.atomic import writing
from zoo.files.cache import remove
from zoo.files.keras_backend import choose_backend
from zoo.files.tensorflow import import_tensorflow
from zoo.files.words import readable_size
from zoo.network.agreement import MapAgreement, bundled_image
from zoo.network.loading import load_entry, runtime_of
from zoo.network.network import classes_of
from zoo.runtimes.choice import FILE_RUNTIMES

if TYPE_CHECKING:
    from zoo.network.network import Network, Runtime
    from zoo.registry import Entry, Registry
    from zoo.runtimes.model_file import ModelFile

TOLERANCE = 1e-4
"""The largest difference of a map, in its standard deviations, that a float32 file may have."""


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose about an exported file.

    Attributes:
      to: a runtime of `FILE_RUNTIMES`.
      precision: see `PRECISIONS` of the runtime's module.
      size: (height, width) of the image that it takes; None for the entry's published crop.
      with_post_processing: whether the file holds preparation and merging too; a SavedModel alone can.
      verify: whether to run the file, and compare its maps with the network's.

    Raises:
      UsageError: there is no such runtime, it is not installed, or it cannot hold post-processing.
    """

    to: str
    precision: str = "float32"
    size: tuple[int, int] | None = None
    with_post_processing: bool = False
    verify: bool = True

    def __post_init__(self) -> None:
        if self.to not in FILE_RUNTIMES:
            *others, last = FILE_RUNTIMES
            raise UsageError(f"--to {self.to}: expected {', '.join(others)} or {last}")
        FILE_RUNTIMES[self.to].require(self.to)
        if self.with_post_processing and self.to != "saved_model":
            raise UsageError(
                f"--with-post-processing: expected --to saved_model, found {self.to}, which lacks "
                "operations for it"
            )


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far its maps differ from the network's on each of `images`.

    Attributes:
      file: what was written, and what it says of itself.
      bytes: of all its files.
      maps: the largest difference of each map over all images; empty where nothing was compared.
    """

    file: ModelFile
    bytes: int
    images: list[str] = field(default_factory=list)
    maps: dict[str, MapAgreement] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        maps = {name: {**asdict(each), "relative": each.relative} for name, each in self.maps.items()}
        about = self.file.about
        return {
            "entry": about.entry,
            "path": str(self.file.path),
            "to": self.file.runtime,
            "precision": about.precision,
            "input_size": list(about.input_size),
            "sha256": self.file.sha256,
            "bytes": self.bytes,
            "verified_on": self.images,
            "maps": maps,
            "tolerance": TOLERANCE if about.precision == "float32" else None,
        }

    def __str__(self) -> str:
        about = self.file.about
        height, width = about.input_size
        lines = [
            f"{about.entry}: {self.file.path}: {self.file.runtime}, {about.precision}, "
            f"{height} x {width} px, {readable_size(self.bytes)}, sha256 {self.file.sha256}"
        ]
        lines += [
            f"  {name:<16} largest difference {each.relative:.1e} of its standard deviation"
            for name, each in self.maps.items()
        ]
        lines += [f"  compared on {' and '.join(self.images)}"] if self.images else ["  not verified"]
        return "\n".join(lines)


def export_entry(entry: Entry, registry: Registry, out: Path, options: ExportOptions) -> ExportReport:
    """Restores an entry's network and writes it as a file of another runtime, whole or not at all.

    An earlier file of that name is replaced.

    Raises:
      UsageError: the runtime does not have the precision, the file's name ends otherwise than its files do,
        or what is there is not to be replaced.
      VerificationError: the file computes other maps; it is not kept.
      ZooError: the checkpoint cannot be restored, or the file cannot be written.
    """
    from zoo.model.families import family_of

    runtime = FILE_RUNTIMES[options.to]
    _check_out(out, options.to)
    family = family_of(entry)
    if options.with_post_processing:
        family.require_graph(entry.name)
    choose_backend("tensorflow")
    import_tensorflow()
    module = runtime.imported(options.to)
    if options.precision not in module.PRECISIONS:
        known = " or ".join(module.PRECISIONS)
        raise UsageError(f"--precision {options.precision}: expected {known} with --to {options.to}")
    classes = classes_of(entry, registry.dataset(entry.dataset))
    fetcher = Fetcher()
    checkpoint = fetcher.checkpoint(entry)
    # Only a SavedModel holds the types that the network was built with; others have them from its float32.
    built = options.precision if options.to == "saved_model" else "float32"
    network = load_entry(
        entry, checkpoint, classes=classes, optimize=True, input_size=options.size, precision=built
    )

    from zoo.model.inference import with_maps
    from zoo.runtimes.description import describe
    from zoo.runtimes.model_file import CheckpointRecord, read_model_file
    from zoo.runtimes.own_exports import remember_export

    assert network.receipt is not None
    source = CheckpointRecord(
        url=checkpoint.url,
        sha256=checkpoint.sha256,
        bytes=checkpoint.bytes,
        receipt=network.receipt.to_json(),
    )
    size = options.size or entry.evaluation.crop_size
    whole = options.with_post_processing
    about = describe(
        entry, classes, source, options.precision, size, with_post_processing=whole
    ).model_dump_json()
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            temporary = Path(folder) / out.name
            if whole:
                around = entry.evaluation, network.options
                module.write_whole(network.keras_model, size, *around, about, temporary)
            else:
                layers = _bfloat16_layers(entry, options)
                read = with_maps(network.keras_model, family.maps)
                module.write(read, size, about, temporary, options.precision, **layers)
            images = _inputs(entry, registry, fetcher, size) if options.verify else {}
            maps = _compare(entry, network, options, temporary, images) if images else {}
            _put_in_place(temporary, out, module.files_of(temporary))
    file = read_model_file(options.to, out, entry)
    remember_export(file.sha256)
    written = sum(path.stat().st_size for path in module.files_of(out))
    return ExportReport(file, written, list(images), maps)


def _bfloat16_layers(entry: Entry, options: ExportOptions) -> dict[str, Collection[str]]:
    """Returns the argument for OpenVINO that names the convolutions which a network has in bfloat16."""
    if (options.to, options.precision) != ("openvino", "bfloat16"):
        return {}
    from zoo.model.build import build_network

    network = build_network(entry.network, precision=options.precision, random_values=False)
    of_bfloat16 = [layer for layer in network.layers if layer.compute_dtype == options.precision]
    return {"bfloat16_layers": [layer.name for layer in of_bfloat16 if hasattr(layer, "kernel")]}


def _check_out(out: Path, to: str) -> None:
    """Refuses a name of another form, and to replace what no `zoo export` wrote."""
    suffix = FILE_RUNTIMES[to].suffix
    if not out.name.endswith(suffix):
        raise UsageError(f"--out {out}: expected a file name that ends in {suffix}")
    if suffix and out.is_dir():
        raise UsageError(f"--out {out}: is a folder, expected a file name")
    if not suffix and out.exists() and not (out / "saved_model.pb").is_file():
        raise UsageError(
            f"--out {out}: expected a new folder, or an earlier SavedModel, found something else"
        )


def _inputs(
    entry: Entry, registry: Registry, fetcher: Fetcher, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Returns what a file is tried on, by name, [1, H, W, 3] float32, whole numbers: a picture, and noise."""
    from zoo.model.preprocess import entry_resized_size, network_input

    name, image = bundled_image(registry, fetcher)
    resized = entry_resized_size(image.shape[:2], entry.evaluation, size)
    noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.float32)
    picture = np.rint(np.asarray(network_input(image, resized, size)))
    return {name: picture[None], "noise": noise}


def _compare(
    entry: Entry, network: Network, options: ExportOptions, path: Path, images: dict[str, np.ndarray]
) -> dict[str, MapAgreement]:
    """Returns the largest difference of each map that a file gives from the network's.

    Raises:
      VerificationError: one is above the limit of the precision.
    """
    from zoo.model.families import family_of
    from zoo.runtimes.model_file import read_model_file

    runtime = runtime_of(entry, read_model_file(options.to, path, entry))
    found: dict[str, MapAgreement] = {}
    for name, agreement in _differences(network, runtime, images, family_of(entry).maps):
        if name not in found or agreement.relative > found[name].relative:
            found[name] = agreement
    limit = TOLERANCE if options.precision == "float32" else 1.0
    worst = max(found, key=lambda name: found[name].relative)
    if not found[worst].relative <= limit:
        raise VerificationError(
            f"{entry.name}: the {options.to} file gives another {worst}: expected at most {limit:g} of its "
            f"standard deviation from the network's, found {found[worst].relative:.1e}; it is not kept"
        )
    return found


def _differences(
    network: Network, runtime: Runtime, images: dict[str, np.ndarray], names: Iterable[str]
) -> Iterator[tuple[str, MapAgreement]]:
    for image in images.values():
        maps, expected = runtime(image), network(image)
        for name in names:
            values = np.asarray(expected[name], np.float64)
            # NaN compares as no difference at all.
            difference = np.nan_to_num(np.abs(maps[name] - values), nan=np.inf).max()
            yield name, MapAgreement(float(difference), float(values.std()))


def _put_in_place(temporary: Path, out: Path, files: list[Path]) -> None:
    """Moves what was written to where it belongs, in place of an earlier one."""
    if temporary.is_dir():
        if out.exists():
            os.rename(out, temporary.with_name(f"{out.name}.replaced"))
        os.rename(temporary, out)
        return
    for stale in out.parent.glob(f"{out.name}.data"):
        remove(stale)
    # What lies beside the file comes first: the file itself says that all are there.
    for path in reversed(files):
        os.replace(path, out.with_name(path.name))
