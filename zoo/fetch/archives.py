"""Fetches an archive and checks it against its pinned digest, or against what was seen before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from zoo.errors import ArchiveError, VerificationError
from zoo.fetch.download import download
from zoo.fetch.locations import HttpLocation, LocalLocation, Location, local_file, locate, package_file
from zoo.fetch.parts import Record, digest_file, now
from zoo.fetch.pin import LockedFile, LockFile
from zoo.fetch.places import download_name
from zoo.fetch.progress import ProgressCallback
from zoo.fetch.resume import DownloadOptions, Expectation
from zoo.fetch.unpacked import UnpackedArchive, forget, unpack_into_cache
from zoo.files.atomic import write_atomically
from zoo.files.cache import SET_CACHE, Cache, remove


class RemoteFile(Protocol):
    """What is needed of a file in the registry."""

    @property
    def url(self) -> str:
        """Where it is."""

    @property
    def sha256(self) -> str | None:
        """Its digest in hexadecimal, where known."""

    @property
    def bytes(self) -> int | None:
        """Its length, where known."""


@dataclass(frozen=True)
class FetchedArchive:
    """An archive that is on disk, checked and unpacked.

    Attributes:
      archive: the archive itself; in the cache, unless the URL names a file of this machine.
      unpacked: its contents in the cache.
      url: where it came from.
      sha256: its digest in hexadecimal.
      bytes: its length.
      expected_by: who said what it must be: `the registry`, or a lock file; None at first sight.
      first_seen: the day on which the lock file saw it first; None for a file that the registry pins.
    """

    archive: Path
    unpacked: UnpackedArchive
    url: str
    sha256: str
    bytes: int
    expected_by: str | None
    first_seen: str | None


def fetch_archive(
    remote: RemoteFile,
    name: str,
    kind: str,
    cache: Cache,
    lock: LockFile,
    progress: ProgressCallback | None = None,
    options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    check: Callable[[Path], object] | None = None,
    accept: bool = False,
) -> FetchedArchive:
    """Makes sure that an archive is on disk, verified and unpacked.

    At first sight the file is recorded in the lock file, but only after it was unpacked and checked; a file
    that fails is not kept.

    Args:
      remote: URL, and digest and length where known.
      name: the entry's name, for messages.
      kind: the part of the cache for its contents.
      cache: the cache.
      lock: what was seen before.
      progress: takes reports; None shows them on standard error.
      options: retries and time-outs.
      check: called with the unpacked folder; raises a `ZooError` if it does not hold what it should.
      accept: whatever the file is now becomes what to expect; a file that the registry pins stays as pinned.

    Raises:
      DownloadError: the archive could not be fetched.
      VerificationError: it is not what was declared, pinned, or seen before.
      ArchiveError: it is damaged, unsafe, or does not hold what it should.
    """
    location = locate(remote.url)
    # What the package brings along is as good as the package itself.
    watched = remote.sha256 is None and isinstance(location, (HttpLocation, LocalLocation))
    seen = lock.find(remote.url) if watched and not accept else None
    expected = _expectation(remote, seen, name, lock)
    if isinstance(location, HttpLocation):
        path = download_target(remote.url, cache)
        record = download(
            remote.url,
            location,
            path,
            _downloading(remote.url, cache),
            expected=expected,
            progress=progress,
            options=options,
            refresh=accept,
        )
    else:
        path = _path_on_disk(remote.url, location, cache)
        record = _record_of(remote.url, path)
        wrong = expected.difference(record.bytes, record.sha256) if expected else None
        if wrong:
            raise VerificationError(f"{remote.url}: {wrong}")
    try:
        unpacked = _checked_contents(path, record.sha256, name, kind, cache, check)
    except _WrongArchiveError as error:
        if isinstance(location, HttpLocation):
            drop_download(remote.url, cache)
        raise error.reason from error.reason.__cause__
    if watched:
        seen = lock.record(_locked(record), accept=accept)
    return FetchedArchive(
        archive=path,
        unpacked=unpacked,
        url=remote.url,
        sha256=record.sha256,
        bytes=record.bytes,
        expected_by=expected.origin if expected else None,
        first_seen=seen.first_seen if seen else None,
    )


def download_target(url: str, cache: Cache) -> Path:
    """Returns where a URL's file is, or would be, in the cache; the folder holds nothing else."""
    return cache.folder("downloads") / download_name(url)


def drop_download(url: str, cache: Cache) -> None:
    """Removes a downloaded file, and all that belongs to it, from the cache."""
    with _downloading(url, cache):
        remove(download_target(url, cache).parent)


def _downloading(url: str, cache: Cache) -> AbstractContextManager[None]:
    folder = download_target(url, cache).parent
    return cache.holding("downloads", folder.name, f"{url}: another process is downloading it")


class _WrongArchiveError(Exception):
    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _checked_contents(
    archive: Path,
    sha256: str,
    name: str,
    kind: str,
    cache: Cache,
    check: Callable[[Path], object] | None,
) -> UnpackedArchive:
    try:
        unpacked = unpack_into_cache(archive, sha256, kind, cache)
    except ArchiveError as error:
        raise _WrongArchiveError(ArchiveError(f"{name}: {error}")) from error
    try:
        if check is not None:
            check(unpacked.folder)
    except (ArchiveError, VerificationError) as error:
        changed = unpacked.changed_contents()
        forget(unpacked, kind, cache)
        if changed is not None:
            raise changed_copy(name, changed, str(error)) from error
        raise _WrongArchiveError(type(error)(f"{name}: {error}")) from error
    return unpacked


def changed_copy(name: str, changed: str, how: str) -> VerificationError:
    """Returns the error for an unpacked file that was changed after it was unpacked, and is removed now."""
    return VerificationError(
        f"{name}: {how}; {changed} was changed on disk since it was unpacked: the unpacked copy was removed, "
        f"`zoo fetch {name}` makes it again"
    )


def _expectation(
    remote: RemoteFile, seen: LockedFile | None, name: str, lock: LockFile
) -> Expectation | None:
    if seen is None:
        known = remote.sha256 is not None or remote.bytes is not None
        return Expectation(remote.sha256, remote.bytes) if known else None
    return Expectation(
        seen.sha256,
        seen.bytes,
        origin=f"{lock.path}, first seen {seen.first_seen}",
        remedy=f"the file has changed: accept it with `zoo verify --accept {name}`, or delete its line there",
        pinned=False,
    )


def _path_on_disk(url: str, location: Location, cache: Cache) -> Path:
    if isinstance(location, LocalLocation):
        return local_file(location)
    assert not isinstance(location, HttpLocation)
    resource = package_file(location)
    if isinstance(resource, Path):
        return resource
    # The package is not installed as plain files: its asset is copied out, each time, as it may have changed.
    target = download_target(url, cache)
    with _downloading(url, cache):
        write_atomically(target, resource.read_bytes(), remedy=SET_CACHE)
    return target


def _record_of(url: str, path: Path) -> Record:
    found = asdict(digest_file(path))
    return Record(
        **found, url=url, etag=None, last_modified=None, fetched=now(), mtime_ns=path.stat().st_mtime_ns
    )


def _locked(record: Record) -> LockedFile:
    return LockedFile(
        url=record.url,
        sha256=record.sha256,
        bytes=record.bytes,
        first_seen=record.fetched[:10],
        crc32c=record.crc32c,
        md5=record.md5,
        etag=record.etag,
    )
