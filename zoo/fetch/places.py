"""Finds a URL's file on disk, where no download is needed; quick, for listings: opens and makes nothing."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from zoo.files.cache import Cache

PLACES = {
    "cache": "downloaded before",
    "bundled": "a part of the package",
    "disk": "a file of this machine",
    "": "not on disk: it has to be downloaded",
}
"""What `place_of` may say, and what each means."""


def download_name(url: str) -> Path:
    """Returns folder and name of a URL's file among the downloads of the cache."""
    last = url.partition("?")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[:100] or "file"
    key = f"{name.partition('.tar')[0][:60]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    return Path(key) / name


def place_of(url: str, cache: Cache) -> str:
    """Returns a key of `PLACES`; what is in the cache may still turn out to be damaged when it is used."""
    if url.startswith("package://"):
        return "bundled"
    if url.startswith("file://"):
        from zoo.fetch.locations import LocalLocation, locate

        location = locate(url)
        return "disk" if isinstance(location, LocalLocation) and location.path.is_file() else ""
    # A download gets its name only once it is complete.
    return "cache" if (cache.root / "downloads" / download_name(url)).is_file() else ""
