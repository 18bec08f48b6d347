"""Asks web servers and storage buckets what they hold, and for files; all answer and fail alike."""

from __future__ import annotations

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any, Protocol
from urllib.parse import quote, unquote, urljoin

from zoo.errors import DataError, DownloadError, UsageError, ZooError
from zoo.remote.http import (
    WORTH_RETRYING,
    HttpLocation,
    HttpTransport,
    InterruptedTransferError,
    ReplyHead,
    declared_digests,
    retry_after_s,
)

TIMEOUTS_S = (10.0, 60.0)
"""Seconds to wait for a connection, and for further bytes."""

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""The extra of this package that brings what reads each kind of bucket."""

_CHUNK_BYTES = 8 << 20
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"'#]+)["']""", re.IGNORECASE)
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "RefreshError"}


class NoListingError(DataError):
    """A web server does not say which files a folder has."""


class RefusedError(DownloadError):
    """A store does not give a file to whoever asks for it."""


@dataclass(frozen=True)
class Held:
    """A file as a store declares it.

    Attributes:
      bytes: its length; None where the store has not said it yet.
      version: what changes with the contents: an ETag, digests, or a date; empty where nothing is declared.
    """

    bytes: int | None
    version: str

    @property
    def digests(self) -> dict[str, str]:
        """The digests (`md5`, `crc32c`, base64) that the version is, if it is any."""
        # Of a file that was sent in one piece, the ETag of S3 is the MD5.
        if re.fullmatch(r"[0-9a-f]{32}", self.version):
            return {"md5": base64.b64encode(bytes.fromhex(self.version)).decode()}
        return declared_digests(self.version)


class Reply(Protocol):
    """A store's answer to a request for a file."""

    @property
    def head(self) -> ReplyHead:
        """What the store declares."""

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yields the body in pieces; raises InterruptedTransferError where it breaks off."""


@dataclass(frozen=True)
class BucketReply:
    """The answer of a bucket."""

    head: ReplyHead
    pieces: Callable[[], Iterator[bytes]]

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yields the body in the store's own pieces."""
        return self.pieces()


class Store(ABC):
    """A web server or a bucket. Every method raises DownloadError where it refuses or cannot be used.

    An `InterruptedTransferError` means that asking again may help.
    """

    @abstractmethod
    def folder(self, url: str) -> dict[str, Held | None]:
        """Returns what a folder holds by name, None for a folder; nothing where there is no such folder.

        Raises:
          NoListingError: the store does not say.
        """

    @abstractmethod
    def look(self, url: str) -> Held | None:
        """Returns what the store declares of a file, or None where there is none."""

    @abstractmethod
    def ask(self, url: str, held: Held | None, start: int = 0) -> AbstractContextManager[Reply]:
        """Asks for a file from a byte on; `held` is what the store declared of it before.

        Raises:
          DataError: there is no such file.
        """

    def digest_counts(self, url: str) -> bool:
        """Says whether a digest in `Held.version`, which does not match, is one of the contents."""
        return True


def open_store(url: str) -> Store:
    """Returns the store that a URL leads to.

    Raises:
      UsageError: nothing that is installed reads this kind of URL; the line names the extra.
    """
    return WebStore(url) if url.startswith(("http://", "https://")) else BucketStore(url)


