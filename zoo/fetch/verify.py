"""Computes and records files' digests, and compares them with what server, registry and lock file say."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from zoo.errors import DownloadError, VerificationError
from zoo.files.cache import SET_CACHE, touch
from zoo.files.digester import Digester, Digests
from zoo.files.json_files import read_json, write_json
from zoo.files.tensorflow import import_tensorflow
from zoo.files.words import utc_now

log = logging.getLogger("zoo")


def digest_file(path: Path) -> Digests:
    """Returns length and digests of a file, read whole; raises DownloadError where it cannot be read."""
    digester = Digester()
    try:
        with path.open("rb") as stream:
            digester.read(stream)
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read: {error.strerror}") from error
    return digester.result()


@dataclass(frozen=True)
class Expectation:
    """What a file must be where that is known, who says so, and what to do about a difference."""

    sha256: str | None = None
    bytes: int | None = None
    origin: str = "the registry"  # or `/home/me/zoo.lock, first seen 2025-03-01`
    remedy: str = "if the new file is the right one, change the registry entry"
    # Whether another length is refused as soon as the server declares it; else the file is downloaded all the
    # same, to say what it is now.
    pinned: bool = True

    @property
    def stated(self) -> bool:
        """Whether anything is expected at all."""
        return (self.sha256, self.bytes) != (None, None)

    @property
    def pinned_bytes(self) -> int | None:
        """The length that a server may declare, if no other is accepted."""
        return self.bytes if self.pinned else None

    def difference(self, found: Digests) -> str | None:
        """Returns what differs in words, or None if nothing does."""
        parts = []
        if self.bytes is not None and self.bytes != found.bytes:
            parts.append(f"expected {self.bytes} bytes, found {found.bytes}")
        if self.sha256 is not None and self.sha256.lower() != found.sha256:
            parts.append(f"expected sha256 {self.sha256.lower()}, found {found.sha256}")
        return f"{', '.join(parts)} (expected by {self.origin}); {self.remedy}" if parts else None


def declared_difference(declared: Mapping[str, str], found: Digests) -> str | None:
    """Returns how a file differs from the `crc32c` and `md5` that the server declared, if it does."""
    for name, expected in sorted(declared.items()):
        actual = getattr(found, name)
        if actual != expected:
            return f"the server declares {name} {expected}, the {found.bytes} bytes that came have {actual}"
    return None


@dataclass(frozen=True)
class KnownFile(Digests):
    """What is known of a file; kept as JSON beside it, where it was downloaded."""

    url: str
    etag: str | None
    last_modified: str | None
    fetched: str  # ISO 8601 in UTC
    mtime_ns: int  # the file's time stamp then; another one means that somebody wrote to it

    @classmethod
    def of(
        cls, path: Path, url: str, digests: Digests, etag: str | None = None, last_modified: str | None = None
    ) -> KnownFile:
        """Returns what is known of a file as it is now."""
        known = {**asdict(digests), "url": url, "etag": etag, "last_modified": last_modified}
        return cls(**known, fetched=utc_now(), mtime_ns=path.stat().st_mtime_ns)


def known_path(target: Path) -> Path:
    """Returns where it is written down what is known of a downloaded file."""
    return target.with_name(f"{target.name}.json")


def read_known(target: Path) -> KnownFile | None:
    """Reads what is known of a downloaded file; None if nothing is, or what was written is damaged."""
    try:
        return KnownFile(**(read_json(known_path(target)) or {}))
    except TypeError:
        return None


def recognise(url: str, target: Path, expected: Expectation) -> KnownFile | None:
    """Returns what is known of a file that was downloaded before, or None if it must be downloaded.

    A file that has its size and time stamp still is taken as it is; any other is read again. One that is
    not what it was, or not as expected, is removed, with what an interrupted download left.
    """
    if not target.is_file():
        return None
    known, status = read_known(target), target.stat()
    if known is None or (known.bytes, known.mtime_ns) != (status.st_size, status.st_mtime_ns):
        found = KnownFile.of(target, url, digest_file(target))
        if known is None or (known.bytes, known.sha256) == (found.bytes, found.sha256):
            known = replace(known or found, mtime_ns=found.mtime_ns)
            write_json(known_path(target), asdict(known), remedy=SET_CACHE)
        else:
            known = None
    difference: str | None = "it was changed on disk"
    if known is not None and known.url == url:
        difference = expected.difference(known)
        if difference is None:
            touch(known_path(target))
            return known
    log.warning("%s: removed from the cache: %s", target, difference)
    for path in (target, target.with_name(f"{target.name}.part")):
        path.unlink(missing_ok=True)
        known_path(path).unlink(missing_ok=True)
    return None


def read_tensors(prefix: Path) -> tuple[int, int]:
    """Returns how many tensors a checkpoint has, and their bytes in memory.

    Every tensor is read; TensorFlow compares each with the checksum stored beside it.

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
    return len(names), total_bytes


def _first_line(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
