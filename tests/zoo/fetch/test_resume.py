from __future__ import annotations

import base64
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import DownloadError
from zoo.fetch.download import DownloadOptions
from zoo.fetch.http import ReplyHead, declared_digests, read_head, retry_after_s
from zoo.fetch.locations import HttpLocation, LocalLocation, PackageLocation, locate
from zoo.fetch.resume import Answer, PartState, read_answer, request_headers
from zoo.fetch.verify import Digester, Expectation, declared_difference

URL = "https://example.org/model.tar.gz"
PART = PartState(URL, 400, 1000, etag='"v1"')
WHOLE: dict[str, str] = {}
REST = {"Range": "bytes=400-"}
NOTHING = None


@pytest.mark.parametrize(
    ("part", "headers"),
    [
        (None, WHOLE),
        (PART, {**REST, "If-Range": '"v1"'}),
        (PartState(URL, 0, 1000, etag='"v1"'), WHOLE),
        (PartState("https://example.org/other", 400, 1000, etag='"v1"'), WHOLE),
        (PartState(URL, 400, 1000), WHOLE),
        (PartState(URL, 400, 1000, etag='W/"v1"'), WHOLE),
        (PartState(URL, 400, 1000, etag='W/"v1"', last_modified="Mon"), {**REST, "If-Range": "Mon"}),
        (PartState(URL, 400, None, etag='"v1"'), {**REST, "If-Range": '"v1"'}),
        (PartState(URL, 1000, 1000, etag='"v1"'), NOTHING),
        (PartState(URL, 1001, 1000, etag='"v1"'), WHOLE),
    ],
)
def test_what_is_asked_for_follows_from_the_part(
    part: PartState | None, headers: dict[str, str] | None
) -> None:
    assert request_headers(part, URL) == headers


def test_a_part_is_continued_only_as_the_same_version() -> None:
    assert request_headers(PART, URL) == {"Range": "bytes=400-", "If-Range": '"v1"'}
    dated = PartState(URL, 7, 1000, etag='W/"v1"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
    assert (request_headers(dated, URL) or {})["If-Range"] == "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (ReplyHead(206, range_start=400, total_bytes=1000, etag='"v1"'), Answer.APPEND),
        (ReplyHead(206, range_start=400), Answer.APPEND),
        (ReplyHead(206, range_start=399, total_bytes=1000), Answer.FORGET),
        (ReplyHead(206), Answer.FORGET),
        (ReplyHead(206, range_start=400, total_bytes=1001), Answer.FORGET),
        (ReplyHead(206, range_start=400, total_bytes=1000, etag='"v2"'), Answer.FORGET),
        (ReplyHead(200, total_bytes=1000, etag='"v1"'), Answer.REPLACE),
        (ReplyHead(412), Answer.FORGET),
        (ReplyHead(416), Answer.FORGET),
        (ReplyHead(416, total_bytes=300), Answer.FORGET),
        (ReplyHead(416, total_bytes=400, etag='"v1"'), Answer.FORGET),
        (ReplyHead(404), Answer.REFUSED),
        (ReplyHead(403), Answer.REFUSED),
        (ReplyHead(204), Answer.REFUSED),
        (ReplyHead(501), Answer.REFUSED),
        *[(ReplyHead(status), Answer.LATER) for status in (408, 425, 429, 500, 502, 503, 504)],
    ],
)
def test_what_an_answer_means_for_a_part(reply: ReplyHead, answer: Answer) -> None:
    assert read_answer(PART, reply) is answer


def test_a_part_of_unknown_length_is_complete_when_nothing_follows_it() -> None:
    part = PartState(URL, 400, None, etag='"v1"')
    assert read_answer(part, ReplyHead(416, total_bytes=400)) is Answer.COMPLETE
    assert read_answer(part, ReplyHead(416, total_bytes=400, etag='"v2"')) is Answer.FORGET


@given(status=st.integers(100, 599), start=st.none() | st.integers(0, 9), total=st.none() | st.integers(0, 9))
def test_a_download_without_a_part_never_forgets(status: int, start: int | None, total: int | None) -> None:
    answer = read_answer(None, ReplyHead(status, range_start=start, total_bytes=total))
    assert answer in (Answer.REPLACE, Answer.LATER, Answer.REFUSED)


@given(failures=st.integers(1, 40), chance=st.floats(0, 1, exclude_max=True))
def test_delays_grow_up_to_a_limit(failures: int, chance: float) -> None:
    options = DownloadOptions(first_delay_s=1, longest_delay_s=30, chance=lambda: chance)
    delay = options.delay_s(failures, None)
    assert 0.5 <= delay <= 30
    assert delay <= options.delay_s(failures + 1, None)


def test_the_server_says_how_long_to_wait_within_the_limit() -> None:
    options = DownloadOptions(longest_delay_s=30)
    assert options.delay_s(1, 7) == 7
    assert options.delay_s(1, 7000) == 30
    assert options.delay_s(1, -3) == 0


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


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_digests_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    one, many = Digester(), Digester()
    one.update(b"".join(pieces))
    for piece in pieces:
        many.update(piece)
    assert one.result() == many.result()


def test_differences_name_expected_and_found() -> None:
    digester = Digester()
    digester.update(b"123456789")
    found = digester.result()
    # The check value that defines CRC-32C (Castagnoli).
    assert base64.b64decode(found.crc32c) == bytes.fromhex("e3069283")
    assert declared_difference({"crc32c": found.crc32c, "md5": found.md5}, found) is None
    assert "md5 AAAA" in (declared_difference({"md5": "AAAA"}, found) or "")
    assert Expectation(found.sha256.upper(), 9).difference(found) is None
    assert Expectation(None, None).difference(found) is None
    wrong = Expectation("0" * 64, 8, origin="the registry").difference(found) or ""
    assert "expected 8 bytes, found 9" in wrong
    assert found.sha256 in wrong
    assert "the registry" in wrong
