"""Downloads that land, from the start or from the part that an earlier one left."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DownloadError, VerificationError
from zoo.fetch.download import DownloadOptions
from zoo.fetch.verify import read_known

_bodies = runpy.run_path(str(Path(__file__).with_name("bodies.py")))
BODY, SHA256, OTHER, WHOLE, PART, one_line = (
    _bodies[name] for name in ("BODY", "SHA256", "OTHER", "WHOLE", "PART", "one_line")
)


def test_a_file_lands_whole_with_what_is_known_of_it(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, headers=[("x-goog-hash", server.goog_hash(BODY))])
    record = client.fetch(url, SHA256, len(BODY))
    assert client.target.read_bytes() == BODY
    assert (record.sha256, record.bytes, record.etag) == (SHA256, len(BODY), '"v1"')
    assert f"crc32c={record.crc32c},md5={record.md5}" == server.goog_hash(BODY)
    assert read_known(client.target) == record
    assert client.left() == WHOLE


def test_a_file_that_is_there_is_not_asked_for_again(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY)
    first = client.fetch(url)
    assert client.fetch(url, SHA256) == first
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["shorter", "flipped", "record lost", "record damaged", "another url"])
def test_a_changed_file_is_fetched_again(server: Any, client: Any, damage: str) -> None:
    url = server.put("/model.tar.gz", BODY)
    client.fetch(url)
    record = client.target.with_name("model.tar.gz.json")
    if damage == "shorter":
        client.target.write_bytes(BODY[:-1])
    elif damage == "flipped":
        client.target.write_bytes(bytes([BODY[0] ^ 1]) + BODY[1:])
    elif damage == "another url":
        record.write_text(record.read_text().replace("/model.tar.gz", "/other.tar.gz"))
    elif damage == "record damaged":
        record.write_text("{")
    else:
        record.unlink()
    client.fetch(url)
    assert client.target.read_bytes() == BODY
    # Without a record the file is only read again: it landed under its name after every check.
    assert len(server.requests) == (1 if "record" in damage else 2)
    assert read_known(client.target) is not None


def test_a_file_that_is_not_as_expected_any_more_is_replaced(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", OTHER)
    client.fetch(url)
    server.put("/model.tar.gz", BODY)
    assert client.fetch(url, SHA256).sha256 == SHA256
    assert client.target.read_bytes() == BODY


def test_refresh_keeps_the_old_file_until_the_new_one_is_checked(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY)
    client.fetch(url)
    server.put("/model.tar.gz", OTHER, headers=[("x-goog-hash", server.goog_hash(BODY))])
    with pytest.raises(VerificationError):
        client.fetch(url, refresh=True)
    assert client.target.read_bytes() == BODY
    assert client.left() == WHOLE


def test_a_server_that_stops_half_way_is_continued(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), server.stop_after(70_000))
    record = client.fetch(url)
    assert (record.sha256, client.target.read_bytes() == BODY) == (SHA256, True)
    assert server.ranges() == [None, "bytes=70000-", "bytes=140000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"v1"', '"v1"']
    assert client.waits == [0.75, 1.5]
    assert client.left() == WHOLE


def test_a_server_that_always_stops_ends_in_an_error_and_a_part(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(10_000))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    message = one_line(caught)
    assert url in message
    assert "4 times in a row" in message
    assert "40.0 kB are kept" in message
    assert client.left() == PART
    assert client.part.read_bytes() == BODY[:40_000]

    server.files["/model.tar.gz"].always = None
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges()[-1] == "bytes=40000-"
    assert client.left() == WHOLE


def test_attempts_that_bring_something_are_not_counted(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(20_000))
    client.options = DownloadOptions(
        attempts=2, progress_bytes=20_000, sleep=client.waits.append, chance=lambda: 0.5
    )
    assert client.fetch(url).sha256 == SHA256
    assert client.waits == [0.75] * 9


def test_a_server_that_always_starts_again_makes_no_progress(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.whole(stop=50_000))
    client.options = DownloadOptions(attempts=3, progress_bytes=1, sleep=client.waits.append)
    with pytest.raises(DownloadError, match="3 times in a row"):
        client.fetch(url)
    # The first attempt brought something new; the others only brought the same again.
    assert len(server.requests) == 3
    assert client.left() == PART


def test_ranges_that_the_server_ignores_start_again(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), server.whole())
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges() == [None, "bytes=70000-"]


@pytest.mark.parametrize("answer", ["200", "206 of another version", "412", "416"])
def test_a_file_that_changed_since_the_part_starts_again(server: Any, client: Any, answer: str) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(20_000))
    with pytest.raises(DownloadError):
        client.fetch(url)
    assert client.left() == PART

    def another_version(handler: Any, file: Any) -> None:
        size = len(file.body)
        handler.start(
            206, file, ("Content-Range", f"bytes 80000-{size - 1}/{size}"), ("Content-Length", size - 80_000)
        )
        handler.wfile.write(file.body[80_000:])

    script = {
        "200": [],
        "206 of another version": [another_version],
        "412": [server.answer(412)],
        "416": [server.answer(416, ("Content-Range", f"bytes */{len(OTHER)}"))],
    }[answer]
    server.put("/model.tar.gz", OTHER, *script, etag='"v2"')
    client.fetch(url)
    assert client.target.read_bytes() == OTHER
    assert client.left() == WHOLE


def test_a_part_without_a_validator_starts_again(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), etag=None)
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges() == [None, None]


def test_a_part_is_continued_by_date_where_there_is_no_tag(server: Any, client: Any) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), etag=None, last_modified=date)
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges() == [None, "bytes=70000-"]
    assert server.requests[1][1]["If-Range"] == date


def test_a_part_that_was_complete_only_has_to_land(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(60_000))
    client.options = DownloadOptions(attempts=1)
    with pytest.raises(DownloadError):
        client.fetch(url)
    client.part.write_bytes(BODY)
    assert client.fetch(url).sha256 == SHA256
    assert len(server.requests) == 1
    assert client.left() == WHOLE


def test_a_part_that_went_bad_on_disk_is_fetched_again(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(20_000))
    with pytest.raises(DownloadError):
        client.fetch(url, SHA256)
    client.part.write_bytes(bytes(80_000))
    server.put("/model.tar.gz", BODY)
    assert client.fetch(url, SHA256).sha256 == SHA256
    assert server.ranges()[-2:] == ["bytes=80000-", None]


def test_redirects_are_followed_with_ranges(server: Any, client: Any) -> None:
    target = server.put("/moved.tar.gz", BODY, server.stop_after(70_000))
    moved = server.answer(302, ("Location", target))
    assert client.fetch(server.put("/model.tar.gz", b"", always=moved)).sha256 == SHA256
    assert server.ranges() == [None, None, "bytes=70000-", "bytes=70000-"]


def test_proxies_of_the_environment_are_used(
    server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.endpoint)
    monkeypatch.delenv("NO_PROXY")
    url = "http://models.invalid/model.tar.gz"
    server.put(url, BODY)
    assert client.fetch(url).sha256 == SHA256


def test_bytes_are_kept_as_they_are_stored(server: Any, client: Any) -> None:
    # Some servers declare a .tar.gz file as a .tar file with a content encoding.
    url = server.put("/model.tar.gz", BODY, headers=[("Content-Encoding", "gzip")])
    assert client.fetch(url).sha256 == SHA256
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_progress_goes_to_standard_error(
    server: Any, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client.fetch(server.put("/model.tar.gz", BODY))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("zoo: model.tar.gz: 8.")
    assert err.splitlines()[-1].startswith("zoo: model.tar.gz: 200.0 kB of 200.0 kB")


def test_a_body_without_a_declared_length(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, server.chunked)
    assert client.fetch(url, SHA256).bytes == len(BODY)
