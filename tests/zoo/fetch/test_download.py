from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import DownloadError, VerificationError, ZooError
from zoo.fetch.download import DownloadOptions, download, download_path
from zoo.fetch.locations import HttpLocation, locate
from zoo.fetch.verify import Expectation, KnownFile, read_known
from zoo.files.cache import Cache
from zoo.files.progress import Progress

BODY = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = random.Random(2).randbytes(150_000)


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


WHOLE = ["model.tar.gz", "model.tar.gz.json"]
PART = ["model.tar.gz.part", "model.tar.gz.part.json"]


def one_line(caught: pytest.ExceptionInfo[ZooError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 3
    return text


def test_a_file_lands_whole_with_what_is_known_of_it(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, headers=[("x-goog-hash", server.goog_hash(BODY))])
    record = client.fetch(url, SHA256, len(BODY))
    assert client.target.read_bytes() == BODY
    assert (record.sha256, record.bytes, record.etag) == (SHA256, len(BODY), '"v1"')
    assert f"crc32c={record.crc32c},md5={record.md5}" == server.goog_hash(BODY)
    assert read_known(client.target) == record
    assert client.left() == WHOLE


def test_a_file_that_is_there_is_not_asked_for_again(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY)
    first = client.fetch(url)
    assert client.fetch(url, SHA256) == first
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["shorter", "flipped", "record lost", "record damaged", "another url"])
def test_a_changed_file_is_fetched_again(server: Any, client: Client, damage: str) -> None:
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


def test_a_file_that_is_not_as_expected_any_more_is_replaced(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", OTHER)
    client.fetch(url)
    server.put("/model.tar.gz", BODY)
    assert client.fetch(url, SHA256).sha256 == SHA256
    assert client.target.read_bytes() == BODY


def test_refresh_keeps_the_old_file_until_the_new_one_is_checked(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY)
    client.fetch(url)
    server.put("/model.tar.gz", OTHER, headers=[("x-goog-hash", server.goog_hash(BODY))])
    with pytest.raises(VerificationError):
        client.fetch(url, refresh=True)
    assert client.target.read_bytes() == BODY
    assert client.left() == WHOLE


def test_a_server_that_stops_half_way_is_continued(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), server.stop_after(70_000))
    record = client.fetch(url)
    assert (record.sha256, client.target.read_bytes() == BODY) == (SHA256, True)
    assert server.ranges() == [None, "bytes=70000-", "bytes=140000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"v1"', '"v1"']
    assert client.waits == [0.75, 1.5]
    assert client.left() == WHOLE


def test_a_server_that_always_stops_ends_in_an_error_and_a_part(server: Any, client: Client) -> None:
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


def test_attempts_that_bring_something_are_not_counted(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(20_000))
    client.options = DownloadOptions(
        attempts=2, progress_bytes=20_000, sleep=client.waits.append, chance=lambda: 0.5
    )
    assert client.fetch(url).sha256 == SHA256
    assert client.waits == [0.75] * 9


def test_a_server_that_always_starts_again_makes_no_progress(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.whole(stop=50_000))
    client.options = DownloadOptions(attempts=3, progress_bytes=1, sleep=client.waits.append)
    with pytest.raises(DownloadError, match="3 times in a row"):
        client.fetch(url)
    # The first attempt brought something new; the others only brought the same again.
    assert len(server.requests) == 3
    assert client.left() == PART


def test_ranges_that_the_server_ignores_start_again(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), server.whole())
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges() == [None, "bytes=70000-"]


@pytest.mark.parametrize("answer", ["200", "206 of another version", "412", "416"])
def test_a_file_that_changed_since_the_part_starts_again(server: Any, client: Client, answer: str) -> None:
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


def test_a_part_without_a_validator_starts_again(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), etag=None)
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges() == [None, None]


def test_a_part_is_continued_by_date_where_there_is_no_tag(server: Any, client: Client) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    url = server.put("/model.tar.gz", BODY, server.stop_after(70_000), etag=None, last_modified=date)
    assert client.fetch(url).sha256 == SHA256
    assert server.ranges() == [None, "bytes=70000-"]
    assert server.requests[1][1]["If-Range"] == date


def test_a_part_that_was_complete_only_has_to_land(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(60_000))
    client.options = DownloadOptions(attempts=1)
    with pytest.raises(DownloadError):
        client.fetch(url)
    client.part.write_bytes(BODY)
    assert client.fetch(url).sha256 == SHA256
    assert len(server.requests) == 1
    assert client.left() == WHOLE


