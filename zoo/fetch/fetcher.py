"""Fetches what the registry names: brings it to disk, checks it against its pinned digest, and unpacks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import ArchiveError, VerificationError
from zoo.fetch.archive import (
    ChangedCopyError,
    UnpackedArchive,
    find_checkpoint,
    find_saved_model,
    top_folder,
    unpack_into_cache,
)
from zoo.fetch.download import DownloadOptions, download, download_path, drop, reread
from zoo.fetch.locations import PackageLocation, locate
from zoo.fetch.pin import LockedFile, LockFile, choose_lock_path
from zoo.fetch.verify import Expectation, KnownFile, digest_file, read_tensors
from zoo.files.cache import Cache
from zoo.files.words import readable_size
from zoo.registry.schema import Backbone, DatasetDeclaration, Entry, RemoteFile
from zoo.remote.http import HttpLocation


@dataclass(frozen=True)
class Fetched:
    """An archive that is on disk, checked and unpacked.

    `path` is what was looked for in it: a checkpoint's prefix, as TensorFlow calls it (`<path>.index` is one
    of its files), or the folder of a SavedModel or a data set.
    """

    path: Path
    unpacked: UnpackedArchive
    archive: Path  # in the cache, unless the URL names a file of this machine
    url: str
    sha256: str
    bytes: int
    # `the registry`, or a lock file; None at first sight.
    expected_by: str | None = field(compare=False)
    # The day on which the lock file saw it first; None for a file that the registry pins.
    first_seen: str | None = field(compare=False)


@dataclass(frozen=True)
class VerificationReport:
    """What was checked of the entry `name`, and found right; `tensor_bytes` is its size in memory."""

    name: str
    checkpoint: Fetched
    tensors: int
    tensor_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        found = self.checkpoint
        return {
            "entry": self.name,
            "url": found.url,
            "archive": str(found.archive),
            "sha256": found.sha256,
            "bytes": found.bytes,
            "expected_by": found.expected_by,
            "first_seen": found.first_seen,
            "checkpoint": str(found.path),
            "files": len(found.unpacked.files),
            "tensors": self.tensors,
            "tensor_bytes": self.tensor_bytes,
        }

    def __str__(self) -> str:
        found = self.checkpoint
        known = f"as expected by {found.expected_by}" if found.expected_by else "first sight"
        if found.expected_by is None and found.first_seen is not None:
            known = f"recorded as first seen on {found.first_seen}"
        return (
            f"{self.name}: verified: {readable_size(found.bytes)} with sha256 {found.sha256} ({known}), "
            f"{len(found.unpacked.files)} files, {self.tensors} tensors with their checksums "
            f"({readable_size(self.tensor_bytes)})"
        )


class Fetcher:
    """Brings the registry's files to disk, verified and unpacked.

    Every method raises `DownloadError` where an archive cannot be fetched, `VerificationError` where it is
    not what was declared, pinned, or seen before, and `ArchiveError` where it is damaged, unsafe, or does not
    hold what it should; then nothing of it is kept.

    Args:
      cache: where to; None for the default one.
      lock: the lock file; None for `ZOO_LOCK`, `zoo.lock` in the working directory, or the cache's.
      options: retries, time-outs, and whether to show how far a download is.
    """

    def __init__(
        self,
        cache: Cache | None = None,
        lock: Path | None = None,
        options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    ) -> None:
        self.cache = cache or Cache()
        self._pins = LockFile(choose_lock_path(self.cache.root, lock), self.cache)
        self._options = options

    def checkpoint(self, entry: Entry | Backbone) -> Fetched:
        """Fetches an entry's checkpoint; the entry's `name` and `checkpoint` are read."""
        return self.archive(entry.checkpoint, entry.name, "checkpoints", find_checkpoint)

    def own_checkpoint(self, archive: Path) -> tuple[Path, str]:
        """Unpacks a user's own archive; returns the checkpoint's prefix, and the archive's SHA-256."""
        sha256 = digest_file(archive).sha256
        unpacked = unpack_into_cache(archive, sha256, "checkpoints", self.cache)
        return find_checkpoint(unpacked.folder), sha256

    def saved_model(self, entry: Entry) -> Path:
        """Fetches an entry's published SavedModel, and returns its folder."""
        if entry.saved_model is None:
            raise ArchiveError(f"{entry.name}: no SavedModel of this entry was published; use its checkpoint")
        return self.archive(entry.saved_model, entry.name, "saved_models", find_saved_model).path

    def dataset(self, declared: DatasetDeclaration) -> Path:
        """Fetches a data set, and returns its folder: the one in its archive, or the whole of it."""
        if declared.archive is None:
            raise ArchiveError(f"{declared.name}: no archive can be fetched; give the folder with --data")
        return self.archive(declared.archive, declared.name, "datasets", top_folder).path

    def verify(self, entry: Entry | Backbone, *, accept: bool = False) -> VerificationReport:
        """Reads an entry's checkpoint again, whole, and checks all that is known of it.

        That is the archive's digest, its structure, the unpacked files' digests, and each tensor's own
        checksum. What is not on disk yet is fetched. A damaged file of the cache is removed. For `accept` see
        `archive`.
        """
        tensors = tensor_bytes = 0

        def look(folder: Path) -> Path:
            nonlocal tensors, tensor_bytes
            prefix = find_checkpoint(folder)
            tensors, tensor_bytes = read_tensors(prefix)
            return prefix

        location = locate(entry.checkpoint.url)
        if isinstance(location, HttpLocation) and not accept:
            reread(location, self.cache, entry.name)
        found = self.archive(entry.checkpoint, entry.name, "checkpoints", look, accept=accept)
        found.unpacked.require_unchanged("its digest differs", entry.name, self.cache)
        return VerificationReport(entry.name, found, tensors, tensor_bytes)

    def archive(
        self, remote: RemoteFile, name: str, kind: str, look: Callable[[Path], Path], *, accept: bool = False
    ) -> Fetched:
        """Makes sure that an archive is on disk, verified and unpacked.

        At first sight the file is recorded in the lock file, but only after it was unpacked and checked; a
        file that fails is not kept.

        Args:
          name: the entry's name, for messages.
          kind: the part of the cache for its contents.
          look: returns what is looked for in the unpacked folder; raises a `ZooError` if it is not there.
          accept: fetch the file again and record it, as it is now, as the one to expect; nothing is recorded
            if its contents are damaged. What the registry pins stays as pinned.
        """
        location = locate(remote.url)
        # What the package brings along is as good as the package itself.
        watched = remote.sha256 is None and not isinstance(location, PackageLocation)
        expected = Expectation(remote.sha256, remote.bytes)
        if watched and not accept:
            seen = self._pins.expectation(remote.url, name)
            expected = seen if seen.stated else expected
        if isinstance(location, HttpLocation):
            known = download(location, self.cache, expected, self._options, refresh=accept)
            path = download_path(location, self.cache)
        else:
            path = location.file(self.cache)
            known = KnownFile.of(path, remote.url, digest_file(path))
            if wrong := expected.difference(known):
                raise VerificationError(f"{remote.url}: {wrong}")
        try:
            unpacked = unpack_into_cache(path, known.sha256, kind, self.cache)
            found = unpacked.search(look, name, self.cache)
        except ChangedCopyError:
            raise
        except (ArchiveError, VerificationError) as error:
            if isinstance(location, HttpLocation):
                drop(location, self.cache)
            raise type(error)(f"{name}: {error}") from error
        first_seen = self._pins.record(LockedFile.of(known), accept=accept).first_seen if watched else None
        return Fetched(
            path=found,
            unpacked=unpacked,
            archive=path,
            url=remote.url,
            sha256=known.sha256,
            bytes=known.bytes,
            expected_by=expected.origin if expected.stated else None,
            first_seen=first_seen,
        )
