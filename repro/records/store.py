"""A run's folder: per-image records that survive a crash, and what the run was made of."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.files.atomic import write_atomically, writing
from zoo.files.json_files import read_json, write_json

# Files and folders that a run makes; nothing else in its folder is ever touched.
_OWN = ("run.json", "images", "predictions", "pictures", "official", "record.json", "table.md")

_DIGEST_BYTES = hashlib.sha256().digest_size


class RunFolder:
    """The folder of one run.

    `run.json` says what the run is made of (entry, checkpoint, data, settings, versions); the per-image
    records in `images/` belong to exactly that. An image counts as done once its record is there, and the
    record is written last and atomically, so a killed run loses at most the images in flight.
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
        """Prepares the folder for a run of `identity`; a run of it that was begun stays.

        Raises:
          ZooError: it cannot be written.
        """
        with writing(self.images):
            self.images.mkdir(parents=True, exist_ok=True)
        if self.identity() is None:
            write_json(self.root / "run.json", identity)

    def has_images(self) -> bool:
        """Returns whether any image was evaluated."""
        return any(self.images.glob("*.npz"))

    def clear(self) -> None:
        """Removes everything that a run has written here."""
        for name in _OWN:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_image(self, image_id: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes one image's record atomically.

        No fsync: after a power cut the file may be damaged, and a damaged record counts as missing. The file
        ends with the digest of what comes before, because a damaged archive can still look like a whole one.
        """
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        archive = buffer.getvalue()
        data = archive + hashlib.sha256(archive).digest()
        write_atomically(self._image_path(image_id), data, durable=False)

    def read_image(self, image_id: str) -> dict[str, np.ndarray] | None:
        """Returns one image's record, or None where there is none or it is damaged."""
        try:
            data = self._image_path(image_id).read_bytes()
        except OSError:
            return None
        archive, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(archive).digest() != digest:
            return None
        with np.load(io.BytesIO(archive), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def done(self, image_ids: Iterable[str]) -> set[str]:
        """Returns those of `image_ids` whose record is there and whole."""
        return {image_id for image_id in image_ids if self.read_image(image_id) is not None}

    def images_of(self, record: Mapping[str, Any]) -> list[str]:
        """Returns the images of a record whose statistics are here, in the order of the run.

        A run takes the first images by name that it does not skip. Earlier versions left statistics of
        further ones in the folder, from a longer run.
        """
        found = {path.name.removesuffix(".npz") for path in self.images.glob("*.npz")}
        return sorted(found - set(record.get("skipped", ())))[: int(record["images"])]

    def _image_path(self, image_id: str) -> Path:
        return self.images / f"{image_id}.npz"