def test_a_part_that_went_bad_on_disk_is_fetched_again(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.stop_after(20_000))
    with pytest.raises(DownloadError):
        client.fetch(url, SHA256)
    client.part.write_bytes(bytes(80_000))
    server.put("/model.tar.gz", BODY)
    assert client.fetch(url, SHA256).sha256 == SHA256
    assert server.ranges()[-2:] == ["bytes=80000-", None]


def test_redirects_are_followed_with_ranges(server: Any, client: Client) -> None:
    target = server.put("/moved.tar.gz", BODY, server.stop_after(70_000))
    moved = server.answer(302, ("Location", target))
    assert client.fetch(server.put("/model.tar.gz", b"", always=moved)).sha256 == SHA256
    assert server.ranges() == [None, None, "bytes=70000-", "bytes=70000-"]


def test_proxies_of_the_environment_are_used(
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.endpoint)
    monkeypatch.delenv("NO_PROXY")
    url = "http://models.invalid/model.tar.gz"
    server.put(url, BODY)
    assert client.fetch(url).sha256 == SHA256


def test_bytes_are_kept_as_they_are_stored(server: Any, client: Client) -> None:
    # Some servers declare a .tar.gz file as a .tar file with a content encoding.
    url = server.put("/model.tar.gz", BODY, headers=[("Content-Encoding", "gzip")])
    assert client.fetch(url).sha256 == SHA256
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_progress_goes_to_standard_error(
    server: Any, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.fetch(server.put("/model.tar.gz", BODY))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("zoo: model.tar.gz: 8.")
    assert err.splitlines()[-1].startswith("zoo: model.tar.gz: 200.0 kB of 200.0 kB")


def test_a_body_without_a_declared_length(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, server.chunked)
    assert client.fetch(url, SHA256).bytes == len(BODY)


@pytest.mark.parametrize("statuses", [[503], [500, 502, 504], [408], [429]])
def test_what_may_pass_is_tried_again(server: Any, client: Client, statuses: list[int]) -> None:
    url = server.put("/model.tar.gz", BODY, *[server.answer(status) for status in statuses])
    assert client.fetch(url).sha256 == SHA256
    assert client.waits == [0.75, 1.5, 3.0][: len(statuses)]


def test_the_server_says_how_long_to_wait(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, server.answer(503, ("Retry-After", "17")))
    client.fetch(url)
    assert client.waits == [17]


def test_a_server_that_is_never_available(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.answer(503))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "503 Service Unavailable, 4 times in a row" in one_line(caught)
    assert client.left() == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 501])
def test_what_will_not_pass_is_not_tried_again(server: Any, client: Client, status: int) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.answer(status))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert f"{url}: the server answered {status} " in one_line(caught)
    assert (len(server.requests), client.waits, client.left()) == (1, [], [])
    assert not client.target.parent.exists()


def test_a_server_that_is_not_there(server: Any, client: Client) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/model.tar.gz"
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "connection refused" in one_line(caught)
    assert len(client.waits) == 3


def test_a_server_that_falls_silent(server: Any, client: Client) -> None:
    given_up = threading.Event()
    url = server.put("/model.tar.gz", BODY, server.silent_until(given_up))

    def wait(seconds: float) -> None:
        client.waits.append(seconds)
        object.__setattr__(client.options, "timeouts_s", (600, 600))
        given_up.set()

    client.options = DownloadOptions(timeouts_s=(600, 0.3), sleep=wait)
    assert client.fetch(url).sha256 == SHA256
    assert len(client.waits) == 1


def test_a_shorter_body_than_declared(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.whole(declared=len(BODY) + 5))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert "4 times in a row" in one_line(caught)
    assert client.left() == PART


@pytest.mark.parametrize("known", ["sha256", "length", "x-goog-hash", "stored length"])
def test_a_longer_body_than_declared(server: Any, client: Client, known: str) -> None:
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


def test_more_bytes_than_expected_are_not_taken_in(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY, always=server.chunked)
    with pytest.raises(DownloadError, match="declares 50000 bytes and sent"):
        client.fetch(url, size=50_000)
    assert client.left() == []


