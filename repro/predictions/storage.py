"""Files of predictions by name, from a folder or from within a .zip archive, without unpacking it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from zoo.errors import DataError
from zoo.fetch.unpack import CORRUPT, Limits
from zoo.files.processes import available_cores
from zoo.files.words import readable_size
from zoo.repro.datasets.digests import digest_of_files
from zoo.repro.datasets.image_files import read_bytes

_LIMITS = Limits()
_JUNK_FOLDERS = {"__MACOSX", ".git", ".ipynb_checkpoints"}
_JUNK_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}


class Storage(ABC):
    """Named files, which may be read in many threads; `only_json` is the JSON file that was given, if any."""

    only_json: str | None = None

    def __init__(self, path: Path, names: list[str]) -> None:
        """Takes the names relative to `path`, with forward slashes; files of the system are set aside."""
        self.path = path
        self.junk = sorted(name for name in names if _is_junk(name))
        junk = set(self.junk)
        self.names = sorted(name for name in names if name not in junk)
        self._known = frozenset(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Returns a file's contents; raises a DataError that names it."""

    @abstractmethod
    def head(self, name: str, size: int) -> bytes:
        """Returns the first bytes of a file; raises as `read` does."""

    def title(self, name: str) -> str:
        """Returns what messages call a file."""
        return str(self.path / name)

    def digest(self) -> str:
        """Returns a SHA-256 over names, sizes and contents of all files."""

        def measure(name: str) -> tuple[int, str]:
            data = self.read(name)
            return len(data), hashlib.sha256(data).hexdigest()

        with ThreadPoolExecutor(min(8, available_cores())) as threads:
            measured = dict(zip(self.names, threads.map(measure, self.names), strict=True))
        return digest_of_files(measured, about="predictions")


class FolderStorage(Storage):
    """The files below a folder; or those of them that `starts` begin, and of JSON files `only_json` alone."""

    def __init__(self, path: Path, starts: tuple[str, ...] = ("",), only_json: str | None = None) -> None:
        names = []
        seen: set[str] = set()
        for folder, subfolders, files in os.walk(path, onerror=_cannot_list, followlinks=True):
            # A link to a folder above it would never end.
            real = os.path.realpath(folder)
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            for file in files:
                _refuse_pipe(os.path.join(folder, file))
            inside = Path(folder).relative_to(path).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            names += [prefix + file for file in files if (prefix + file).startswith(starts)]
        self.only_json = only_json
        if only_json is not None:
            names = [name for name in names if name == only_json or not name.endswith(".json")]
        super().__init__(path, names)

    def read(self, name: str) -> bytes:
        """Returns a file's contents."""
        return read_bytes(self.path / name)

    def head(self, name: str, size: int) -> bytes:
        """Returns the first bytes of a file."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise DataError(f"{self.title(name)}: cannot be read: {error.strerror or error}") from None


class ZipStorage(Storage):
    """The files of a .zip archive."""

    def __init__(self, path: Path) -> None:
        """Lists the archive's files.

        Raises:
          DataError: it is damaged, encrypted, holds one name twice, or would grow beyond all measure.
        """
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, *CORRUPT) as error:
            raise self._damaged(path, error) from None
        members = [member for member in self._archive.infolist() if not member.is_dir()]
        names = [member.filename.replace("\\", "/") for member in members]
        self._members = dict(zip(names, members, strict=True))
        if len(self._members) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path}: expected each file once, found {twice} twice; make the archive again")
        if any(member.flag_bits & 1 for member in members):
            raise DataError(f"{path}: expected an archive without a password; make it again without one")
        total = sum(member.file_size for member in members)
        packed = path.stat().st_size
        most = min(_LIMITS.total_bytes, max(packed * _LIMITS.ratio, _LIMITS.ratio_free_bytes))
        if total > most or len(members) > _LIMITS.members:
            raise DataError(
                f"{path}: expected at most {readable_size(most)} in {_LIMITS.members:,} files, found "
                f"{readable_size(total)} in {len(members):,}; give the unpacked folder if it is genuine"
            )
        super().__init__(path, names)

    def read(self, name: str) -> bytes:
        """Returns a file's contents, checked by the archive's checksum."""
        try:
            return self._archive.read(self._members[name])
        except (OSError, *CORRUPT) as error:
            raise self._damaged(self.title(name), error) from None

    def head(self, name: str, size: int) -> bytes:
        """Returns the first bytes of a file."""
        try:
            with self._archive.open(self._members[name]) as file:
                return file.read(size)
        except (OSError, *CORRUPT) as error:
            raise self._damaged(self.title(name), error) from None

    @staticmethod
    def _damaged(name: object, error: Exception) -> DataError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return DataError(f"{name}: cannot be read from a .zip archive: {reason}; make the archive again")


def open_storage(path: Path) -> Storage:
    """Returns the files at a path that a user gave: a folder, a run's folder, a .zip, or a JSON file.

    A JSON file stands for itself and the folder of its name beside it, or all folders beside it, without
    other JSON files there.

    Raises:
      DataError: nothing is there, or it is none of these.
    """
    if path.is_dir():
        is_run = (path / "predictions").is_dir() and any(
            (path / name).exists() for name in ("record.json", "run.json")
        )
        return FolderStorage(path / "predictions" if is_run else path)
    if not path.exists():
        raise DataError(f"{path}: does not exist; expected a folder of predictions, a .json or a .zip file")
    if zipfile.is_zipfile(path):
        return ZipStorage(path)
    if path.suffix == ".json":
        beside = (f"{path.stem}/",) if path.with_suffix("").is_dir() else _folders_beside(path)
        return FolderStorage(path.parent, (path.name, *beside), path.name)
    if path.suffix == ".zip":
        raise DataError(f"{path}: expected a .zip archive, found a damaged one; make the archive again")
    expected = "a folder of predictions, a .json or a .zip file"
    what = "an empty file" if path.stat().st_size == 0 else "a file of another kind"
    raise DataError(f"{path}: expected {expected}, found {what}; give the folder that holds it")


def _refuse_pipe(path: str) -> None:
    """Raises a DataError about what is there and is no file: reading it might never end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{path}: expected a file, found a pipe, socket or device; remove it")


def _cannot_list(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}; change its permissions") from None


def _folders_beside(path: Path) -> tuple[str, ...]:
    return tuple(f"{folder.name}/" for folder in sorted(path.parent.iterdir()) if folder.is_dir())


def _is_junk(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not _JUNK_FOLDERS.isdisjoint(parts[:-1]) or parts[-1] in _JUNK_FILES or parts[-1].startswith("._")
