"""Digests, and what they are compared with: the server's, the registry's, a lock file's, each tensor's."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zoo.errors import DownloadError, VerificationError
from zoo.files.tensorflow import import_tensorflow

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Digests:
    """Length and digests of one file; `crc32c` and `md5` as the storage service writes them (base64)."""

    bytes: int
    sha256: str
    crc32c: str
    md5: str


class Digester:
    """Computes a file's length and digests while its bytes pass."""

    def __init__(self) -> None:
        import google_crc32c

        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32c = google_crc32c.Checksum()

    def update(self, chunk: bytes) -> None:
        """Takes in the next bytes."""
        self.bytes += len(chunk)
        self._sha256.update(chunk)
        self._md5.update(chunk)
        self._crc32c.update(chunk)

    def read(self, stream: IO[bytes]) -> None:
        """Takes in a stream to its end."""
        while chunk := stream.read(READ_BYTES):
            self.update(chunk)

    def result(self) -> Digests:
        """Returns the digests of all bytes so far."""
        return Digests(
            bytes=self.bytes,
            sha256=self._sha256.hexdigest(),
            crc32c=base64.b64encode(self._crc32c.digest()).decode(),
            md5=base64.b64encode(self._md5.digest()).decode(),
        )


def digest_file(path: Path) -> Digests:
    """Returns length and digests of a file, read whole.

    Raises:
      DownloadError: it cannot be read.
    """
    digester = Digester()
    try:
        with path.open("rb") as stream:
            digester.read(stream)
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read: {error.strerror}") from error
    return digester.result()


@dataclass(frozen=True)
class Expectation:
    """What a file must be, and who says so.

    Attributes:
      sha256: the digest in hexadecimal, if known.
      bytes: the length, if known.
      origin: who says so, e.g. `the registry` or `/home/me/zoo.lock, first seen 2025-03-01`.
      remedy: what the user can do about a difference.
      pinned: True if another length is refused as soon as the server declares it; False if the file is
        downloaded all the same, to say what it is now.
    """

    sha256: str | None
    bytes: int | None
    origin: str = "the registry"
    remedy: str = "if the new file is the right one, change the registry entry"
    pinned: bool = True

    def difference(self, found_bytes: int, found_sha256: str) -> str | None:
        """Returns what differs in words, or None if nothing does."""
        parts = []
        if self.bytes is not None and self.bytes != found_bytes:
            parts.append(f"expected {self.bytes} bytes, found {found_bytes}")
        if self.sha256 is not None and self.sha256.lower() != found_sha256:
            parts.append(f"expected sha256 {self.sha256.lower()}, found {found_sha256}")
        return f"{', '.join(parts)} (expected by {self.origin}); {self.remedy}" if parts else None


def declared_difference(declared: Mapping[str, str], found: Digests) -> str | None:
    """Returns how a file differs from the digests that the server declared, or None if it does not.

    Args:
      declared: base64 by name, `crc32c` and `md5`; either may be absent.
      found: of the bytes that came.
    """
    for name, expected in sorted(declared.items()):
        actual = getattr(found, name)
        if actual != expected:
            return f"the server declares {name} {expected}, the {found.bytes} bytes that came have {actual}"
    return None


def read_tensors(prefix: Path) -> tuple[int, int]:
    """Reads every tensor of a checkpoint; TensorFlow compares each with the checksum stored beside it.

    Args:
      prefix: the checkpoint: the path of its `.index` file without that ending.

    Returns:
      how many tensors there are, and their bytes in memory.

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
