"""The cache: one folder for what is downloaded and made from it; where it is, how large, and pruning."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InUseError, UsageError, ZooError
from zoo.files.atomic import write_atomically, writing
from zoo.files.json_files import read_json
from zoo.files.locks import holding
from zoo.files.words import counted

SET_CACHE = "set ZOO_CACHE to a folder that can be written"
"""What to do about a cache that cannot be written."""

KINDS = {
    "downloads": "archives as they were downloaded",
    "checkpoints": "unpacked checkpoints",
    "saved_models": "unpacked SavedModels",
    "datasets": "unpacked data sets",
    "panoptic_ground_truth": "panoptic ground truth made from data sets",
    "fingerprints": "digests of data sets' files",
    "numba": "machine code of the pixel loops",
}
"""The parts of the cache that can be made again, and what each holds."""

RUNS = "runs"
"""Results live beside the cache's parts and are never pruned."""

TAG_NAME = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Made by the model zoo. All in this folder can be made again: `zoo cache prune` removes it.\n"
)
"""The common mark of a cache folder; backup programs skip it, and pruning touches no folder without it."""


def default_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the cache's folder: `ZOO_CACHE`, or the user's cache folder of this system.

    Raises:
      UsageError: `ZOO_CACHE` is not set, and this user has no home folder.
    """
    chosen = environ.get("ZOO_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen)).absolute()
    import platformdirs

    root = Path(platformdirs.user_cache_dir("zoo", appauthor=False))
    # In a container whose user has neither HOME nor an entry in /etc/passwd, `~` stays `~`.
    if not root.is_absolute():
        raise UsageError("this user has no home folder for the cache; set ZOO_CACHE to a folder")
    return root


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
      kind: the part of the cache.
      name: its name there.
      path: its file or folder.
      bytes: its size on disk, the contents of files alone.
      used_s: when it was last used, in seconds since the epoch.
      archive: the archive that it was unpacked from, for what goes by a digest.
    """

    kind: str
    name: str
    path: Path
    bytes: int
    used_s: float
    archive: str | None = None


@dataclass(frozen=True)
class CacheDescription:
    """Where the cache is and what it holds."""

    root: Path
    entries: tuple[CacheEntry, ...]
    runs_bytes: int

    @property
    def bytes(self) -> int:
        """Size of all entries; results of runs are not part of it."""
        return sum(entry.bytes for entry in self.entries)

    def to_json(self) -> dict[str, Any]:
        """Returns the description as JSON values."""
        kinds = {}
        for kind in KINDS:
            entries = [entry for entry in self.entries if entry.kind == kind]
            kinds[kind] = {
                "bytes": sum(entry.bytes for entry in entries),
                "entries": [
                    {
                        "name": entry.name,
                        "path": str(entry.path),
                        "bytes": entry.bytes,
                        "used_s": entry.used_s,
                        "archive": entry.archive,
                    }
                    for entry in entries
                ],
            }
        return {"root": str(self.root), "bytes": self.bytes, "kinds": kinds, "runs_bytes": self.runs_bytes}

    def __str__(self) -> str:
        lines = [f"{self.root}: {readable_size(self.bytes)}"]
        for kind, meaning in KINDS.items():
            entries = [entry for entry in self.entries if entry.kind == kind]
            total = readable_size(sum(entry.bytes for entry in entries))
            lines.append(f"  {kind:<22}{total:>10}  {meaning}")
            lines += [f"    {readable_size(entry.bytes):>10}  {_title(entry)}" for entry in entries]
        lines.append(f"  {RUNS:<22}{readable_size(self.runs_bytes):>10}  results, never pruned")
        return "\n".join(lines)


@dataclass(frozen=True)
class PruneReport:
    """What pruning removed, or would remove, and what it left because it is in use."""

    removed: tuple[CacheEntry, ...]
    in_use: tuple[CacheEntry, ...]
    dry_run: bool

    @property
    def freed_bytes(self) -> int:
        """Size of what was removed, or would be."""
        return sum(entry.bytes for entry in self.removed)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "dry_run": self.dry_run,
            "freed_bytes": self.freed_bytes,
            "removed": [asdict(entry) | {"path": str(entry.path)} for entry in self.removed],
            "in_use": [asdict(entry) | {"path": str(entry.path)} for entry in self.in_use],
        }

    def __str__(self) -> str:
        verb = "would remove" if self.dry_run else "removed"
        lines = [
            f"{verb} {entry.kind}/{_title(entry)}, {readable_size(entry.bytes)}" for entry in self.removed
        ]
        lines += [f"kept {entry.kind}/{entry.name}: another process is using it" for entry in self.in_use]
        lines.append(
            f"{verb} {counted(len(self.removed), 'entry', 'entries')}, {readable_size(self.freed_bytes)}"
        )
        return "\n".join(lines)


