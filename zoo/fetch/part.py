"""The files of a download on disk: the unfinished part, and the whole file with its record."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from zoo.fetch.resume import PartState
from zoo.fetch.verify import Digester, Digests, Expectation, digest_file
from zoo.files.cache import SET_CACHE, remove
from zoo.files.json_files import read_json, write_json

if TYPE_CHECKING:
    from zoo.fetch.http import ReplyHead

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class Record:
    """What is known of a file; kept as JSON beside it, where it was downloaded.

    Attributes:
      url: where it came from.
      sha256: digest in hexadecimal.
      bytes: its length.
      crc32c: digest in base64, as the storage service writes it.
      md5: digest in base64.
      etag: the server's validator, if it sent one.
      last_modified: the server's date of the last change, if it sent one.
      fetched: when it was downloaded, ISO 8601 in UTC.
      mtime_ns: the file's time stamp then; another one means that somebody wrote to it.
    """

    url: str
    sha256: str
    bytes: int
    crc32c: str
    md5: str
    etag: str | None
    last_modified: str | None
    fetched: str
    mtime_ns: int

    @classmethod
    def of(
        cls, path: Path, url: str, digests: Digests | None = None, state: PartState | None = None
    ) -> Record:
        """Returns the record of a file as it is now; it is read for its digests, unless they are known."""
        return cls(
            **asdict(digests or digest_file(path)),
            url=url,
            etag=state.etag if state else None,
            last_modified=state.last_modified if state else None,
            fetched=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            mtime_ns=path.stat().st_mtime_ns,
        )


def record_path(target: Path) -> Path:
    """Returns where the record of a downloaded file is kept."""
    return target.with_name(f"{target.name}.json")


def read_record(target: Path) -> Record | None:
    """Returns the record of a downloaded file, or None if there is none or it is damaged."""
    try:
        return Record(**(read_json(record_path(target)) or {}))
    except TypeError:
        return None


def cached_file(url: str, target: Path, expected: Expectation | None) -> Record | None:
    """Returns the record of a file that was downloaded before, or None if it must be downloaded.

    A file whose size and time stamp are those of its record is taken as it is; any other is read again. One
    that is not what its record or the expectation says is removed.

    Args:
      url: where it must have come from.
      target: where it would be.
      expected: what it must be, if known.
    """
    if not target.is_file():
        return None
    record, status = read_record(target), target.stat()
    difference: str | None = "it was changed on disk"
    if record is None or (record.bytes, record.mtime_ns) != (status.st_size, status.st_mtime_ns):
        found = Record.of(target, url)
        if record is None or (record.bytes, record.sha256) == (found.bytes, found.sha256):
            record = replace(record or found, mtime_ns=found.mtime_ns)
            write_json(record_path(target), asdict(record), remedy=SET_CACHE)
        else:
            record = None
    if record is not None and record.url == url:
        difference = expected.difference(record.bytes, record.sha256) if expected else None
        if difference is None:
            return record
    log.warning("%s: removed from the cache: %s", target, difference)
    for path in (target, target.with_name(f"{target.name}.part")):
        remove(path)
        remove(record_path(path))
    return None


class Part:
    """The unfinished file of a download: its bytes, their digests, and which version they belong to.

    As a context it takes up what an earlier process left.

    Args:
      target: where the whole file will go; the part lies beside it.
      url: where the bytes come from.

    Attributes:
      state: what is there, or None if nothing is.
      declared: digests of the whole file that the server declared: base64 by name.
      pieced: True if the bytes came in more than one piece.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.url = url
        self.path = target.with_name(f"{target.name}.part")
        self._stream: BinaryIO | None = None
        self._forget()

    def _forget(self) -> None:
        self.state: PartState | None = None
        self.declared: dict[str, str] = {}
        self.pieced = False
        self._digester = Digester()

    def __enter__(self) -> Part:
        fields = read_json(record_path(self.path)) or {}
        declared = fields.pop("declared", None)
        try:
            state = PartState(**{**fields, "bytes": self.path.stat().st_size})
        except (TypeError, OSError):
            return self
        if state.url == self.url and isinstance(declared, dict):
            self.state, self.declared, self.pieced = state, declared, True
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    @property
    def size_bytes(self) -> int:
        """How many bytes are there."""
        return self.state.bytes if self.state else 0

    def begin(self, head: ReplyHead) -> None:
        """Starts again from nothing, with a new version."""
        self.discard()
        self._stream = self.path.open("wb")
        self.state = PartState(self.url, 0, head.total_bytes, head.etag, head.last_modified)
        self._declare(head)

    def resume(self, head: ReplyHead) -> None:
        """Goes on after the bytes that are there; they are read once, for the digests."""
        assert self.state is not None
        self.digests()
        self.pieced = True
        self._stream = self.path.open("r+b")
        self._stream.seek(self.state.bytes)
        if head.digests or (self.state.total_bytes is None and head.total_bytes is not None):
            self.state = replace(self.state, total_bytes=self.state.total_bytes or head.total_bytes)
            self._declare(head)

    def write(self, chunk: bytes) -> None:
        """Adds bytes at the end."""
        assert self._stream is not None
        assert self.state is not None
        self._stream.write(chunk)
        self._digester.update(chunk)
        self.state = replace(self.state, bytes=self.state.bytes + len(chunk))

    def pause(self) -> None:
        """Puts what is there on disk, to be continued."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def discard(self) -> None:
        """Removes what is there."""
        self.pause()
        self._forget()
        remove(self.path)
        remove(record_path(self.path))

    def digests(self) -> Digests:
        """Returns length and digests of what is there; what an earlier process left is read for them."""
        if self._digester.bytes != self.size_bytes:
            self._digester = Digester()
            with self.path.open("rb") as stream:
                self._digester.read(stream)
        return self._digester.result()

    def land(self) -> Record:
        """Moves the whole file to its place and writes its record."""
        self.pause()
        with self.path.open("rb+") as stream:
            os.fsync(stream.fileno())
        found = self.digests()
        self.path.replace(self.target)
        record = Record.of(self.target, self.url, found, self.state)
        write_json(record_path(self.target), asdict(record), remedy=SET_CACHE)
        remove(record_path(self.path))
        return record

    def _declare(self, head: ReplyHead) -> None:
        assert self.state is not None
        self.declared = dict(head.digests or self.declared)
        state = {**asdict(self.state), "bytes": 0, "declared": self.declared}
        write_json(record_path(self.path), state, remedy=SET_CACHE)
