"""Fetches the verified files of a registry entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ArchiveError
from zoo.fetch.archives import FetchedArchive, RemoteFile, fetch_archive
from zoo.fetch.pin import LockFile, choose_lock_path
from zoo.fetch.progress import ProgressCallback
from zoo.fetch.resume import DownloadOptions
from zoo.fetch.unpack import find_checkpoint
from zoo.fetch.unpacked import top_folder
from zoo.fetch.verify import VerificationReport, verify_archive
from zoo.files.cache import Cache

if TYPE_CHECKING:
    from zoo.registry.schema import Backbone, DatasetDeclaration, Entry


@dataclass(frozen=True)
class FetchedCheckpoint:
    """A checkpoint that is on disk.

    Attributes:
      archive: the archive that it came in.
      folder: the unpacked archive.
      prefix: the path that TensorFlow calls the checkpoint: `<prefix>.index` is one of its files.
      url: where the archive came from.
      sha256: the archive's digest in hexadecimal.
      bytes: the archive's length.
    """

    archive: Path
    folder: Path
    prefix: Path
    url: str
    sha256: str
    bytes: int


def fetch_checkpoint(
    entry: Entry | Backbone,
    cache: Cache | None = None,
    lock: Path | None = None,
    progress: ProgressCallback | None = None,
    options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
) -> FetchedCheckpoint:
    """Makes sure that an entry's checkpoint is on disk, verified and unpacked.

    Args:
      entry: the registry's entry; its `name` and `checkpoint` are read.
      cache: where to; None for the default one.
      lock: the lock file; None for `ZOO_LOCK`, `zoo.lock` in the working directory, or the cache's.
      progress: takes reports of a download; None shows them on standard error.
      options: retries and time-outs.

    Raises:
      DownloadError: the archive could not be fetched.
      VerificationError: it is not what was declared, pinned, or seen before.
      ArchiveError: it is damaged, unsafe, or holds no checkpoint.
    """
    fetched = _fetch(
        entry.checkpoint, entry.name, "checkpoints", cache, lock, progress, options, check=find_checkpoint
    )
    return FetchedCheckpoint(
        archive=fetched.archive,
        folder=fetched.unpacked.folder,
        prefix=find_checkpoint(fetched.unpacked.folder),
        url=fetched.url,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
    )


def fetch_saved_model(
    entry: Entry,
    cache: Cache | None = None,
    lock: Path | None = None,
    progress: ProgressCallback | None = None,
    options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
) -> Path:
    """Makes sure that an entry's published SavedModel is on disk, and returns its folder.

    Raises:
      ArchiveError: the entry has none, or the archive is damaged, unsafe, or holds none.
      ZooError: as for `fetch_checkpoint`.
    """
    if entry.saved_model is None:
        raise ArchiveError(f"{entry.name}: no SavedModel of this entry was published; use its checkpoint")
    fetched = _fetch(
        entry.saved_model, entry.name, "saved_models", cache, lock, progress, options, check=_find_saved_model
    )
    return _find_saved_model(fetched.unpacked.folder)


def fetch_dataset_archive(
    dataset: DatasetDeclaration,
    cache: Cache | None = None,
    lock: Path | None = None,
    progress: ProgressCallback | None = None,
    options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
) -> Path:
    """Makes sure that a data set is on disk, and returns its folder.

    Where the archive holds everything in one folder, that folder is returned.

    Args:
      dataset: the registry's data set; its `name` and `archive` are read.
      cache: as for `fetch_checkpoint`, like the other arguments.
      lock: the lock file.
      progress: takes reports.
      options: retries and time-outs.

    Raises:
      ArchiveError: the data set has no archive, or a damaged, unsafe, or empty one.
      ZooError: as for `fetch_checkpoint`.
    """
    if dataset.archive is None:
        raise ArchiveError(f"{dataset.name}: no archive can be fetched; give the folder with --data")
    fetched = _fetch(dataset.archive, dataset.name, "datasets", cache, lock, progress, options)
    return top_folder(fetched.unpacked)


def verify_entry(
    entry: Entry | Backbone,
    cache: Cache | None = None,
    lock: Path | None = None,
    progress: ProgressCallback | None = None,
    accept: bool = False,
    options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
) -> VerificationReport:
    """Reads an entry's checkpoint again, whole, and checks all that is known of it.

    That is the archive's digest, its structure, the unpacked files' digests, and each tensor's own checksum.
    What is not on disk yet is fetched. A damaged file of the cache is removed.

    Args:
      entry: the registry's entry; its `name` and `checkpoint` are read.
      cache: as for `fetch_checkpoint`, like the other arguments.
      lock: the lock file.
      progress: takes reports.
      accept: fetch the file again and record it, as it is now, as the one to expect; nothing is recorded if
        its contents are damaged. What the registry pins stays as pinned.
      options: retries and time-outs.

    Raises:
      VerificationError: something differs; a damaged tensor is named.
      ZooError: as for `fetch_checkpoint`.
    """
    cache = cache or Cache()
    return verify_archive(
        entry.checkpoint, entry.name, cache, _lock_file(cache, lock), progress, options, accept=accept
    )


def _fetch(
    remote: RemoteFile,
    name: str,
    kind: str,
    cache: Cache | None,
    lock: Path | None,
    progress: ProgressCallback | None,
    options: DownloadOptions,
    check: Callable[[Path], object] | None = None,
) -> FetchedArchive:
    cache = cache or Cache()
    return fetch_archive(remote, name, kind, cache, _lock_file(cache, lock), progress, options, check)


def _lock_file(cache: Cache, chosen: Path | None) -> LockFile:
    return LockFile(choose_lock_path(cache.root, chosen), cache)


def _find_saved_model(folder: Path) -> Path:
    found = sorted(path.parent for path in folder.rglob("saved_model.pb"))
    if len(found) != 1:
        raise ArchiveError(
            f"{folder}: expected one SavedModel (one saved_model.pb), found {len(found)}; "
            "check what the registry names"
        )
    return found[0]
