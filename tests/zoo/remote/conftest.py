"""A web server and an S3 server on 127.0.0.1 with the bundled data sets, which fail as they are told to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo.fetch.fetcher import Fetcher
from zoo.files.cache import Cache
from zoo.registry import load_registry
from zoo.remote import retries
from zoo.remote.path import RemotePath

Fault = Callable[["Handler"], None]


@dataclass
class Web:
    """What is served, and how.

    Attributes:
      lists: whether folders are answered with a page of links.
      faults: what happens instead of an answer, by the end of the path asked for.
      requests: the method and path of each request.
    """

    url: str = ""
    lists: bool = True
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def asked(self, method: str = "GET") -> list[str]:
        return [path for found, path in self.requests if found == method]


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, web: Web, *arguments: Any, **options: Any) -> None:
        self.web = web
        super().__init__(*arguments, **options)

    def send_head(self) -> Any:
        self.web.requests.append((self.command, self.path))
        for end, fault in self.web.faults.items():
            if self.path.endswith(end):
                fault(self)
                return None
        return super().send_head()

    def list_directory(self, path: Any) -> Any:
        if self.web.lists:
            return super().list_directory(path)
        self.send_error(403)
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def refuse(status: int) -> Fault:
    """Answers with a status."""
    return lambda handler: handler.send_error(status)


def cut_short(handler: Handler) -> None:
    """Declares more bytes than it sends, as a server does that dies in the middle."""
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b"\x89PNG and no more")
    handler.close_connection = True


def hang(handler: Handler) -> None:
    """Says nothing until the client has given up."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.settimeout(5)
        handler.rfile.read(1)


@pytest.fixture
def fault() -> SimpleNamespace:
    """What `Web.faults` may hold."""
    return SimpleNamespace(refuse=refuse, cut_short=cut_short, hang=hang)


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that have given up."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Web]:
    web = Web()
    server = Server(("127.0.0.1", 0), partial(Handler, web, directory=str(folder)))
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both bundled data sets."""
    folder, registry = tmp_path_factory.mktemp("data"), load_registry()
    for name in ("minicity", "minicoco"):
        unpacked = Fetcher(Cache(folder / "cache"), folder / "zoo.lock").dataset(registry.dataset(name))
        unpacked.rename(folder / name)
    return folder


@pytest.fixture
def web(data: Path) -> Iterator[Web]:
    with serving(data) as web:
        yield web


@pytest.fixture
def web_of() -> Iterator[Callable[[Path], Web]]:
    with contextlib.ExitStack() as stack:
        yield lambda folder: stack.enter_context(serving(folder))


@pytest.fixture
def at(tmp_path: Path) -> Callable[..., RemotePath]:
    """Returns a function that opens a URL with a cache of the test, as a process of its own does."""

    def opened(url: str, cache_bytes: int = 10**9, cache: str = "cache") -> RemotePath:
        from zoo.remote import mirror

        mirror.mirror_of.cache_clear()
        mirror.room_of.cache_clear()
        return RemotePath(url, url, cache_bytes, tmp_path / cache)

    return opened


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_DELAY_S", 0.001)


@pytest.fixture(scope="session")
def s3_endpoint(data: Path) -> Iterator[str]:
    """A local S3 server whose bucket `data` holds the bundled data sets in the folder `sets`."""
    pytest.importorskip("s3fs")
    import boto3

    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    client.create_bucket(Bucket="data")
    client.create_bucket(Bucket="runs")
    for name in ("minicity", "minicoco"):
        for path in sorted((data / name).rglob("*")):
            if path.is_file():
                client.upload_file(str(path), "data", f"sets/{path.relative_to(data).as_posix()}")
    client.close()
    yield endpoint
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the folder of data sets, which this process can read."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    return "s3://data/sets"
