"""What a folder of a store holds, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zoo.files.atomic import write_atomically
from zoo.files.cache import SET_CACHE
from zoo.files.json_files import read_json
from zoo.files.words import utc_now
from zoo.remote.stores import Held


@dataclass(frozen=True)
class Listing:
    """The names in a folder.

    Attributes:
      url: of the folder.
      names: each file as the store declared it, None for a folder.
      listed: when the store was asked, ISO 8601 in UTC.
      listed_s: the same in seconds since the epoch.
    """

    url: str
    names: Mapping[str, Held | None]
    listed: str
    listed_s: float

    @classmethod
    def now(cls, url: str, names: Mapping[str, Held | None]) -> Listing:
        """Returns what the store has just said."""
        return cls(url, names, utc_now(), time.time())

    @classmethod
    def of_names(cls, url: str, urls: Iterable[str]) -> Listing:
        """Returns the part of a list of all files' URLs that is in one folder."""
        inside = [other.removeprefix(f"{url}/") for other in urls if other.startswith(f"{url}/")]
        names = {name.partition("/")[0]: None if "/" in name else Held(None, "") for name in inside}
        return cls.now(url, names)

    @property
    def age_s(self) -> float:
        """Seconds since the store was asked."""
        return time.time() - self.listed_s

    @staticmethod
    def file_name(url: str) -> str:
        """Returns the name of the file that keeps a folder's listing."""
        return f"listings/{hashlib.sha256(url.encode()).hexdigest()[:24]}.json"


def read_listing(folder: Path, url: str) -> Listing | None:
    """Returns the listing that was kept; None where there is none, or it is damaged."""
    found = read_json(folder / Listing.file_name(url))
    try:
        if found is None or found["url"] != url:
            return None
        names = {name: Held(*held) if held else None for name, held in found["names"].items()}
        return Listing(url, names, found["listed"], found["listed_s"])
    except (KeyError, TypeError):
        return None


def write_listing(folder: Path, listing: Listing) -> None:
    """Keeps a listing for later calls."""
    names = {name: held and [held.bytes, held.version] for name, held in listing.names.items()}
    content = {"url": listing.url, "listed": listing.listed, "listed_s": listing.listed_s, "names": names}
    path = folder / Listing.file_name(listing.url)
    write_atomically(path, json.dumps(content), durable=False, remedy=SET_CACHE)


def parse_sums(text: str, folder: str) -> dict[str, str]:
    """Returns the SHA-256 of each file by URL, from what `sha256sum` wrote in a folder."""
    matches = (re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line) for line in text.splitlines())
    return {f"{folder}/{PurePosixPath(match[2])}": match[1].lower() for match in matches if match}
