"""A run's folder: per-image statistics that survive a crash, and what the run was made of."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.files.atomic import write_atomically, writing
from zoo.files.json_files import read_json, write_json
from zoo.files.words import counted
from zoo.repro.records.npz import npz_bytes
from zoo.repro.records.statistics import check_statistics, unlike

# Files and folders that a run makes; nothing else in its folder is ever touched.
OWN_FILES = ("run.json", "images", "predictions", "pictures", "official", "record.json", "table.md")

_UNREADABLE = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises of an archive that it did not write, such as one of pickled objects."""

_DIGEST_BYTES = hashlib.sha256().digest_size


class RunFolder:
    """The folder of one run.

    `run.json` says what the run is made of (entry, checkpoint, data, settings, versions); the per-image
    statistics in `images/` belong to exactly that. An image counts as done once its statistics are there,
    which are written last and atomically, so a killed run loses at most the images in flight.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.images = self.root / "images"
        self.predictions = self.root / "predictions"
        self.official = self.root / "official"

    def identity(self) -> dict[str, Any] | None:
        """Returns what the run is made of, None where no run was begun."""
        return read_json(self.root / "run.json")

    def create(self, identity: Mapping[str, Any]) -> None:
        """Prepares the folder for a run of `identity`; a run of it that was begun stays."""
        with writing(self.images):
            self.images.mkdir(parents=True, exist_ok=True)
        if self.identity() is None:
            write_json(self.root / "run.json", identity)

    def has_images(self) -> bool:
        """Returns whether any image was evaluated."""
        return any(self.images.glob("*.npz"))

    def clear(self) -> None:
        """Removes everything that a run has written here."""
        for name in OWN_FILES:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_statistics(self, image_id: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes one image's statistics atomically.

        No fsync: after a power cut the file may be damaged, and damaged statistics count as missing. The
        file ends with the digest of what comes before, because a damaged archive can still look intact.
        """
        archive = npz_bytes(arrays)
        data = archive + hashlib.sha256(archive).digest()
        write_atomically(self.statistics_path(image_id), data, durable=False)

    def find_statistics(self, image_id: str) -> dict[str, np.ndarray] | None:
        """Returns one image's statistics, or None where they are missing or damaged."""
        try:
            data = self.statistics_path(image_id).read_bytes()
        except OSError:
            return None
        archive, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(archive).digest() != digest:
            return None
        try:
            with np.load(io.BytesIO(archive), allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except _UNREADABLE:
            return None

    def read_statistics(self, image_ids: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
        """Yields each image's statistics, see `zoo.repro.run.scores.InternalScores.measure`.

        Raises:
          DataError: an image's statistics are missing or damaged, or of another run than the first one's.
        """
        first: dict[str, np.ndarray] = {}
        for image_id in image_ids:
            path = self.statistics_path(image_id)
            arrays = self.find_statistics(image_id)
            if arrays is None:
                raise DataError(f"{path}: is missing or damaged; run the entry again")
            check_statistics(arrays, path)
            first = first or arrays
            if (name := unlike(arrays, first)) is not None:
                raise DataError(
                    f"{path}: expected {name} as in the first image of the run, found another kind of array, "
                    "or another setting; run the entry again with --restart"
                )
            yield arrays

    def done(self, image_ids: Iterable[str]) -> set[str]:
        """Returns those of `image_ids` whose statistics are there and intact."""
        return {image_id for image_id in image_ids if self.find_statistics(image_id) is not None}

    def images_of(self, record: Mapping[str, Any]) -> list[str]:
        """Returns the images of a record whose statistics are here, in the order of the run.

        A run takes the first images by name that it does not skip. Earlier versions left statistics of
        further ones in the folder, from a longer run.
        """
        found = {path.name.removesuffix(".npz") for path in self.images.glob("*.npz")}
        return sorted(found - set(record.get("skipped", ())))[: int(record["images"])]

    def all_images_of(self, record: Mapping[str, Any]) -> list[str]:
        """Returns what `images_of` does; raises a DataError where statistics of some images are missing."""
        found = self.images_of(record)
        if len(found) < record["images"]:
            images = counted(record["images"], "image")
            command = f"zoo reproduce {record['entry']}" if record["entry"] else "zoo score"
            raise DataError(
                f"{self.images}: expected the statistics of {images}, found {len(found):,}; "
                f"`{command}` makes them again"
            )
        return found

    def statistics_path(self, image_id: str) -> Path:
        """Returns where an image's statistics are, or will be."""
        return self.images / f"{image_id}.npz"


def open_run_folder(path: Path) -> RunFolder:
    """Returns the folder of a finished run, given it or the record in it, if statistics are there too."""
    folder = RunFolder(path if path.is_dir() else path.parent)
    if not folder.images.is_dir():
        raise DataError(
            f"{path}: expected the run's per-image statistics in {folder.images}, found no such folder; "
            "give the folder in which the run was made"
        )
    return folder
