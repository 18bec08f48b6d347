"""Downloads that fail, and what is tried again."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import runpy
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import DownloadError, VerificationError
from zoo.fetch.download import DownloadOptions
from zoo.files.progress import Progress

_bodies = runpy.run_path(str(Path(__file__).with_name("bodies.py")))
BODY, SHA256, OTHER, PART, one_line = (
    _bodies[name] for name in ("BODY", "SHA256", "OTHER", "PART", "one_line")
)


@pytest.mark.parametrize("statuses", [[503], [500, 502, 504], [408], [429]])
def test_what_may_pass_is_tried_again(server: Any, client: Any, statuses: list[int]) -> None:
    url = server.put("/model.tar.gz", BODY, *[server.answer(status) for status in statuses])
    assert client.fetch(url).sha256 == SHA256
    assert client.waits == [0.75, 1.5, 3.0][: len(statuses)]


def test_the_server_says_how_long_to_wait(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, server.answer(503, ("Retry-After", "17")))
    client.fetch(url)
    assert client.waits == [17]


def test_a_server_that_is_never_available(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.answer(503))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "503 Service Unavailable, 4 times in a row" in one_line(caught)
    assert client.left() == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 501])
def test_what_will_not_pass_is_not_tried_again(server: Any, client: Any, status: int) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.answer(status))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert f"{url}: the server answered {status} " in one_line(caught)
    assert (len(server.requests), client.waits, client.left()) == (1, [], [])
    assert not client.target.parent.exists()


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "data:,x"])
def test_a_redirect_to_what_is_no_web_page(server: Any, client: Any, place: str) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.answer(302, ("Location", place)))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "correct the URL" in one_line(caught)
    assert (len(server.requests), client.left()) == (1, [])


def test_a_body_without_a_length_has_a_limit(server: Any, client: Any) -> None:
    """Otherwise a server could fill the disk."""
    url = server.put("/model.tar.gz", BODY, always=server.chunked)
    client.options = replace(client.options, most_undeclared_bytes=len(BODY) - 1)
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "expected at most 200.0 kB, as no length is declared, found more" in one_line(caught)
    assert (len(server.requests), client.left()) == (1, [])
    client.options = replace(client.options, most_undeclared_bytes=len(BODY))
    assert client.fetch(url).sha256 == SHA256


def test_a_server_that_is_not_there(server: Any, client: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/model.tar.gz"
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "connection refused" in one_line(caught)
    assert len(client.waits) == 3


def test_a_server_that_falls_silent(server: Any, client: Any) -> None:
    given_up = threading.Event()
    url = server.put("/model.tar.gz", BODY, server.silent_until(given_up))

    def wait(seconds: float) -> None:
        client.waits.append(seconds)
        object.__setattr__(client.options, "timeouts_s", (600, 600))
        given_up.set()

    client.options = DownloadOptions(timeouts_s=(600, 0.3), sleep=wait)
    assert client.fetch(url).sha256 == SHA256
    assert len(client.waits) == 1


def test_a_shorter_body_than_declared(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.whole(declared=len(BODY) + 5))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "4 times in a row" in one_line(caught)
    assert client.left() == PART


@pytest.mark.parametrize("known", ["sha256", "length", "x-goog-hash", "stored length"])
def test_a_longer_body_than_declared(server: Any, client: Any, known: str) -> None:
    headers = {
        "x-goog-hash": [("x-goog-hash", server.goog_hash(BODY))],
        "stored length": [("x-goog-stored-content-length", len(BODY))],
    }.get(known, [])
    url = server.put("/model.tar.gz", BODY, always=server.whole(*headers, declared=len(BODY) - 5))
    with pytest.raises((VerificationError, DownloadError)) as caught:
        client.fetch(url, SHA256 if known == "sha256" else None, len(BODY) if known == "length" else None)
    message = one_line(caught)
    assert str(len(BODY)) in message or SHA256 in message or "the server declares crc32c" in message
    assert client.left() == (PART if known == "stored length" else [])


def test_more_bytes_than_expected_are_not_taken_in(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.chunked)
    with pytest.raises(DownloadError, match="declares 50000 bytes and sent"):
        client.fetch(url, size=50_000)
    assert client.left() == []


def repeated(crc32c: str, md5: str) -> list[tuple[str, str]]:
    return [("x-goog-hash", crc32c), ("x-goog-hash", md5)]


@pytest.mark.parametrize("which", ["crc32c", "md5"])
def test_a_server_that_lies_about_a_digest(server: Any, client: Any, which: str) -> None:
    crc32c, md5 = server.goog_hash(BODY).split(",")
    wrong_crc32c, wrong_md5 = server.goog_hash(OTHER).split(",")
    headers = repeated(wrong_crc32c, md5) if which == "crc32c" else repeated(crc32c, wrong_md5)
    url = server.put("/model.tar.gz", BODY, headers=headers)
    with pytest.raises(VerificationError) as caught:
        client.fetch(url)
    assert f"the server declares {which} " in one_line(caught)
    assert server.ranges() == [None, None]
    assert client.left() == []


def test_damage_on_the_way_is_fetched_again(server: Any, client: Any) -> None:
    def damaged(handler: Any, file: Any) -> None:
        handler.start(200, file, ("Content-Length", len(file.body)))
        handler.wfile.write(file.body[:-1] + b"?")

    url = server.put("/model.tar.gz", BODY, damaged, headers=[("x-goog-hash", server.goog_hash(BODY))])
    assert client.fetch(url).sha256 == SHA256
    assert len(server.requests) == 2


def test_another_file_than_pinned(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", OTHER, headers=[("x-goog-hash", server.goog_hash(OTHER))])
    with pytest.raises(VerificationError) as caught:
        client.fetch(url, SHA256)
    message = one_line(caught)
    assert SHA256 in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert len(server.requests) == 1
    assert client.left() == []


def test_another_length_than_pinned_is_refused_before_the_download(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", OTHER)
    with pytest.raises(
        VerificationError, match=f"expected {len(BODY)} bytes, the server declares {len(OTHER)}"
    ):
        client.fetch(url, SHA256, len(BODY))
    assert client.left() == []


def test_an_interruption_keeps_what_is_there(
    server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put("/model.tar.gz", BODY)

    def interrupt(progress: Progress, done_bytes: int) -> None:
        if done_bytes > 50_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "at", interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.fetch(url)
    assert client.left() == PART
    kept = client.part.read_bytes()
    assert 50_000 < len(kept) < len(BODY)
    assert BODY.startswith(kept)
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges()[-1] == f"bytes={len(kept)}-"


def test_a_disk_without_room_is_said_before_the_download(
    server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    url = server.put("/model.tar.gz", BODY)
    usage = shutil.disk_usage(client.cache.root)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert re.search(r"needs 200.0 kB in .*, 1.0 kB are free", one_line(caught))


def test_a_folder_that_cannot_be_written(server: Any, client: Any) -> None:
    url = server.put("/model.tar.gz", BODY)
    client.target.parent.write_text("in the way")
    with pytest.raises(DownloadError, match="cannot write") as caught:
        client.fetch(url)
    one_line(caught)


def test_without_a_network_one_line_after_two_attempts(
    client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def unresolved(*arguments: Any, **_: Any) -> None:
        asked.append(arguments[0])
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(DownloadError) as caught:
        client.fetch("https://models.example/model.tar.gz")
    assert one_line(caught) == (
        "https://models.example/model.tar.gz: the host's name could not be resolved; "
        "check the network connection"
    )
    assert asked == ["models.example"] * 2
    assert [found for found in caplog.records if found.levelname == "WARNING"] == []


def test_a_full_disk_names_the_file_and_says_that_the_download_resumes(
    server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zoo.fetch.resume.Part.write", full)
    with pytest.raises(DownloadError, match=r"cannot write .*: the disk is full; .*resumes") as caught:
        client.fetch(server.put("/model.tar.gz", BODY))
    assert str(client.target) in one_line(caught)


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
