from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import DownloadError
from zoo.fetch.locations import LocalLocation, PackageLocation, locate
from zoo.remote.http import HttpLocation

URL = "https://example.org/model.tar.gz"


def test_where_urls_lead() -> None:
    assert locate(URL) == HttpLocation(URL, URL, "identity")
    assert locate("file:///data/my%20model.tar.gz") == LocalLocation(Path("/data/my model.tar.gz"))
    assert locate("package://zoo/assets/a.tar.gz") == PackageLocation("zoo", "assets/a.tar.gz")
    public = "https://storage.googleapis.com/bucket/a%20folder/model%3F.tar.gz"
    stored = "gs://bucket/a folder/model?.tar.gz"
    assert locate(stored, {}) == HttpLocation(stored, public, "gzip")
    for endpoint in ("http://localhost:9000/", "localhost:9000"):
        there = locate("gs://bucket/model.tar.gz", {"STORAGE_EMULATOR_HOST": endpoint})
        address = "http://localhost:9000/bucket/model.tar.gz"
        assert there == HttpLocation("gs://bucket/model.tar.gz", address, "gzip")


@pytest.mark.parametrize(
    "url",
    [
        "model.tar.gz",
        "ftp://example.org/a",
        "gs://bucket",
        "https:///a",
        "file://host/a",
        "package://zoo",
        "http://[",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(DownloadError, match="not a URL that can be fetched") as caught:
        locate(url, {})
    assert "\n" not in str(caught.value)
