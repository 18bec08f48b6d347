"""Computes lengths and digests of files."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import IO

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
