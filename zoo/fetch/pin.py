"""`zoo.lock`: what each file was when it was first seen, so that a later change is noticed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from zoo.errors import VerificationError
from zoo.fetch.verify import Expectation, KnownFile
from zoo.files.atomic import write_atomically
from zoo.files.cache import Cache

FILE_NAME = "zoo.lock"
FORMAT = {"zoo.lock": 1}
"""The first line; every further line is one file. A line can be deleted, and lines of two branches merged."""


@dataclass(frozen=True)
class LockedFile:
    """A file as it was first seen, with its URL as the registry has it."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    url: str
    sha256: str
    bytes: int
    first_seen: str  # the day, ISO 8601
    crc32c: str | None = None  # in base64, as the storage service writes it
    md5: str | None = None
    etag: str | None = None

    @classmethod
    def of(cls, known: KnownFile) -> LockedFile:
        """Returns a file as it is seen now."""
        day = known.fetched[:10]
        return cls(known.url, known.sha256, known.bytes, day, known.crc32c, known.md5, known.etag)


def choose_lock_path(
    cache_root: Path, chosen: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Path:
    """Returns which lock file counts.

    The one that was chosen, else that of `ZOO_LOCK`, else `zoo.lock` in the working directory if it is there,
    else the cache's, so that nothing is left lying about where no lock file is wanted.
    """
    if chosen is not None:
        return chosen.absolute()
    if environ.get("ZOO_LOCK"):
        return Path(environ["ZOO_LOCK"]).expanduser().absolute()
    here = Path(FILE_NAME).absolute()
    return here if here.is_file() else cache_root / FILE_NAME


class LockFile:
    """The files that were seen, in a text file that can be committed, made when the first one is recorded.

    One JSON object per line, in the order of their URLs. The lock between processes lies in the cache, so
    that none is left beside the file.
    """

    def __init__(self, path: Path, cache: Cache) -> None:
        self.path = path.absolute()
        self._cache = cache

    def entries(self) -> dict[str, LockedFile]:
        """Returns all recorded files by URL; raises a VerificationError that names a damaged line."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeError) as error:
            raise VerificationError(f"{self.path}: cannot be read: {error}; repair or remove it") from error
        found: dict[str, LockedFile] = {}
        read_line = TypeAdapter(LockedFile).validate_json
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                if number == 1:
                    if json.loads(line) != FORMAT:
                        raise ValueError("another format")
                    continue
                locked = read_line(line)
            except ValueError as error:
                expected = json.dumps(FORMAT) if number == 1 else 'an object with "url", "sha256", "bytes"'
                raise VerificationError(
                    f"{self.path}: line {number}: expected {expected}, found {line.strip()[:60]!r}; "
                    "repair or delete the line"
                ) from error
            if found.setdefault(locked.url, locked) != locked:
                raise VerificationError(
                    f"{self.path}: line {number}: a second, different entry for {locked.url}; "
                    "delete the wrong one of the two lines"
                )
        return found

    def seen(self, url: str) -> LockedFile | None:
        """Returns what a URL's file was when it was first seen, or None if it was not seen yet."""
        return self.entries().get(url)

    def expectation(self, url: str, name: str) -> Expectation:
        """Returns what a URL's file, of the entry `name`, must be; nothing is known before first sight."""
        if (seen := self.seen(url)) is None:
            return Expectation()
        return Expectation(
            seen.sha256,
            seen.bytes,
            origin=f"{self.path}, first seen {seen.first_seen}",
            remedy="the file has changed: "
            f"accept it with `zoo verify --accept {name}`, or delete its line there",
            pinned=False,
        )

    def record(self, seen: LockedFile, *, accept: bool = False) -> LockedFile:
        """Records a file as it is now at first sight, or if `accept`, and returns what is recorded.

        Raises:
          VerificationError: another file was recorded for this URL.
          ZooError: the lock file cannot be written.
        """
        name = hashlib.sha256(str(self.path).encode()).hexdigest()[:16]
        with self._cache.holding("zoo.lock", name, f"{self.path}: another process is writing it"):
            entries = self.entries()
            old = entries.get(seen.url)
            if old is not None and (old.sha256, old.bytes) == (seen.sha256, seen.bytes):
                return old
            if old is not None and not accept:
                raise VerificationError(
                    f"{seen.url} changed since {old.first_seen}: bytes {old.bytes} -> {seen.bytes}, "
                    f"sha256 {old.sha256} -> {seen.sha256}; to accept it, delete its line in {self.path}"
                )
            entries[seen.url] = seen
            lines = [json.dumps(FORMAT)]
            for _, locked in sorted(entries.items()):
                known = {key: value for key, value in asdict(locked).items() if value is not None}
                lines.append(json.dumps(known))
            write_atomically(self.path, "\n".join(lines) + "\n", remedy="choose another file with ZOO_LOCK")
            return seen