def repeated(crc32c: str, md5: str) -> list[tuple[str, str]]:
    return [("x-goog-hash", crc32c), ("x-goog-hash", md5)]


@pytest.mark.parametrize("which", ["crc32c", "md5"])
def test_a_server_that_lies_about_a_digest(server: Any, client: Client, which: str) -> None:
    crc32c, md5 = server.goog_hash(BODY).split(",")
    wrong_crc32c, wrong_md5 = server.goog_hash(OTHER).split(",")
    headers = repeated(wrong_crc32c, md5) if which == "crc32c" else repeated(crc32c, wrong_md5)
    url = server.put("/model.tar.gz", BODY, headers=headers)
    with pytest.raises(VerificationError) as caught:
        client.fetch(url)
    assert f"the server declares {which} " in one_line(caught)
    assert server.ranges() == [None, None]
    assert client.left() == []


def test_damage_on_the_way_is_fetched_again(server: Any, client: Client) -> None:
    def damaged(handler: Any, file: Any) -> None:
        handler.start(200, file, ("Content-Length", len(file.body)))
        handler.wfile.write(file.body[:-1] + b"?")

    url = server.put("/model.tar.gz", BODY, damaged, headers=[("x-goog-hash", server.goog_hash(BODY))])
    assert client.fetch(url).sha256 == SHA256
    assert len(server.requests) == 2


def test_another_file_than_pinned(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", OTHER, headers=[("x-goog-hash", server.goog_hash(OTHER))])
    with pytest.raises(VerificationError) as caught:
        client.fetch(url, SHA256)
    message = one_line(caught)
    assert SHA256 in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert len(server.requests) == 1
    assert client.left() == []


def test_another_length_than_pinned_is_refused_before_the_download(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", OTHER)
    with pytest.raises(
        VerificationError, match=f"expected {len(BODY)} bytes, the server declares {len(OTHER)}"
    ):
        client.fetch(url, SHA256, len(BODY))
    assert client.left() == []


def test_an_interruption_keeps_what_is_there(
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch
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
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    url = server.put("/model.tar.gz", BODY)
    usage = shutil.disk_usage(client.cache.root)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError) as caught:
        client.fetch(url)
    assert re.search(r"needs 200.0 kB in .*, 1.0 kB are free", one_line(caught))


def test_a_folder_that_cannot_be_written(server: Any, client: Client) -> None:
    url = server.put("/model.tar.gz", BODY)
    client.target.parent.write_text("in the way")
    with pytest.raises(DownloadError, match="cannot write") as caught:
        client.fetch(url)
    one_line(caught)


def test_without_a_network_one_line_after_two_attempts(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch
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


def in_another_process(code: str, *arguments: object) -> Callable[[], subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return lambda: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


FETCH = """
    import sys
    from pathlib import Path
    from zoo.fetch.download import DownloadOptions, download
    from zoo.fetch.locations import locate
    from zoo.files.cache import Cache
    url, cache = sys.argv[1:]
    print(download(locate(url), Cache(Path(cache)), options=DownloadOptions(show_progress=False)).sha256)
"""


def test_two_processes_download_once(server: Any, client: Client, tmp_path: Path) -> None:
    second_waits = threading.Event()
    url = server.put("/model.tar.gz", BODY, server.half_until(second_waits))
    start = in_another_process(FETCH, url, tmp_path)
    with start() as first:
        while not server.requests:
            assert first.poll() is None
            time.sleep(0.02)
        with start() as second:
            assert second.stderr is not None
            waiting = second.stderr.readline()
            second_waits.set()
            results = [process.communicate() for process in (first, second)]
    assert "another process is downloading it, waiting" in waiting
    assert results == [(f"{SHA256}\n", ""), (f"{SHA256}\n", "")]
    assert len(server.requests) == 1
    assert client.left() == WHOLE


def test_a_killed_process_leaves_a_part_that_is_continued(
    server: Any, client: Client, tmp_path: Path
) -> None:
    killed = threading.Event()
    url = server.put("/model.tar.gz", BODY, server.half_until(killed))
    with in_another_process(FETCH, url, tmp_path)() as process:
        while not client.part.exists() or client.part.stat().st_size < 30_000:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate()
    killed.set()
    assert client.left() == PART
    assert client.fetch(url).sha256 == SHA256
    assert (server.ranges()[-1] or "").startswith("bytes=")
    assert client.left() == WHOLE
