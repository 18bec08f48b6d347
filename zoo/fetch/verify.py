"""Verifying a checkpoint: everything is read again, down to each tensor's own checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import VerificationError
from zoo.fetch.archives import RemoteFile, changed_copy, download_target, drop_download, fetch_archive
from zoo.fetch.locations import HttpLocation, locate
from zoo.fetch.parts import digest_file, read_record
from zoo.fetch.pin import LockFile
from zoo.fetch.progress import ProgressCallback
from zoo.fetch.resume import DownloadOptions
from zoo.fetch.unpack import find_checkpoint
from zoo.fetch.unpacked import forget
from zoo.files.cache import Cache
from zoo.files.tensorflow import import_tensorflow
from zoo.files.words import readable_size

KIND = "checkpoints"


@dataclass(frozen=True)
class TensorReport:
    """How much a checkpoint holds: the number of its tensors, and their size in memory."""

    tensors: int
    bytes: int


@dataclass(frozen=True)
class VerificationReport:
    """What was checked of one entry, and found right.

    Attributes:
      name: the entry.
      url: where its archive came from.
      archive: the archive on disk.
      sha256: the archive's digest in hexadecimal.
      bytes: the archive's length.
      expected_by: who said what the archive must be: `the registry`, or a lock file; None at first sight.
      first_seen: the day on which the lock file saw it first; None for a file that the registry pins.
      prefix: the path that TensorFlow calls the checkpoint.
      files: how many files the archive holds.
      tensors: how many tensors the checkpoint holds.
      tensor_bytes: their size in memory.
    """

    name: str
    url: str
    archive: Path
    sha256: str
    bytes: int
    expected_by: str | None
    first_seen: str | None
    prefix: Path
    files: int
    tensors: int
    tensor_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "entry": self.name,
            "url": self.url,
            "archive": str(self.archive),
            "sha256": self.sha256,
            "bytes": self.bytes,
            "expected_by": self.expected_by,
            "first_seen": self.first_seen,
            "checkpoint": str(self.prefix),
            "files": self.files,
            "tensors": self.tensors,
            "tensor_bytes": self.tensor_bytes,
        }

    def __str__(self) -> str:
        known = f"as expected by {self.expected_by}" if self.expected_by else "first sight"
        if self.expected_by is None and self.first_seen is not None:
            known = f"recorded as first seen on {self.first_seen}"
        return (
            f"{self.name}: verified: {readable_size(self.bytes)} with sha256 {self.sha256} ({known}), "
            f"{self.files} files, {self.tensors} tensors with their checksums "
            f"({readable_size(self.tensor_bytes)})"
        )


def verify_archive(
    remote: RemoteFile,
    name: str,
    cache: Cache,
    lock: LockFile,
    progress: ProgressCallback | None = None,
    options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    accept: bool = False,
) -> VerificationReport:
    """Reads a checkpoint's archive, its unpacked files, and every tensor again.

    Raises:
      VerificationError: something differs; what is damaged in the cache is removed.
      ZooError: as for `zoo.fetch.archives.fetch_archive`.
    """
    if isinstance(locate(remote.url), HttpLocation) and not accept:
        _check_download(remote.url, name, cache)
    counted: list[TensorReport] = []
    fetched = fetch_archive(
        remote,
        name,
        KIND,
        cache,
        lock,
        progress,
        options,
        check=lambda folder: counted.append(read_tensors(find_checkpoint(folder))),
        accept=accept,
    )
    changed = fetched.unpacked.changed_contents()
    if changed is not None:
        forget(fetched.unpacked, KIND, cache)
        raise changed_copy(name, changed, "its digest differs")
    return VerificationReport(
        name=name,
        url=fetched.url,
        archive=fetched.archive,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
        expected_by=fetched.expected_by,
        first_seen=fetched.first_seen,
        prefix=find_checkpoint(fetched.unpacked.folder),
        files=len(fetched.unpacked.files),
        tensors=counted[0].tensors,
        tensor_bytes=counted[0].bytes,
    )


def _check_download(url: str, name: str, cache: Cache) -> None:
    target = download_target(url, cache)
    record = read_record(target) if target.is_file() else None
    if record is None:
        return
    found = digest_file(target)
    if (found.bytes, found.sha256) != (record.bytes, record.sha256):
        drop_download(url, cache)
        raise VerificationError(
            f"{name}: {target} was changed on disk: expected {record.bytes} bytes with sha256 "
            f"{record.sha256}, found {found.bytes} with {found.sha256}; "
            f"it was removed, `zoo fetch {name}` fetches it again"
        )


def read_tensors(prefix: Path) -> TensorReport:
    """Reads every tensor of a checkpoint; TensorFlow compares each with the checksum stored beside it.

    Args:
      prefix: the checkpoint: the path of its `.index` file without that ending.

    Raises:
      VerificationError: a tensor is damaged; it is named.
    """
    tf = import_tensorflow()

    # TensorFlow raises IndexError where a data file ends too early.
    damaged = (tf.errors.OpError, RuntimeError, ValueError, IndexError)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = sorted(reader.get_variable_to_shape_map())
    except damaged as error:
        raise VerificationError(
            f"{prefix}.index: the list of tensors is damaged: {_first_line(error)}"
        ) from error
    total_bytes = 0
    for name in names:
        try:
            value = reader.get_tensor(name)
        except damaged as error:
            raise VerificationError(f"{prefix}: tensor {name!r} is damaged: {_first_line(error)}") from error
        total_bytes += value.nbytes if hasattr(value, "nbytes") else len(value)
    return TensorReport(len(names), total_bytes)


def _first_line(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
