"""What archives hold, unpacked into the cache: made once, found by the archive's digest, and checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo.errors import ArchiveError, VerificationError, ZooError
from zoo.fetch.unpack import Limits, UnpackedFile, copy_and_digest, unpack
from zoo.files.cache import MANIFEST_NAME, UNFINISHED_SUFFIX, Cache, remove, touch
from zoo.files.json_files import read_json, write_json

KEY_LENGTH = 32
"""So many hexadecimal digits of the archive's SHA-256 name its folder."""


class ChangedCopyError(VerificationError):
    """An unpacked file was changed on disk; the archive itself is not to blame."""


@dataclass(frozen=True)
class UnpackedArchive:
    """An archive's contents, unpacked in the cache: their folder, and the list of their files."""

    folder: Path
    files: tuple[UnpackedFile, ...]

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
            sha256: str | None = None
            with suppress(OSError), (self.folder / file.path).open("rb") as stream:
                _, sha256 = copy_and_digest(stream)
            if sha256 != file.sha256:
                return file.path
        return None

    def search(self, look: Callable[[Path], Path], name: str, cache: Cache) -> Path:
        """Returns what `look` finds in the folder of the entry `name`; if it raises, the folder is removed.

        Raises:
          ChangedCopyError: it raised, and the folder was changed after it was unpacked.
          ZooError: it raised.
        """
        try:
            return look(self.folder)
        except (ArchiveError, VerificationError) as error:
            self.require_unchanged(str(error), name, cache)
            self.forget(cache)
            raise

    def require_unchanged(self, how: str, name: str, cache: Cache) -> None:
        """Reads every file of the entry `name`; `how` says what else is wrong, for the message.

        Raises:
          ChangedCopyError: a file was changed after it was unpacked; the folder is removed from the cache.
        """
        if (changed := self.changed_contents()) is not None:
            self.forget(cache)
            raise ChangedCopyError(
                f"{name}: {how}; {changed} was changed on disk since it was unpacked: the unpacked copy was "
                f"removed, `zoo fetch {name}` makes it again"
            )

    def forget(self, cache: Cache) -> None:
        """Removes it from the cache."""
        home = self.folder.parent
        with cache.holding(home.parent.name, home.name, f"{home}: another process is using it"):
            remove(home)


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
    `sha256` is the archive's digest in hexadecimal, and `kind` is one of `zoo.files.cache.KINDS`.

    Raises:
      ArchiveError: the archive is damaged, unsafe, or of another kind; nothing is left behind.
      ZooError: the cache cannot be written.
    """
    key = sha256[:KEY_LENGTH]
    home = cache.folder(kind) / key
    with cache.holding(kind, key, f"{archive}: another process is unpacking it"):
        manifest = read_json(home / MANIFEST_NAME) or {}
        with suppress(KeyError, TypeError):
            files = tuple(UnpackedFile(**file) for file in manifest["files"])
            found = UnpackedArchive(home / "contents", files)
            if manifest["sha256"] == sha256 and found.changed_size() is None:
                touch(home / MANIFEST_NAME)
                return found
        remove(home)
        unfinished = home.with_name(f"{key}{UNFINISHED_SUFFIX}")
        remove(unfinished)
        made = unfinished / "contents"
        try:
            made.mkdir(parents=True)
            files = tuple(unpack(archive, made, limits))
            manifest = {"archive": archive.name, "sha256": sha256, "files": [asdict(file) for file in files]}
            write_json(unfinished / MANIFEST_NAME, manifest)
            unfinished.replace(home)
        except OSError as error:
            raise ZooError(f"{archive}: cannot be unpacked into {home}: {error.strerror or error}") from error
        finally:
            remove(unfinished)
        return UnpackedArchive(home / "contents", files)


def _files(folder: Path) -> list[Path]:
    # Archives made on a Mac hold a `._name` beside each name.
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("._"))


def find_checkpoint(folder: Path) -> Path:
    """Returns the prefix of the one checkpoint in a folder, whatever its layout and number.

    A checkpoint is one `<prefix>.index` with all its `<prefix>.data-?????-of-?????` files beside it.

    Raises:
      ArchiveError: there is none, more than one, or one with files missing.
    """
    files = _files(folder)
    indices = [path for path in files if path.name.endswith(".index")]
    if len(indices) != 1:
        listed = indices or files
        names = ", ".join(path.relative_to(folder).as_posix() for path in listed[:6])
        more = f", and {len(listed) - 6} more" if len(listed) > 6 else ""
        raise ArchiveError(
            f"{folder}: expected one checkpoint (one *.index file), found {len(indices) or 'none'}"
            f"{' among' if not indices else ':'} {names or 'no files'}{more}; give another one"
        )
    prefix = indices[0].with_name(indices[0].name.removesuffix(".index"))
    shards = [
        (int(match[1]), int(match[2]))
        for path in prefix.parent.iterdir()
        if (match := re.fullmatch(re.escape(prefix.name) + r"\.data-(\d{5})-of-(\d{5})", path.name))
    ]
    counts = {count for _, count in shards}
    count = min(counts, default=0)
    if len(counts) != 1 or sorted(number for number, _ in shards) != list(range(count)):
        found = ", ".join(f"{number:05}-of-{of:05}" for number, of in sorted(shards)) or "none"
        raise ArchiveError(
            f"{indices[0]}: expected all *.data-?????-of-????? files beside it, found {found}; "
            "the archive is incomplete: fetch it again"
        )
    return prefix


def find_saved_model(folder: Path) -> Path:
    """Returns the folder of the one SavedModel in a folder; raises ArchiveError for none, or several."""
    found = sorted(path.parent for path in folder.rglob("saved_model.pb"))
    if len(found) != 1:
        raise ArchiveError(
            f"{folder}: expected one SavedModel (one saved_model.pb), found {len(found)}; "
            "check what the registry names"
        )
    return found[0]


def top_folder(folder: Path) -> Path:
    """Returns the one folder inside a folder that holds every file, or the folder itself.

    Raises ArchiveError where there are no files.
    """
    tops = {path.relative_to(folder).parts[0] for path in _files(folder)}
    if not tops:
        raise ArchiveError(f"{folder}: the archive holds no files; check what the registry names")
    only = folder / min(tops)
    return only if len(tops) == 1 and only.is_dir() else folder
