"""Kinds of URL and where each leads: the web, public storage buckets, local files, packaged files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from zoo.errors import DownloadError
from zoo.files.atomic import write_atomically
from zoo.files.cache import SET_CACHE, Cache
from zoo.remote.http import HttpLocation

STORAGE_ENDPOINT = "https://storage.googleapis.com"
"""Where public objects of `gs://` buckets are read."""


@dataclass(frozen=True)
class LocalLocation:
    """A file on this machine's disk that belongs to the user."""

    path: Path

    def file(self, cache: Cache) -> Path:
        """Returns its path; raises DownloadError where it is not there, or is not a file."""
        if not self.path.is_file():
            found = "a folder" if self.path.is_dir() else "nothing"
            raise DownloadError(
                f"{self.path}: expected a file, found {found}; correct the path in the registry"
            )
        return self.path


@dataclass(frozen=True)
class PackageLocation:
    """A file that an installed package brings along."""

    package: str
    resource: str

    def file(self, cache: Cache) -> Path:
        """Returns the file's path; it is copied to the cache if the package is not installed as plain files.

        Raises DownloadError where there is no such package or file.
        """
        import importlib.resources

        url = f"package://{self.package}/{self.resource}"
        try:
            resource = importlib.resources.files(self.package)
            for part in self.resource.split("/"):
                resource = resource / part
            present = resource.is_file()
        except (ModuleNotFoundError, TypeError, ValueError, OSError):
            present = False
        if not present:
            raise DownloadError(
                f"{url}: the installed package {self.package} holds no such file; install the package again"
            )
        if isinstance(resource, Path):
            return resource
        target = cache.folder("downloads") / download_name(url)
        with cache.holding("downloads", target.parent.name, f"{url}: another process is copying it"):
            # Each time, as the package may have changed.
            write_atomically(target, resource.read_bytes(), remedy=SET_CACHE)
        return target


Location = HttpLocation | LocalLocation | PackageLocation


def locate(url: str, environ: Mapping[str, str] = os.environ) -> Location:
    """Returns where a URL leads; touches neither disk nor network.

    Args:
      url: `https://…`, `http://…`, `gs://bucket/object`, `s3://bucket/object`, `file:///path`, or
        `package://package/path`.
      environ: `STORAGE_EMULATOR_HOST` there replaces the endpoint of `gs://`, as for Google's clients;
        with `GOOGLE_APPLICATION_CREDENTIALS`, such objects are read through `fsspec`, else as public ones.

    Raises:
      DownloadError: another kind of URL, or an incomplete one.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    # The storage service unpacks objects that it holds compressed for clients that do not accept gzip; its
    # declared length and digests are those of the stored bytes, so those are what is asked for.
    if parts.scheme in ("https", "http") and parts.hostname:
        stored_as_is = parts.hostname == urlsplit(STORAGE_ENDPOINT).hostname
        return HttpLocation(url, url, "gzip" if stored_as_is else "identity")
    if parts.scheme in ("s3", "s3a") and parts.netloc and parts.path.strip("/"):
        return HttpLocation(url, url, "identity")
    if parts.scheme == "gs" and parts.netloc and parts.path.strip("/"):
        # Whoever has credentials may mean a bucket that is not public.
        if environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return HttpLocation(url, url, "identity")
        endpoint = environ.get("STORAGE_EMULATOR_HOST") or STORAGE_ENDPOINT
        if "://" not in endpoint:
            endpoint = f"http://{endpoint}"
        # An object's name may hold `?` and `#`, so it is all that follows the bucket.
        name = url.split("://", 1)[1].split("/", 1)[1]
        return HttpLocation(url, f"{endpoint.rstrip('/')}/{parts.netloc}/{quote(name)}", "gzip")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        # Not above: it imports all that `urllib` needs to open URLs.
        from urllib.request import url2pathname

        return LocalLocation(Path(url2pathname(parts.path)))
    if parts.scheme == "package" and parts.netloc and parts.path.strip("/"):
        return PackageLocation(parts.netloc, unquote(parts.path.strip("/")))
    raise DownloadError(
        f"{url}: not a URL that can be fetched; expected https://…, gs://bucket/object, "
        "s3://bucket/object, file:///path, or package://package/path"
    )


def download_name(url: str) -> Path:
    """Returns the folder and name of a URL's file among the downloads of the cache."""
    last = url.partition("?")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[:100] or "file"
    key = f"{name.partition('.tar')[0][:60]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    return Path(key) / name


def on_disk(url: str, cache: Cache) -> str:
    """Says where a URL's file can be read without a download; quick, for listings.

    It is `cache` (downloaded before), `bundled` (part of a package), `disk` (a file of this machine), or "".
    Nothing is opened or made, so what is in the cache may still turn out to be damaged when it is used.
    """
    if url.startswith("package://"):
        return "bundled"
    if url.startswith("file://"):
        location = locate(url)
        return "disk" if isinstance(location, LocalLocation) and location.path.is_file() else ""
    # A download gets its name only once it is complete.
    return "cache" if (cache.root / "downloads" / download_name(url)).is_file() else ""