class WebStore(Store):
    """A web server; it lists a folder where it answers with a page of links."""

    def __init__(self, base: str) -> None:
        """Takes the URL that a user gave; names below it are quoted, it is not."""
        self._base = base
        self._http = HttpTransport()

    def folder(self, url: str) -> dict[str, Held | None]:
        """Returns the names that the folder's page links to; neither lengths nor versions are known."""
        page = self._address(url).rstrip("/") + "/"
        with self._http.ask(self._location(page), {}, TIMEOUTS_S) as reply:
            if reply.head.status in (404, 410):
                return {}
            if reply.head.status in WORTH_RETRYING:
                raise _later(reply.head)
            status = f"{reply.head.status} {reply.head.reason}".strip()
            is_page = reply.head.status == 200 and "html" in reply.head.content_type
            text = b"".join(reply.chunks(1 << 16)).decode("utf-8", errors="replace") if is_page else ""
        found: dict[str, Held | None] = {}
        for link in _LINK.findall(text):
            target = urljoin(page, unescape(link))
            name = unquote(target.removeprefix(page)) if target.startswith(page) else ""
            if re.fullmatch(r"[^/?]+/?", name):
                found[name.rstrip("/")] = None if name.endswith("/") else Held(None, "")
        if not found:
            raise NoListingError(
                f"{url}: the server lists no files (it answered {status}), so which there are is not known; "
                "let it list its folders, or put the "
                "output of `find . -type f | xargs sha256sum` there as SHA256SUMS"
            )
        return found

    def look(self, url: str) -> Held | None:
        """Returns length and version of a file."""
        for method in ("HEAD", "GET"):
            with self._http.ask(self._location(self._address(url)), {}, TIMEOUTS_S, method) as reply:
                head = reply.head
            # Some servers know GET alone.
            if head.status not in (405, 501):
                break
        if head.status in (404, 410):
            return None
        _require_success(url, head)
        # Of a folder, servers send a page.
        return None if "html" in head.content_type else Held(head.total_bytes, head.version)

    @contextmanager
    def ask(self, url: str, held: Held | None, start: int = 0) -> Iterator[Reply]:
        """Sends one request."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._http.ask(self._location(self._address(url)), headers, TIMEOUTS_S) as reply:
            _require_success(url, reply.head)
            yield reply

    def _address(self, url: str) -> str:
        return self._base + quote(url.removeprefix(self._base)) if url.startswith(self._base) else url

    def _location(self, address: str) -> HttpLocation:
        return HttpLocation(address, address, "identity")


class BucketStore(Store):
    """Whatever `fsspec` reads: `s3://`, `gs://`, `memory://` and others."""

    def __init__(self, url: str) -> None:
        protocol = url.partition("://")[0]
        extra = EXTRAS.get(protocol)
        try:
            import fsspec

            self._files: Any = fsspec.core.url_to_fs(url, **_options(protocol))[0]
        except ImportError as error:
            package = f"panoptic-zoo[{extra}]" if extra else "fsspec"
            raise UsageError(
                f"{url}: expected the extra that reads {protocol}://, found none installed "
                f"({' '.join(str(error).split())}); `pip install '{package}'`"
            ) from None
        except ValueError as error:
            raise UsageError(
                f"{url}: expected a path, https://, s3:// or gs://, found another kind of URL: {error}"
            ) from None
        if extra == "s3":
            # Its own retries come on top of ours.
            self._files.retries = 2

    def _path(self, url: str) -> str:
        """Returns what the file system calls a file."""
        path: str = self._files._strip_protocol(url)
        return path

    def folder(self, url: str) -> dict[str, Held | None]:
        """Returns the files and folders whose names begin with the folder's."""
        path = self._path(url).rstrip("/")
        try:
            with _errors_of(url):
                entries = self._files.ls(path, detail=True, refresh=True)
        except _MissingError:
            return {}
        found: dict[str, Held | None] = {}
        for entry in entries:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            # Asked for a file, a store lists the file; and some keep an empty file for the folder itself.
            if entry["name"].rstrip("/") != path:
                found[name] = None if entry["type"] == "directory" else _held(entry)
        return found

    def look(self, url: str) -> Held | None:
        """Returns length and version of a file."""
        try:
            with _errors_of(url):
                self._files.invalidate_cache()
                entry = self._files.info(self._path(url))
        except _MissingError:
            return None
        return None if entry["type"] == "directory" else _held(entry)

    @contextmanager
    def ask(self, url: str, held: Held | None, start: int = 0) -> Iterator[Reply]:
        """Reads pieces of several megabytes."""
        held = held or self.look(url)
        if held is None or held.bytes is None:
            raise DataError(f"{url}: is not there; check the address")
        length = held.bytes
        head = ReplyHead(
            status=206 if start else 200,
            range_start=start,
            total_bytes=length,
            etag=held.version,
            digests=held.digests,
        )

        def pieces() -> Iterator[bytes]:
            path = self._path(url)
            for first in range(start, length, _CHUNK_BYTES):
                with _errors_of(url):
                    yield self._files.cat_file(path, start=first, end=min(first + _CHUNK_BYTES, length))

        yield BucketReply(head, pieces)

    def files(self, url: str) -> dict[str, int]:
        """Returns the length of each file below a folder, by its name relative to it."""
        path = self._path(url).rstrip("/")
        try:
            with _errors_of(url):
                found = self._files.find(path, detail=True, refresh=True)
        except _MissingError:
            return {}
        return {
            name.removeprefix(f"{path}/"): entry["size"]
            for name, entry in found.items()
            if name.startswith(f"{path}/") and not name.endswith("/")
        }

    def read(self, url: str) -> bytes | None:
        """Returns a file's contents, None where there is none."""
        try:
            with _errors_of(url):
                contents: bytes = self._files.cat_file(self._path(url))
        except _MissingError:
            return None
        return contents

    def write(self, url: str, contents: bytes) -> None:
        """Writes a file; others see the old one or the new one."""
        with _errors_of(url):
            self._files.pipe_file(self._path(url), contents)

    def remove(self, urls: Sequence[str]) -> None:
        """Removes files that are there."""
        with _errors_of(urls[0] if urls else ""):
            for url in urls:
                self._files.rm_file(self._path(url))

    def digest_counts(self, url: str) -> bool:
        """Says whether the ETag is the MD5: that of a file which S3 encrypts with a key of its own is not."""
        if "s3" not in self._files.protocol:
            return True
        bucket, key, _ = self._files.split_path(url)
        with _errors_of(url):
            head = self._files.call_s3("head_object", Bucket=bucket, Key=key)
        return "SSECustomerAlgorithm" not in head and "kms" not in head.get("ServerSideEncryption", "")


