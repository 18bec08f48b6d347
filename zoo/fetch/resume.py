"""Resuming: what an interrupted download left on disk, what to ask the server for, and what it answers."""

from __future__ import annotations

import enum
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from zoo.fetch.verify import Digester, Digests, KnownFile, known_path
from zoo.files.cache import SET_CACHE
from zoo.files.json_files import read_json, write_json
from zoo.remote.http import WORTH_RETRYING, ReplyHead


@dataclass(frozen=True)
class PartState:
    """What an interrupted download left on disk, and the version of the file that it belongs to."""

    url: str
    bytes: int
    total_bytes: int | None = None  # of the whole file, if the server declared it
    etag: str | None = None
    last_modified: str | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` may name: a strong ETag, else the date of the last change, else nothing."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


def request_headers(part: PartState | None, url: str) -> dict[str, str] | None:
    """Returns the headers that ask for the missing bytes: none for the whole file; None if all are there.

    A part is only continued if the server can be told which version it belongs to; otherwise the halves of
    two versions could be joined.
    """
    if part is None or part.url != url or part.bytes == 0 or part.validator is None:
        return {}
    if part.total_bytes is not None and part.bytes >= part.total_bytes:
        return None if part.bytes == part.total_bytes else {}
    return {"Range": f"bytes={part.bytes}-", "If-Range": part.validator}


class Answer(enum.Enum):
    """What a server's reply means for the bytes on disk."""

    APPEND = "the missing bytes follow"
    REPLACE = "the whole file follows"
    COMPLETE = "nothing is missing"
    FORGET = "the bytes on disk belong to another version: ask for the whole file"
    LATER = "not now, perhaps later"
    REFUSED = "no, and asking again is no use"


def read_answer(part: PartState | None, reply: ReplyHead) -> Answer:
    """Returns what a reply means; `part` is None where the whole file was asked for."""
    if reply.status in WORTH_RETRYING:
        return Answer.LATER
    if reply.status == 200:
        return Answer.REPLACE
    if part is None or reply.status not in (206, 412, 416):
        return Answer.REFUSED
    versions = [
        (getattr(part, name), getattr(reply, name)) for name in ("total_bytes", "etag", "last_modified")
    ]
    same_version = all(old == new for old, new in versions if None not in (old, new))
    if reply.status == 206 and reply.range_start == part.bytes and same_version:
        return Answer.APPEND
    if reply.status == 416 and reply.total_bytes == part.bytes and same_version:
        return Answer.COMPLETE
    return Answer.FORGET


class Part:
    """The unfinished file of a download: its bytes, their digests, and which version they belong to.

    It lies beside `target`, where the whole file will go. As a context it takes up what an earlier process
    left.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.url = url
        self.path = target.with_name(f"{target.name}.part")
        self._stream: BinaryIO | None = None
        self._forget()

    def _forget(self) -> None:
        self.state: PartState | None = None
        self.declared: dict[str, str] = {}  # digests of the whole file in base64, from the server
        self.pieced = False  # whether the bytes came in more than one piece
        self._digester = Digester()

    def __enter__(self) -> Part:
        fields = read_json(known_path(self.path)) or {}
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

    def open(self, head: ReplyHead, *, append: bool) -> None:
        """Gets ready for bytes that follow those that are there, or for all bytes of a new version."""
        if append and self.state is not None:
            self.digests()
            self.pieced = True
            self._stream = self.path.open("r+b")
            self._stream.seek(self.state.bytes)
            self.state = replace(self.state, total_bytes=self.state.total_bytes or head.total_bytes)
        else:
            self.discard()
            self._stream = self.path.open("wb")
            self.state = PartState(self.url, 0, head.total_bytes, head.etag, head.last_modified)
        self.declared = dict(head.digests or self.declared)
        state = {**asdict(self.state), "bytes": 0, "declared": self.declared}
        write_json(known_path(self.path), state, remedy=SET_CACHE)

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
        self.path.unlink(missing_ok=True)
        known_path(self.path).unlink(missing_ok=True)

    def digests(self) -> Digests:
        """Returns length and digests of what is there; what an earlier process left is read for them."""
        if self._digester.bytes != self.size_bytes:
            self._digester = Digester()
            with self.path.open("rb") as stream:
                self._digester.read(stream)
        return self._digester.result()

    def land(self) -> KnownFile:
        """Moves the whole file to its place, and writes down what is known of it."""
        assert self.state is not None
        self.pause()
        with self.path.open("rb+") as stream:
            os.fsync(stream.fileno())
        found = self.digests()
        self.path.replace(self.target)
        known = KnownFile.of(self.target, self.url, found, self.state.etag, self.state.last_modified)
        write_json(known_path(self.target), asdict(known), remedy=SET_CACHE)
        known_path(self.path).unlink(missing_ok=True)
        return known