class Cache:
    """The cache in one folder.

    Layout: `<root>/<kind>/<entry>` for each of `KINDS`, and `<root>/locks` for the locks between processes.

    Args:
      root: the folder; None for `ZOO_CACHE` or the user's cache folder. It is made when first written to.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root).absolute() if root is not None else default_root()

    def folder(self, kind: str) -> Path:
        """Returns the folder of one part, which is made and marked if it is new.

        Raises:
          UsageError: a folder of that name is there and is not a cache's.
          ZooError: it cannot be written.
        """
        if kind not in KINDS:
            raise ValueError(f"no part of the cache is called {kind}")
        folder = self.root / kind
        tag = folder / TAG_NAME
        with writing(folder, SET_CACHE):
            folder.mkdir(parents=True, exist_ok=True)
            if not tag.exists():
                others = [path for path in folder.iterdir() if TAG_NAME not in path.name]
                # Another process may have made, marked and used the folder just now.
                if others and not tag.exists():
                    raise UsageError(
                        f"{folder}: expected a folder of the cache, found one that holds other files; "
                        "set ZOO_CACHE to another folder"
                    )
                write_atomically(tag, TAG_TEXT, remedy=SET_CACHE)
        return folder

    def holding(self, kind: str, name: str, taken: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Holds the lock that a process takes while it makes or removes an entry; see `locks.holding`."""
        path = self.root / "locks" / f"{kind}-{name}.lock"
        return holding(path, taken, wait=wait, remedy=SET_CACHE)

    def entries(self, kinds: Collection[str] | None = None) -> list[CacheEntry]:
        """Returns what the cache holds, by kind and name; None means every kind.

        Raises:
          UsageError: there is no such kind.
        """
        unknown = sorted(set(kinds or ()) - set(KINDS))
        if unknown:
            raise UsageError(f"the cache has no part {unknown[0]!r}; expected one of {', '.join(KINDS)}")
        found = []
        for kind in KINDS if kinds is None else [kind for kind in KINDS if kind in kinds]:
            folder = self.root / kind
            if folder.is_symlink() or not (folder / TAG_NAME).is_file():
                continue
            for path in sorted(folder.iterdir()):
                if path.name != TAG_NAME:
                    found.append(_measure(kind, path))
        return found

    def describe(self) -> CacheDescription:
        """Returns where the cache is and how large each part of it is."""
        runs = self.root / RUNS
        runs_bytes = _measure(RUNS, runs).bytes if runs.is_dir() else 0
        return CacheDescription(self.root, tuple(self.entries()), runs_bytes)

    def prune(
        self,
        kinds: Collection[str] | None = None,
        older_than_days: float | None = None,
        dry_run: bool = False,
    ) -> PruneReport:
        """Removes entries; never one that another process is making, never anything outside the cache.

        Args:
          kinds: parts of the cache; None for all.
          older_than_days: only what was not used for so many days; None for all.
          dry_run: say what would go; remove nothing.

        Raises:
          UsageError: there is no such kind, or the number of days is not 0 or more.
          ZooError: a file cannot be removed.
        """
        if older_than_days is not None and not older_than_days >= 0:
            raise UsageError(f"--older-than-days {older_than_days:g}: expected 0 or more")

        removed, in_use = [], []
        now = time.time()
        for entry in self.entries(kinds):
            if older_than_days is not None and now - entry.used_s < older_than_days * 86400:
                continue
            # The folder of an archive that is being unpacked goes by the name of the one it will become.
            name = entry.name.removesuffix(UNFINISHED)
            try:
                with self.holding(entry.kind, name, f"{entry.path}: another process is using it", wait=False):
                    if not dry_run:
                        remove(entry.path)
                    removed.append(entry)
            except InUseError:
                in_use.append(entry)
        return PruneReport(tuple(removed), tuple(in_use), dry_run)


MANIFEST_NAME = "manifest.json"
"""Lists the files of an unpacked archive."""

UNFINISHED = ".unfinished"
"""Ends the name of a folder that is being filled."""


def remove(path: Path) -> None:
    """Removes a file, a link (never what it points to), or a folder; nothing if it is not there.

    Raises:
      ZooError: it cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ZooError(f"{path}: cannot be removed: {error.strerror}; remove it by hand") from error


def touch(path: Path) -> None:
    """Marks a file or folder as used now; a cache that is only readable stays usable."""
    try:
        os.utime(path)
    except OSError:
        return


def readable_size(size_bytes: int) -> str:
    """Returns a size in words, in powers of 1000.

    >>> readable_size(999), readable_size(9_696_695)
    ('999 B', '9.7 MB')
    """
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95 or (unit == "B" and size < 1000):
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _title(entry: CacheEntry) -> str:
    return f"{entry.name} ({entry.archive})" if entry.archive else entry.name


def _measure(kind: str, path: Path) -> CacheEntry:
    size, used_s = 0, 0.0
    for found in _files(path):
        try:
            status = found.lstat()
        except OSError:
            continue
        size += status.st_size
        # Unpacked files keep no useful date; the entry's own records do, and are touched at each use.
        used_s = max(used_s, status.st_mtime)
    if not used_s:
        used_s = path.lstat().st_mtime
    archive = (read_json(path / MANIFEST_NAME) or {}).get("archive")
    return CacheEntry(kind, path.name, path, size, used_s, archive if isinstance(archive, str) else None)


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder) / name for name in names)
