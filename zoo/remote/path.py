"""A path in a store, for readers that know `pathlib.Path`: files come to this machine on first use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from zoo.errors import UsageError
from zoo.files.cache import Cache
from zoo.files.words import parse_size

if TYPE_CHECKING:
    from zoo.remote.mirror import Mirror

DATA_CACHE_VARIABLE = "ZOO_DATA_CACHE"
"""The environment variable with the most that files from stores may take on this machine's disk."""

DEFAULT_DATA_CACHE = "20GB"


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder in a store.

    It offers those methods of `pathlib.Path` with which data are read. A pickled one opens the same file on
    another machine, in that machine's own cache.

    Attributes:
      url: where it is.
      base: the folder that the user named; what is known and fetched is kept by its URL.
      cache_bytes: the most that fetched files may take.
      cache_root: the folder of the cache, None for the default one of the machine.
    """

    url: str
    base: str
    cache_bytes: int
    cache_root: Path | None = None

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        return replace(self, url="/".join([self.url, *PurePosixPath(name).parts]))

    @property
    def mirror(self) -> Mirror:
        """What this process knows of the store."""
        from zoo.remote.mirror import mirror_of

        return mirror_of(self.base, self.cache_root or Cache().root, self.cache_bytes)

    # ---- names ----

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the last part, from its last dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder that it is in; a bucket or a server is in itself."""
        above = self.url.rpartition("/")[0]
        return self if above.endswith("/") else replace(self, url=above)

    def with_name(self, name: str) -> RemotePath:
        """Returns the path with another last part."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        """Returns the path with another suffix."""
        return self.parent / f"{self.stem}{suffix}"

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        """Returns the way from a folder above; raises ValueError where it is not above."""
        return PurePosixPath(self.url).relative_to(PurePosixPath(other.url))

    def absolute(self) -> RemotePath:
        """Returns the path."""
        return self

    resolve = expanduser = absolute

    # ---- what is there ----

    def exists(self) -> bool:
        """Says whether there is a file or a folder."""
        return self.is_dir() or self.is_file()

    def is_file(self) -> bool:
        """Says whether there is a file."""
        return self.mirror.held(self.url) is not None

    def is_dir(self) -> bool:
        """Says whether there is a folder."""
        return self.mirror.is_folder(self.url)

    def iterdir(self) -> Iterator[RemotePath]:
        """Yields what is in a folder; raises NoListingError where the server does not say."""
        return (self / name for name in self.mirror.listing(self.url).names)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yields what matches, part by part; raises as `iterdir`."""
        first, _, rest = pattern.partition("/")
        for path in self.iterdir():
            if fnmatchcase(path.name, first):
                if not rest:
                    yield path
                elif path.is_dir():
                    yield from path.glob(rest)

    # ---- files ----

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Opens a file for reading, fetched before; raises as `Mirror.fetch`."""
        while True:
            try:
                return self.mirror.fetch(self.url).open(mode, **options)
            except FileNotFoundError:
                # It has left the cache between the two steps.
                continue

    def read_bytes(self) -> bytes:
        """Returns a file's contents."""
        with self.open() as file:
            contents: bytes = file.read()
        return contents

    def read_text(self, encoding: str = "utf-8") -> str:
        """Returns a file's contents as text."""
        return self.read_bytes().decode(encoding)

    def prefetch(self, names: Iterable[str]) -> None:
        """Begins to fetch files below this folder, beside each other."""
        for name in names:
            self.mirror.start(f"{self.url}/{name}")

    def digests(self, names: Iterable[str]) -> dict[str, tuple[int, str]]:
        """Returns length and SHA-256 of files below this folder; each is fetched at most once for that."""
        names = list(names)
        found = self.mirror.digests([f"{self.url}/{name}" for name in names])
        return dict(zip(names, found, strict=True))

    def local_copy(self, names: Iterable[str], what: str) -> Path:
        """Returns a folder of this machine with some of the files; see `Mirror.keep`."""
        return self.mirror.keep(self.url, names, what)

    def forget_listings(self) -> bool:
        """Forgets which files there are; returns whether that was known from an earlier process."""
        return self.mirror.forget_listings()


def path_at(text: str | os.PathLike[str], data_cache: str | int | None = None) -> Path:
    """Returns the path that a user gave: of this machine, or of a store where it is a URL.

    Args:
      text: a path, or a URL like `s3://bucket/folder`.
      data_cache: the most that fetched files may take on this machine, as 20GB; None for ZOO_DATA_CACHE, or
        the default.

    Raises:
      UsageError: the size is none.
    """
    if isinstance(text, RemotePath):
        return cast(Path, text)
    url = os.fspath(text)
    if not is_url(url):
        return Path(url).expanduser()
    if url.startswith("file://"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(url).path))
    given = data_cache or os.environ.get(DATA_CACHE_VARIABLE) or DEFAULT_DATA_CACHE
    url = url.rstrip("/")
    if not url.partition("://")[2]:
        raise UsageError(f"{url}: expected a bucket or a server behind the ://")
    # Readers see a path of pathlib; that this one only behaves like it is nobody else's affair.
    return cast(Path, RemotePath(url, url, given if isinstance(given, int) else parse_size(given)))


def is_url(text: str) -> bool:
    """Says whether a text is a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None
