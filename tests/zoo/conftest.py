"""A cache for each file of tests; a web server on this machine that serves well, or as badly as asked."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import google_crc32c
import pytest


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives each file of tests a cache and a lock file of its own; some give one to each test."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("ZOO_CACHE", str(folder))
        patch.setenv("ZOO_LOCK", str(folder / "zoo.lock"))
        yield


@dataclass
class ServedFile:
    """A file on the server; `script` holds how the next requests are answered, one each, before `always`."""

    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    script: deque[Behaviour] = field(default_factory=deque)
    always: Behaviour | None = None


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    server: FileServer  # type: ignore[assignment]

    def do_GET(self) -> None:
        file = self.server.files.get(self.path)
        self.server.requests.append((self.path, dict(self.headers.items())))
        if file is None:
            answer(404)(self, ServedFile(b""))
        elif file.script:
            file.script.popleft()(self, file)
        else:
            (file.always or serve)(self, file)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def start(self, status: int, file: ServedFile, *more: tuple[str, object]) -> None:
        self.send_response(status)
        if file.etag is not None:
            self.send_header("ETag", file.etag)
        if file.last_modified is not None:
            self.send_header("Last-Modified", file.last_modified)
        for name, value in [*file.headers, *more]:
            self.send_header(name, str(value))
        self.end_headers()


Behaviour = Callable[[Handler, ServedFile], None]


def serve(
    handler: Handler,
    file: ServedFile,
    stop_after: int | None = None,
    wait_for: threading.Event | None = None,
) -> None:
    """Serves a file as the protocol wants it, ranges included.

    May close the connection after so many bytes, or wait half-way until an event is set.
    """
    start, body = 0, file.body
    asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    if asked is not None and condition in (None, file.etag, file.last_modified):
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.start(416, file, ("Content-Range", f"bytes */{len(body)}"), ("Content-Length", 0))
            return
        part = ("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.start(206, file, part, ("Content-Length", len(body) - start))
    else:
        handler.start(200, file, ("Content-Length", len(body)))
    for offset in range(start, len(body), 1 << 14):
        chunk = body[offset : min(offset + (1 << 14), len(body))]
        if stop_after is not None and offset + len(chunk) > start + stop_after:
            handler.wfile.write(chunk[: start + stop_after - offset])
            handler.close_connection = True
            return
        if wait_for is not None and offset >= len(body) // 2:
            wait_for.wait()
        handler.wfile.write(chunk)


def stop_after(count: int) -> Behaviour:
    """Closes the connection after so many bytes of the body."""
    return lambda handler, file: serve(handler, file, stop_after=count)


def half_until(event: threading.Event) -> Behaviour:
    """Sends half of the body, and the rest once the event is set."""
    return lambda handler, file: serve(handler, file, wait_for=event)


def silent_until(event: threading.Event) -> Behaviour:
    """Does not answer until the event is set, and then closes the connection."""

    def behave(handler: Handler, file: ServedFile) -> None:
        event.wait()
        handler.close_connection = True

    return behave


def answer(status: int, *headers: tuple[str, object]) -> Behaviour:
    """Answers with a status and no body."""

    def behave(handler: Handler, file: ServedFile) -> None:
        handler.start(status, ServedFile(b"", etag=None), *headers, ("Content-Length", 0))

    return behave


def whole(*headers: tuple[str, object], declared: int | None = None, stop: int | None = None) -> Behaviour:
    """Ignores Range; may declare another length than it sends, and may stop early."""

    def behave(handler: Handler, file: ServedFile) -> None:
        length = len(file.body) if declared is None else declared
        handler.start(200, file, *headers, ("Content-Length", length))
        handler.wfile.write(file.body[:stop])
        handler.close_connection = True

    return behave


def chunked(handler: Handler, file: ServedFile) -> None:
    """Serves a file without declaring its length."""
    handler.start(200, file, ("Transfer-Encoding", "chunked"))
    for offset in range(0, len(file.body), 1 << 14):
        chunk = file.body[offset : offset + (1 << 14)]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    handler.wfile.write(b"0\r\n\r\n")


def goog_hash(body: bytes) -> str:
    """Returns the header in which the storage service declares a file's digests."""
    crc32c = base64.b64encode(google_crc32c.Checksum(body).digest()).decode()
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    return f"crc32c={crc32c},md5={md5}"


class FileServer(ThreadingHTTPServer):
    """Serves `files`, by path, and keeps what was asked."""

    daemon_threads = False
    serve_well = staticmethod(serve)
    stop_after = staticmethod(stop_after)
    half_until = staticmethod(half_until)
    silent_until = staticmethod(silent_until)
    answer = staticmethod(answer)
    whole = staticmethod(whole)
    chunked = staticmethod(chunked)
    goog_hash = staticmethod(goog_hash)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, ServedFile] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, path: str, body: bytes, *script: Behaviour, **settings: object) -> str:
        """Puts a file on the server and returns its URL."""
        self.files[path] = ServedFile(body, script=deque(script), **settings)  # type: ignore[arg-type]
        return self.endpoint + path

    def ranges(self) -> list[str | None]:
        """Returns the `Range` header of each request."""
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, request: object, client_address: object) -> None:
        """Keeps quiet about clients that close the connection early."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer() as running:
        # A short poll lets the server stop quickly.
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
