"""Asks web servers for files, and says in one line why one did not answer."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import DownloadError

if TYPE_CHECKING:
    import requests

WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may pass: time-outs, too many requests, and troubles of the server itself."""

DIGEST_SIZES_BYTES = {"crc32c": 4, "md5": 16}
"""The digests that a storage service declares in `x-goog-hash`, and how long each is."""


@dataclass(frozen=True)
class HttpLocation:
    """A file on the web or in a bucket: its URL, the address, and the `Accept-Encoding` to ask with."""

    url: str
    address: str
    accept_encoding: str


class InterruptedTransferError(Exception):
    """A transfer ended early for a reason that may pass: worth another attempt, after `retry_after_s` if set.

    `unresolved` means that the host's name could not be resolved: most likely there is no network.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None, unresolved: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.unresolved = unresolved


@dataclass(frozen=True)
class ReplyHead:
    """What a server says before it sends a body; what it does not declare is None."""

    status: int
    reason: str = ""
    range_start: int | None = None  # first byte of the file that this body holds, if it is a part
    total_bytes: int | None = None  # of the whole file
    etag: str | None = None
    last_modified: str | None = None
    retry_after: str | None = None  # the header as it came
    digests: Mapping[str, str] | None = None  # of the whole file in base64: `crc32c` and `md5`
    content_type: str = ""

    @property
    def version(self) -> str:
        """What the server declares that changes with the contents, as far as it does."""
        return self.etag or self.last_modified or ""


def read_head(status: int, reason: str, headers: Mapping[str, str]) -> ReplyHead:
    """Returns what matters for a download of a reply's headers: case-insensitive, repeated ones joined."""
    part = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", "").strip())
    range_start, total_bytes = (_whole_number(part[1]), _whole_number(part[2])) if part else (None, None)
    if total_bytes is None and status == 200:
        # The length of what is stored wins: a server that declares two lengths is caught by counting.
        lengths = (headers.get("x-goog-stored-content-length"), headers.get("Content-Length"))
        total_bytes = next((size for size in map(_whole_number, lengths) if size is not None), None)
    return ReplyHead(
        status=status,
        reason=reason,
        range_start=range_start,
        total_bytes=total_bytes,
        etag=headers.get("ETag"),
        last_modified=headers.get("Last-Modified"),
        retry_after=headers.get("Retry-After"),
        digests=declared_digests(headers.get("x-goog-hash", "")),
        content_type=headers.get("Content-Type", ""),
    )


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def declared_digests(header: str) -> dict[str, str]:
    """Returns the digests of an `x-goog-hash` header, e.g. `crc32c=n03x6A==, md5=Ojk9c3dhfxgoKVVHYwFbHQ==`.

    What is of another kind, or is not base64 of the right length, is left out.
    """
    found: dict[str, str] = {}
    for item in header.split(","):
        name, _, value = item.strip().partition("=")
        try:
            digest = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(digest) == DIGEST_SIZES_BYTES.get(name.lower()):
            found[name.lower()] = base64.b64encode(digest).decode()
    return found


def retry_after_s(header: str | None) -> float | None:
    """Returns the seconds that a `Retry-After` header asks for, as a number or a date; None if neither."""
    import urllib3

    try:
        return urllib3.Retry().parse_retry_after(header or "")
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


class HttpReply:
    """A server's reply: its head, and its body as it arrives."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self.head = read_head(response.status_code, response.reason or "", response.headers)

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yields the body as it was sent, without undoing a content encoding.

        Raises:
          InterruptedTransferError: the connection broke, or the server fell silent.
        """
        import urllib3

        # What has arrived counts at once: a broken connection must not take a half-filled chunk along.
        read = getattr(self._response.raw, "read1", self._response.raw.read)
        try:
            while chunk := read(chunk_bytes, decode_content=False):
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise InterruptedTransferError(_cause(error)) from error


class HttpTransport:
    """Asks web servers for files; one session of connections, with the proxies that `requests` finds."""

    def __init__(self) -> None:
        import requests

        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"zoo/{_version()}"

    def __enter__(self) -> HttpTransport:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing a session leaves its idle connections to the garbage collector.
        adapters: list[Any] = list(self._session.adapters.values())
        for adapter in adapters:
            for connections in (adapter.poolmanager, *adapter.proxy_manager.values()):
                for key in connections.pools.keys():  # noqa: SIM118 - it refuses iteration
                    connections.pools[key].close()
        self._session.close()

    @contextmanager
    def ask(
        self,
        location: HttpLocation,
        headers: Mapping[str, str],
        timeouts_s: tuple[float, float],
        method: str = "GET",
    ) -> Iterator[HttpReply]:
        """Sends one request and gives the reply, whatever its status.

        Raises:
          InterruptedTransferError: no answer, for a reason that may pass.
          DownloadError: no answer, and asking again is no use.
        """
        import requests

        url, failures = location.address, requests.exceptions
        asked = {"Accept-Encoding": location.accept_encoding, **headers}
        try:
            response = self._session.request(method, url, headers=asked, stream=True, timeout=timeouts_s)
        except failures.SSLError as error:
            raise DownloadError(
                f"{url}: no trusted connection: {_cause(error)}; check this machine's date and certificates"
            ) from error
        except (failures.ConnectionError, failures.Timeout, failures.ChunkedEncodingError) as error:
            raise InterruptedTransferError(_cause(error), unresolved=_is_unresolved(error)) from error
        except (requests.RequestException, ValueError) as error:
            # A redirect may lead to what no parser takes for a URL.
            raise DownloadError(f"{url}: {_cause(error)}; correct the URL") from error
        try:
            yield HttpReply(response)
        finally:
            response.close()


def _cause(error: BaseException) -> str:
    """Returns the innermost reason of a network error in one short line."""
    import requests
    import urllib3

    chain = list(_chain(error))
    if _is_unresolved(error):
        return "the host's name could not be resolved"
    # First what the operating system says: a refused connection counts as a kind of time-out to urllib3.
    for found in chain:
        if isinstance(found, OSError) and found.errno is not None and found.errno in errno.errorcode:
            return os.strerror(found.errno).lower()
    if any(isinstance(found, urllib3.exceptions.IncompleteRead) for found in chain):
        return "the connection closed before the whole file had come"
    silent = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if any(isinstance(found, silent) for found in chain):
        return "the server did not answer in time"
    text = " ".join(str(chain[-1]).split())
    return text or type(chain[-1]).__name__


def _is_unresolved(error: BaseException) -> bool:
    return any(isinstance(found, socket.gaierror) for found in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        found = pending.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        pending += [getattr(found, "reason", None), *found.args, found.__cause__, found.__context__]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("panoptic-zoo")
    except PackageNotFoundError:
        return "unknown"
