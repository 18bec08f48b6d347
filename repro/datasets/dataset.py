"""What every data set offers to an evaluation run, and how its files are told apart."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from rich.console import Console
from rich.progress import track

from zoo.errors import DataError
from zoo.files.atomic import write_atomically
from zoo.files.cache import SET_CACHE
from zoo.files.json_files import read_json
from zoo.files.tensorflow import import_tensorflow
from zoo.repro.datasets.headers import parse_png_header, require_ids

if TYPE_CHECKING:
    from zoo.files.cache import Cache
    from zoo.metrics.segments import OfficialTruth
    from zoo.registry.dataset_info import DatasetInfo

    CacheOrFolder = Cache | Path | None


@dataclass(frozen=True)
class Sample:
    """One image with its ground truth.

    Attributes:
      image_id: name of the image, unique in its data set.
      image: [H, W, 3] uint8, RGB.
      panoptic: [H, W] int32 panoptic labels; things are numbered from 1 in each class, crowd is void.
      semantic: [H, W] integer, train ids; void is the ignore label.
      crowd_labels: [K] int32, labels of `panoptic` that stand for crowds; empty where crowd is void.
      official: the ground truth as the official scripts read it, crowd regions included; None where the data
        set's form does not hold it.
    """

    image_id: str
    image: np.ndarray = field(repr=False)
    panoptic: np.ndarray = field(repr=False)
    semantic: np.ndarray = field(repr=False)
    crowd_labels: np.ndarray
    official: OfficialTruth | None = None


class Dataset(Protocol):
    """Images with ground truth in a fixed order."""

    @property
    def info(self) -> DatasetInfo:
        """The classes."""
        ...

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the images, sorted."""
        ...

    @property
    def expected_images(self) -> int | None:
        """How many images a complete copy has, or None where nobody declares it."""
        ...

    @property
    def official_obstacle(self) -> str | None:
        """Why the official scripts cannot score this data set, or None where they can."""
        ...

    @property
    def skipped(self) -> Mapping[str, str]:
        """Why images that the folder or the ground truth names are left out of `image_ids`, by name."""
        ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> Sample:
        """Returns image `index` of `image_ids`; depends on the files alone, and may run in many threads.

        Raises:
          DataError: a file is missing, broken, or not what its name says.
        """
        ...

    def check_headers(self, index: int) -> None:
        """Looks at the headers of all files of an image, those that only the official scripts read included.

        Raises:
          DataError: a file is missing, cut short, or of a wrong type or size.
        """
        ...

    def check_contents(self, index: int) -> None:
        """Decodes all files of an image, those that only the official scripts read included.

        Raises:
          DataError: a file is missing, broken, or not what its name says.
        """
        ...

    def fingerprint(self) -> str:
        """Returns a SHA-256 over names, sizes and contents of all files that a score depends on."""
        ...

    def check(self) -> list[str]:
        """Returns what is missing or wrong, one line each, without reading all contents."""
        ...


def images_in_dataset(dataset: Dataset) -> int:
    """Returns how many images the whole data set has: as declared, else all that its files name."""
    return dataset.expected_images or len(dataset) + len(dataset.skipped)


def surplus(dataset: Dataset) -> list[str]:
    """Returns a line where a copy names more images than are declared, else nothing."""
    expected, found = dataset.expected_images, len(dataset) + len(dataset.skipped)
    if expected is None or found <= expected:
        return []
    return [f"has {found} images, expected {expected}; remove those that are not part of the data set"]


def cache_at(cache: CacheOrFolder) -> Cache:
    """Returns a cache: itself, the one in a folder, or the default one where `cache` is None."""
    from zoo.files.cache import Cache

    return cache if isinstance(cache, Cache) else Cache(cache)


def read_bytes(path: Path) -> bytes:
    """Returns a file's contents; an error says which file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Returns an encoded PNG or JPEG as [H, W, 3] uint8, decoded by TensorFlow as the reference does.

    Raises:
      DataError: TensorFlow cannot decode it.
    """
    tf = import_tensorflow()

    try:
        with tf.device("/CPU:0"):
            return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"{name}: cannot be decoded as an image: {_reason(error)}") from None


def decode_id_png(data: bytes, name: str) -> np.ndarray:
    """Returns a PNG of ids as [H, W] uint8 or uint16, whichever the file holds.

    Raises:
      DataError: the PNG is broken, or is not a single channel of 8 or 16 bits.
    """
    tf = import_tensorflow()

    # Asked for 16 bits, TensorFlow would stretch an 8-bit PNG to the full range: read the depth first.
    header = parse_png_header(data, name)
    require_ids(header, name)
    try:
        with tf.device("/CPU:0"):
            ids = tf.io.decode_png(data, channels=1, dtype=tf.uint8 if header.bits == 8 else tf.uint16)
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"{name}: is a broken PNG: {_reason(error)}; download or make it again") from None
    return ids.numpy()[:, :, 0]


