from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.fetch.download import DownloadOptions, download, download_path
from zoo.fetch.locations import locate
from zoo.fetch.verify import Expectation, KnownFile
from zoo.files.cache import Cache
from zoo.remote.http import HttpLocation


class Client:
    """Downloads into a cache, with waits that take no time and are written down."""

    def __init__(self, folder: Path, url: str) -> None:
        self.cache = Cache(folder)
        self.target = download_path(HttpLocation(url, url, "identity"), self.cache)
        self.part = self.target.with_name("model.tar.gz.part")
        self.waits: list[float] = []
        self.options = DownloadOptions(
            attempts=4,
            progress_bytes=1 << 30,
            timeouts_s=(600, 600),
            chunk_bytes=1 << 13,
            sleep=self.waits.append,
            chance=lambda: 0.5,
        )

    def fetch(
        self,
        url: str,
        sha256: str | None = None,
        size: int | None = None,
        refresh: bool = False,
    ) -> KnownFile:
        location = locate(url)
        assert isinstance(location, HttpLocation)
        expected = Expectation(sha256, size)
        return download(location, self.cache, expected, self.options, refresh)

    def left(self) -> list[str]:
        """Returns the names of all downloads and their parts on disk."""
        paths = (self.cache.root / "downloads").rglob("*")
        return sorted(path.name for path in paths if path.is_file() and path.name != "CACHEDIR.TAG")


@pytest.fixture
def client(server: Any, tmp_path: Path) -> Client:
    return Client(tmp_path, f"{server.endpoint}/model.tar.gz")
