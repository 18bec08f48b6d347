"""What is known of the files of a store that were fetched before, kept in the cache."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import NamedTuple

from zoo.files.atomic import writing
from zoo.remote.room import ENLARGE
from zoo.remote.stores import Held


class KnownVersion(NamedTuple):
    """A file when it was fetched last."""

    held: Held
    sha256: str


class KnownFiles:
    """What each file was when it was fetched last, by URL; it outlives the file's stay in the cache.

    Each fact is a line at the end of one file, so that several processes can add theirs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._found: dict[str, KnownVersion] = {}
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8").splitlines():
                # A process that died leaves half a line.
                with contextlib.suppress(ValueError, TypeError):
                    url, length, version, sha256 = json.loads(line)
                    self._found.pop(url, None)
                    if length is not None:
                        self._found[url] = KnownVersion(Held(length, version), sha256)

    def get(self, url: str) -> KnownVersion | None:
        """Returns what is known of a file, None where nothing is."""
        return self._found.get(url)

    def learn(self, url: str, held: Held, sha256: str) -> None:
        """Takes in what a file is now."""
        self._found[url] = KnownVersion(held, sha256)
        self._write([url, held.bytes, held.version, sha256])

    def forget(self, url: str) -> None:
        """Forgets a file that is another one now."""
        if self._found.pop(url, None) is not None:
            self._write([url, None, "", ""])

    def _write(self, fact: list[object]) -> None:
        with self._lock, writing(self._path, ENLARGE):
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("ab", buffering=0) as stream:
                stream.write(json.dumps(fact).encode() + b"\n")
