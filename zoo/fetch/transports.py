"""Asks for archives: web servers by HTTP, and buckets through `fsspec`, with the same answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from zoo.errors import DataError, DownloadError
from zoo.remote.http import HttpLocation, HttpTransport, ReplyHead
from zoo.remote.stores import BucketReply, BucketStore, Reply


class Transport(Protocol):
    """What a download asks."""

    def ask(
        self, location: HttpLocation, headers: Mapping[str, str], timeouts_s: tuple[float, float]
    ) -> AbstractContextManager[Reply]:
        """Sends one request; see `HttpTransport.ask`."""


@contextmanager
def transport_for(location: HttpLocation) -> Iterator[Transport]:
    """Gives what asks for a file."""
    if location.address.startswith(("http://", "https://")):
        with HttpTransport() as http:
            yield http
    else:
        yield BucketTransport(location.address)


class BucketTransport:
    """Asks a bucket as if it were a web server: for what is missing, if the file is still the same."""

    def __init__(self, url: str) -> None:
        self._store = BucketStore(url)

    @contextmanager
    def ask(
        self, location: HttpLocation, headers: Mapping[str, str], timeouts_s: tuple[float, float]
    ) -> Iterator[Reply]:
        """Gives a reply; see `HttpTransport.ask`. The time-outs are the store's own."""
        try:
            held = self._store.look(location.address)
        except DataError as error:
            raise DownloadError(str(error)) from None
        if held is None:
            yield BucketReply(ReplyHead(status=404, reason="Not Found"), lambda: iter(()))
            return
        is_same = headers.get("If-Range") == held.version
        start = int(headers["Range"].removeprefix("bytes=").removesuffix("-")) if is_same else 0
        with self._store.ask(location.address, held, start) as reply:
            yield reply
