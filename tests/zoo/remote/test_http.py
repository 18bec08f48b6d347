from __future__ import annotations

from datetime import datetime, timezone

import pytest

from zoo.remote.http import declared_digests, read_head, retry_after_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Mon, 01 Jan 2024 00:01:00 GMT", 60),
        ("Mon, 01 Jan 2024 00:01:00 -0000", 60),
        ("Sun, 31 Dec 2023 23:00:00 GMT", 0),
        ("soon", None),
        ("", None),
        (None, None),
        ("²", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(
    header: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp()
    monkeypatch.setattr("time.time", lambda: now)
    assert retry_after_s(header) == seconds


def test_declared_digests_of_the_storage_service() -> None:
    header = "crc32c=n03x6A==, md5=Ojk9c3dhfxgoKVVHYwFbHQ==, sha1=AAAA"
    assert declared_digests(header) == {"crc32c": "n03x6A==", "md5": "Ojk9c3dhfxgoKVVHYwFbHQ=="}
    assert declared_digests("crc32c=,md5=Ojk9,nonsense,crc32c=!!!!") == {}


def test_a_head_knows_the_length_of_the_whole_file() -> None:
    assert read_head(200, "OK", {"Content-Length": "10"}).total_bytes == 10
    assert (
        read_head(200, "OK", {"Content-Length": "8", "x-goog-stored-content-length": "10"}).total_bytes == 10
    )
    part = read_head(206, "Partial Content", {"Content-Length": "6", "Content-Range": "bytes 4-9/10"})
    assert (part.range_start, part.total_bytes) == (4, 10)
    assert read_head(206, "", {"Content-Range": "bytes 4-9/*"}).total_bytes is None
    assert read_head(416, "", {"Content-Range": "bytes */10"}).total_bytes == 10
    assert read_head(200, "", {"Content-Length": "-3"}).total_bytes is None
