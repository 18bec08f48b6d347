from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.fetch.resume import Answer, PartState, read_answer, request_headers
from zoo.remote.http import ReplyHead

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