def file_digests(root: Path, names: Iterable[str], cache: Path) -> dict[str, tuple[int, str]]:
    """Returns size and SHA-256 of each file.

    A file whose size and time of change are as they were is not read again: what was found is kept in
    `cache`, one file for each data set folder.

    Args:
      root: the data set's folder.
      names: names of files relative to `root`, with forward slashes.
      cache: folder for what was found.
    """
    names = list(names)
    memory = cache / (hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:32] + ".json")
    known = read_json(memory) or {}
    found: dict[str, list[object]] = {}
    changed: list[str] = []
    for name in names:
        try:
            status = (root / name).stat()
        except OSError as error:
            raise DataError(f"{root / name}: cannot be read: {error.strerror or error}") from None
        stamp = [status.st_size, status.st_mtime_ns]
        entry = known.get(name)
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
            found[name] = entry
        else:
            found[name] = [*stamp, ""]
            changed.append(name)
    if changed:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            digests = threads.map(lambda name: hashlib.sha256(read_bytes(root / name)).hexdigest(), changed)
            for name, digest in zip(changed, digests, strict=True):
                found[name][2] = digest
        write_atomically(memory, json.dumps({**known, **found}), durable=False, remedy=SET_CACHE)
    return {name: (int(str(found[name][0])), str(found[name][2])) for name in names}


def digest_of_files(digests: Mapping[str, tuple[int, str]], *, about: str = "") -> str:
    """Returns one SHA-256 over names, sizes and digests of files, in the order of their names."""
    digest = hashlib.sha256(f"{about}\n".encode())
    for name in sorted(digests):
        size, content = digests[name]
        digest.update(f"{name}\0{size}\0{content}\n".encode())
    return digest.hexdigest()


def wrong_headers(dataset: Dataset, image_ids: Sequence[str]) -> dict[str, str]:
    """Returns the images of which a file's header is wrong, and why; thousands of images take seconds."""
    return _wrong(dataset, image_ids, dataset.check_headers, threads=16)


def require_headers(dataset: Dataset, image_ids: Sequence[str]) -> None:
    """Looks at the headers of all files of some images.

    Raises:
      DataError: one is wrong; the line says how many images are affected, and names the first file.
    """
    wrong = wrong_headers(dataset, image_ids)
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(image_ids)} images cannot be used, first: {next(iter(wrong.values()))}; "
            "--keep-going leaves them out"
        )


def usable_images(dataset: Dataset, image_ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Decodes images once, with a bar, and returns those that can be used, and why the others cannot.

    Args:
      dataset: the data set.
      image_ids: the images to try, in order.
    """
    bad = wrong_headers(dataset, image_ids)
    rest = [image_id for image_id in image_ids if image_id not in bad]
    bad |= _wrong(dataset, rest, dataset.check_contents, threads=min(4, os.cpu_count() or 1), bar=True)
    return [image_id for image_id in image_ids if image_id not in bad], bad


def _wrong(
    dataset: Dataset,
    image_ids: Sequence[str],
    check: Callable[[int], None],
    *,
    threads: int,
    bar: bool = False,
) -> dict[str, str]:
    index = {image_id: i for i, image_id in enumerate(dataset.image_ids)}

    def problem(image_id: str) -> str | None:
        try:
            check(index[image_id])
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads) as pool:
        problems = track(
            pool.map(problem, image_ids),
            "checking images",
            total=len(image_ids),
            console=Console(stderr=True),
            disable=not (bar and sys.stderr.isatty()),
        )
        return {
            image_id: reason
            for image_id, reason in zip(image_ids, problems, strict=True)
            if reason is not None
        }


def find_folder(path: Path, is_root: Callable[[Path], bool], parts: Sequence[str], expected: str) -> Path:
    """Returns the folder of a data set at, just below, or just above a path that a user gave.

    Args:
      path: what the user gave.
      is_root: whether a folder is the data set's.
      parts: names of folders in the data set's folder.
      expected: what should be there, for the error message.

    Raises:
      DataError: there is no such folder, or more than one.
    """
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise DataError(f"{path}: {what}; expected the folder that holds {' and '.join(parts)}")
    if is_root(path):
        return path
    if path.name in parts and is_root(path.parent):
        return path.parent
    found = sorted(folder for folder in path.iterdir() if is_root(folder))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(folder.name for folder in found)
        raise DataError(f"{path}: more than one data set is in there ({names}); give one of them")
    raise DataError(f"{path}: has no folder {parts[0]}; expected {expected}")


def _reason(error: Exception) -> str:
    message = str(getattr(error, "message", error)).splitlines()[0]
    return message.split("}}")[-1].split("[Op:")[0].strip()
