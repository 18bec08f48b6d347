"""Unpacked archives in the cache: made once, found again by the archive's digest, and checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo.errors import ArchiveError, ZooError
from zoo.fetch.unpack import Limits, Unpacked, unpack
from zoo.files.cache import MANIFEST_NAME, UNFINISHED, Cache, remove, touch
from zoo.files.json_files import read_json

READ_BYTES = 1 << 20
KEY_LENGTH = 32
"""So many hexadecimal digits of the archive's SHA-256 name its folder."""


@dataclass(frozen=True)
class UnpackedArchive:
    """An archive that is unpacked in the cache.

    Attributes:
      folder: where its contents are.
      files: what it holds.
    """

    folder: Path
    files: tuple[Unpacked, ...]

    @property
    def manifest(self) -> Path:
        """Where the list of the files is kept."""
        return self.folder.parent / MANIFEST_NAME

    def changed_size(self) -> str | None:
        """Returns the path of a file that is gone, new, or of another length, or None."""
        expected = {file.path: file.bytes for file in self.files}
        found = {
            path.relative_to(self.folder).as_posix(): path.lstat().st_size
            for path in self.folder.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }
        return min((path for path, _ in expected.items() ^ found.items()), default=None)

    def changed_contents(self) -> str | None:
        """Returns the path of a file whose contents changed, or None; every file is read."""
        for file in self.files:
            path = self.folder / file.path
            digest = hashlib.sha256()
            try:
                with path.open("rb") as stream:
                    while chunk := stream.read(READ_BYTES):
                        digest.update(chunk)
            except OSError:
                return file.path
            if digest.hexdigest() != file.sha256:
                return file.path
        return None


def unpack_into_cache(
    archive: Path,
    sha256: str,
    kind: str,
    cache: Cache,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> UnpackedArchive:
    """Makes sure that an archive is unpacked in the cache; nothing is unpacked twice.

    Another archive never mixes in, as the folder goes by the archive's digest. What is there is taken if
    every file has its length; otherwise it is made anew. A folder gets its name only when it is complete.

    Args:
      archive: the file.
      sha256: its digest in hexadecimal.
      kind: the part of the cache.
      cache: the cache.
      limits: what the archive may grow to.

    Raises:
      ArchiveError: the archive is damaged, unsafe, or of another kind; nothing is left behind.
      ZooError: the cache cannot be written.
    """
    key = sha256[:KEY_LENGTH]
    home = cache.folder(kind) / key
    with cache.holding(kind, key, f"{archive}: another process is unpacking it"):
        found = _read(home, sha256)
        if found is not None and found.changed_size() is None:
            touch(found.manifest)
            return found
        remove(home)
        unfinished = home.with_name(f"{key}{UNFINISHED}")
        remove(unfinished)
        made = UnpackedArchive(unfinished / "contents", ())
        try:
            made.folder.mkdir(parents=True)
            files = unpack(archive, made.folder, limits)
            manifest = {"archive": archive.name, "sha256": sha256, "files": [asdict(file) for file in files]}
            made.manifest.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            unfinished.replace(home)
        except OSError as error:
            raise ZooError(f"{archive}: cannot be unpacked into {home}: {error.strerror or error}") from error
        finally:
            remove(unfinished)
        return UnpackedArchive(home / "contents", tuple(files))


def forget(unpacked: UnpackedArchive, kind: str, cache: Cache) -> None:
    """Removes an unpacked archive from the cache."""
    home = unpacked.folder.parent
    with cache.holding(kind, home.name, f"{home}: another process is using it"):
        remove(home)


def top_folder(unpacked: UnpackedArchive) -> Path:
    """Returns the one folder that holds everything, or the whole if there is no such folder.

    Raises:
      ArchiveError: the archive is empty.
    """
    if not unpacked.files:
        raise ArchiveError(f"{unpacked.folder}: the archive holds no files; check what the registry names")
    # Archives made on a Mac hold a `._name` beside each name.
    tops = {
        file.path.split("/")[0] for file in unpacked.files if not file.path.split("/")[-1].startswith("._")
    }
    only = unpacked.folder / min(tops) if len(tops) == 1 else unpacked.folder
    return only if only.is_dir() else unpacked.folder


def _read(home: Path, sha256: str) -> UnpackedArchive | None:
    manifest = read_json(home / MANIFEST_NAME) or {}
    if manifest.get("sha256") != sha256:
        return None
    try:
        files = tuple(Unpacked(**file) for file in manifest["files"])
    except (KeyError, TypeError):
        return None
    return UnpackedArchive(home / "contents", files)
