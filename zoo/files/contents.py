"""What is in the cache, how large it is, and pruning."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InUseError, UsageError
from zoo.files.cache import KINDS, MANIFEST_NAME, RUNS, TAG_NAME, UNFINISHED_SUFFIX, Cache, remove
from zoo.files.json_files import read_json
from zoo.files.words import counted, readable_size


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache: a file or a folder in the part `kind`."""

    kind: str
    name: str
    path: Path
    bytes: int  # of the contents of files alone
    used_s: float  # seconds since the epoch
    archive: str | None = None  # that it was unpacked from, for what goes by a digest

    @property
    def title(self) -> str:
        """Its name, and that of its archive."""
        return f"{self.name} ({self.archive})" if self.archive else self.name

    def to_json(self) -> dict[str, Any]:
        """Returns the entry as JSON values."""
        return asdict(self) | {"path": str(self.path)}


@dataclass(frozen=True)
class CacheDescription:
    """Where the cache is and what it holds."""

    root: Path
    entries: tuple[CacheEntry, ...]
    runs_bytes: int

    @property
    def bytes(self) -> int:
        """Size of all entries; results of runs are not part of it."""
        return _bytes(self.entries)

    def to_json(self) -> dict[str, Any]:
        """Returns the description as JSON values."""
        kinds = {
            kind: {"bytes": _bytes(entries), "entries": [entry.to_json() for entry in entries]}
            for kind, entries in self._by_kind().items()
        }
        return {"root": str(self.root), "bytes": self.bytes, "kinds": kinds, "runs_bytes": self.runs_bytes}

    def __str__(self) -> str:
        lines = [f"{self.root}: {readable_size(self.bytes)}"]
        for kind, entries in self._by_kind().items():
            lines.append(f"  {kind:<22}{readable_size(_bytes(entries)):>10}  {KINDS[kind]}")
            lines += [f"    {readable_size(entry.bytes):>10}  {entry.title}" for entry in entries]
        lines.append(f"  {RUNS:<22}{readable_size(self.runs_bytes):>10}  results, never pruned")
        return "\n".join(lines)

    def _by_kind(self) -> dict[str, list[CacheEntry]]:
        return {kind: [entry for entry in self.entries if entry.kind == kind] for kind in KINDS}


@dataclass(frozen=True)
class PruneReport:
    """What pruning removed, or would remove, and what it left because it is in use."""

    removed: tuple[CacheEntry, ...]
    in_use: tuple[CacheEntry, ...]
    dry_run: bool

    @property
    def freed_bytes(self) -> int:
        """Size of what was removed, or would be."""
        return _bytes(self.removed)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "dry_run": self.dry_run,
            "freed_bytes": self.freed_bytes,
            "removed": [entry.to_json() for entry in self.removed],
            "in_use": [entry.to_json() for entry in self.in_use],
        }

    def __str__(self) -> str:
        verb = "would remove" if self.dry_run else "removed"
        lines = [f"{verb} {entry.kind}/{entry.title}, {readable_size(entry.bytes)}" for entry in self.removed]
        lines += [f"kept {entry.kind}/{entry.name}: another process is using it" for entry in self.in_use]
        total = counted(len(self.removed), "entry", "entries")
        return "\n".join([*lines, f"{verb} {total}, {readable_size(self.freed_bytes)}"])


def entries(cache: Cache, kinds: Collection[str] | None = None) -> list[CacheEntry]:
    """Returns what the cache holds, of all kinds by default; raises UsageError for an unknown kind."""
    chosen = set(KINDS if kinds is None else kinds)
    if unknown := sorted(chosen - set(KINDS)):
        raise UsageError(f"the cache has no part {unknown[0]!r}; expected one of {', '.join(KINDS)}")
    found = []
    for kind in filter(chosen.__contains__, KINDS):
        folder = cache.root / kind
        if not folder.is_symlink() and (folder / TAG_NAME).is_file():
            paths = sorted(path for path in folder.iterdir() if path.name != TAG_NAME)
            found += [_measure(kind, path) for path in paths]
    return found


def describe(cache: Cache) -> CacheDescription:
    """Returns where the cache is and how large each part of it is."""
    runs = cache.root / RUNS
    runs_bytes = _measure(RUNS, runs).bytes if runs.is_dir() else 0
    return CacheDescription(cache.root, tuple(entries(cache)), runs_bytes)


def prune(
    cache: Cache,
    kinds: Collection[str] | None = None,
    older_than_days: float | None = None,
    dry_run: bool = False,
) -> PruneReport:
    """Removes entries; never one that another process is making, never anything outside the cache.

    Without `kinds` and `older_than_days`, everything goes; `dry_run` says what would go, and removes nothing.

    Raises:
      UsageError: there is no such kind, or the number of days is not 0 or more.
      ZooError: a file cannot be removed.
    """
    if older_than_days is not None and not older_than_days >= 0:
        raise UsageError(f"--older-than-days {older_than_days:g}: expected 0 or more")
    removed, in_use = [], []
    now = time.time()
    for entry in entries(cache, kinds):
        if older_than_days is not None and now - entry.used_s < older_than_days * 86400:
            continue
        # The folder of an archive that is being unpacked goes by the name of the one it will become.
        name = entry.name.removesuffix(UNFINISHED_SUFFIX)
        try:
            with cache.holding(entry.kind, name, f"{entry.path}: another process is using it", wait=False):
                if not dry_run:
                    remove(entry.path)
                removed.append(entry)
        except InUseError:
            in_use.append(entry)
    return PruneReport(tuple(removed), tuple(in_use), dry_run)


def _bytes(entries: Collection[CacheEntry]) -> int:
    return sum(entry.bytes for entry in entries)


def _measure(kind: str, path: Path) -> CacheEntry:
    files = [path]
    if path.is_dir() and not path.is_symlink():
        files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    statuses = []
    for file in files:
        with suppress(OSError):
            statuses.append(file.lstat())
    # Unpacked files keep no useful date; the entry's own records do, and are touched at each use.
    used_s = max((status.st_mtime for status in statuses), default=path.lstat().st_mtime)
    archive = (read_json(path / MANIFEST_NAME) or {}).get("archive")
    archive = archive if isinstance(archive, str) else None
    # A file with several names counts once.
    size = sum(status.st_size // max(1, status.st_nlink) for status in statuses)
    return CacheEntry(kind, path.name, path, size, used_s, archive)