def _options(protocol: str) -> dict[str, Any]:
    """Returns what is asked of a file system of `fsspec`."""
    options: dict[str, Any] = {"use_listings_cache": False}
    if EXTRAS.get(protocol) == "s3":
        connect_s, read_s = TIMEOUTS_S
        options["config_kwargs"] = {
            "connect_timeout": connect_s,
            "read_timeout": read_s,
            "retries": {"total_max_attempts": 1},
        }
    return options


def _held(entry: Mapping[str, Any]) -> Held:
    digests = {"crc32c": entry.get("crc32c"), "md5": entry.get("md5Hash")}
    version = ",".join(f"{name}={value}" for name, value in digests.items() if value)
    for key in ("ETag", "etag", "LastModified", "last_modified", "mtime", "created"):
        version = version or str(entry.get(key) or "").strip('"')
    return Held(entry["size"], version)


def _later(head: ReplyHead) -> InterruptedTransferError:
    reason = f"the server answered {head.status} {head.reason}".strip()
    return InterruptedTransferError(reason, retry_after_s(head.retry_after))


def _require_success(url: str, head: ReplyHead) -> None:
    if head.status in (200, 206):
        return
    if head.status in WORTH_RETRYING:
        raise _later(head)
    answered = f"{url}: the server answered {f'{head.status} {head.reason}'.strip()}"
    if head.status in (404, 410):
        raise DataError(f"{answered}; the file is not there: check the address")
    kind = RefusedError if head.status in (401, 403, 407) else DownloadError
    raise kind(f"{answered}; check the address, and who may read it")


class _MissingError(DataError):
    """There is no such file."""


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    """Turns the errors of the many file systems into ours."""
    try:
        yield
    except (ZooError, InterruptedTransferError):
        raise
    except FileNotFoundError as error:
        if "bucket does not exist" in str(error):
            raise DataError(f"{url}: there is no such bucket; check its name and the endpoint") from None
        raise _MissingError(f"{url}: is not there; check the address") from None
    except PermissionError as error:
        raise RefusedError(
            f"{url}: the store refuses access (403): {_line(error)}; check the credentials"
        ) from None
    except Exception as error:
        if type(error).__name__ in _NO_CREDENTIALS:
            raise DownloadError(
                f"{url}: no credentials were found; set them as for other programs of the store, or "
                "FSSPEC_S3_ANON=true for a bucket that everybody may read"
            ) from None
        raise InterruptedTransferError(_line(error)) from error


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200].rstrip(".")
    return f"{text[:1].lower()}{text[1:]}" or type(error).__name__
