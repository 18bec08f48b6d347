"""Downloaded files on disk: their records, and the unfinished ones with what is needed to go on."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from zoo.errors import DownloadError
from zoo.fetch.locations import ReplyHead
from zoo.fetch.resume import Digester, Digests, Expectation, PartState
from zoo.files.cache import SET_CACHE, remove
from zoo.files.json_files import read_json, write_json

log = logging.getLogger("zoo")

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Record:
    """What is known of a downloaded file; kept as JSON beside it.

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


def digest_file(path: Path) -> Digests:
    """Returns length and digests of a file, read whole.

    Raises:
      DownloadError: it cannot be read.
    """
    digester = Digester()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(READ_BYTES):
                digester.update(chunk)
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read: {error.strerror}") from error
    return digester.result()


def record_path(target: Path) -> Path:
    """Returns where the record of a downloaded file is kept."""
    return target.with_name(f"{target.name}.json")


def read_record(target: Path) -> Record | None:
    """Returns the record of a downloaded file, or None if there is none or it is damaged."""
    try:
        return Record(**(read_json(record_path(target)) or {}))
    except TypeError:
        return None


def discard(target: Path) -> None:
    """Removes a downloaded file, its record, and what an interrupted download left."""
    part = target.with_name(f"{target.name}.part")
    for path in (target, record_path(target), part, record_path(part)):
        remove(path)


def cached_file(
    url: str, target: Path, expected: Expectation | None, *, reread: bool = False
) -> Record | None:
    """Returns the record of a file that was downloaded before, or None if it must be downloaded.

    A file whose size and time stamp are those of its record is taken as it is; any other is read again. One
    that is not what its record or the expectation says is removed.

    Args:
      url: where it must have come from.
      target: where it would be.
      expected: what it must be, if known.
      reread: read it again in any case.
    """
    if not target.is_file():
        return None
    record = read_record(target)
    status = target.stat()
    if record is None or reread or (record.bytes, record.mtime_ns) != (status.st_size, status.st_mtime_ns):
        record = _reread(url, target, record)
    difference = None
    if record is not None and record.url == url:
        difference = expected.difference(record.bytes, record.sha256) if expected else None
        if difference is None:
            return record
    log.warning("%s: removed from the cache: %s", target, difference or "it was changed on disk")
    discard(target)
    return None


def _reread(url: str, target: Path, record: Record | None) -> Record | None:
    found = digest_file(target)
    if record is None:
        record = Record(**asdict(found), url=url, etag=None, last_modified=None, fetched=now(), mtime_ns=0)
    if (record.bytes, record.sha256) != (found.bytes, found.sha256):
        return None
    record = Record(**{**asdict(record), "mtime_ns": target.stat().st_mtime_ns})
    write_json(record_path(target), asdict(record), remedy=SET_CACHE)
    return record


class Part:
    """The unfinished file of a download: its bytes, their digests, and which version they belong to.

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
        self.state: PartState | None = None
        self.declared: dict[str, str] = {}
        self.pieced = False
        self._digester = Digester()
        self._stream: BinaryIO | None = None
        self._read_state()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

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
        self.load_digests()
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
        self._close()

    def load_digests(self) -> None:
        """Reads the bytes that an earlier process left, unless their digests are known."""
        if self._digester.bytes == self.size_bytes:
            return
        self._digester = Digester()
        with self.path.open("rb") as stream:
            while chunk := stream.read(READ_BYTES):
                self._digester.update(chunk)

    def discard(self) -> None:
        """Removes what is there."""
        self._close()
        self.state = None
        self.declared = {}
        self.pieced = False
        self._digester = Digester()
        remove(self.path)
        remove(record_path(self.path))

    def digests(self) -> Digests:
        """Returns length and digests of what is there."""
        self.load_digests()
        return self._digester.result()

    def land(self) -> Record:
        """Moves the whole file to its place and writes its record."""
        assert self.state is not None
        self._close()
        with self.path.open("rb+") as stream:
            os.fsync(stream.fileno())
        found = self.digests()
        self.path.replace(self.target)
        record = Record(
            **asdict(found),
            url=self.url,
            etag=self.state.etag,
            last_modified=self.state.last_modified,
            fetched=now(),
            mtime_ns=self.target.stat().st_mtime_ns,
        )
        write_json(record_path(self.target), asdict(record), remedy=SET_CACHE)
        remove(record_path(self.path))
        return record

    def _declare(self, head: ReplyHead) -> None:
        assert self.state is not None
        if head.digests:
            self.declared = {name: base64.b64encode(digest).decode() for name, digest in head.digests.items()}
        state = {**asdict(self.state), "bytes": 0, "declared": self.declared}
        write_json(record_path(self.path), state, remedy=SET_CACHE)

    def _read_state(self) -> None:
        fields = read_json(record_path(self.path)) or {}
        declared = fields.pop("declared", None)
        try:
            state = PartState(**{**fields, "bytes": self.path.stat().st_size})
        except (TypeError, OSError):
            return
        if state.url == self.url and isinstance(declared, Mapping):
            self.state, self.declared, self.pieced = state, dict(declared), True

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def now() -> str:
    """Returns the time in UTC to the second, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
