"""Fetched files take no more room than they may, and what is in use stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError
from zoo.files.cache import Cache
from zoo.files.contents import describe, prune
from zoo.remote.path import RemotePath

At = Callable[..., RemotePath]
SIZE = 1000
NAMES = [f"{number:02}.png" for number in range(20)]


@pytest.fixture
def many(tmp_path: Path, web_of: Callable[[Path], Any]) -> Any:
    """A server with twenty files of one size."""
    folder = tmp_path / "many"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode() * (SIZE // len(name)))
    return web_of(folder)


def held(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.glob("remote_data/*/objects/*/*"))


def test_the_files_used_least_recently_leave(many: Any, at: At, tmp_path: Path) -> None:
    root, cache = at(many.url, 5 * SIZE), tmp_path / "cache"
    for name in NAMES:
        assert (root / NAMES[0]).read_bytes() == NAMES[0].encode() * (SIZE // 6)
        assert (root / name).read_bytes() == name.encode() * (SIZE // 6)
        assert held(cache) <= 5 * SIZE
    # The one that was read again and again was fetched once, and all others once.
    assert [many.asked().count(f"/{name}") for name in NAMES] == [1] * 20
    (shown,) = (entry for entry in describe(Cache(cache)).entries if entry.kind == "remote_data")
    assert shown.name.startswith("http_127.0.0.1_")
    assert 0 < shown.bytes - held(cache) < 20_000  # what is known of all files


def test_digests_of_more_than_fits_are_known_after_one_reading(many: Any, at: At) -> None:
    digests = at(many.url, 3 * SIZE).digests(NAMES)
    many.requests.clear()
    assert at(many.url, 3 * SIZE).digests(NAMES) == digests
    assert [path for path in many.asked() if path.endswith("png")] == []


def test_an_open_file_can_be_read_after_it_has_left(many: Any, at: At) -> None:
    root = at(many.url, 2 * SIZE)
    with (root / NAMES[0]).open() as file:
        for name in NAMES[1:]:
            (root / name).read_bytes()
        assert len(file.read()) == SIZE // 6 * 6


def test_kept_files_stay_until_the_process_ends(many: Any, at: At, tmp_path: Path) -> None:
    root, cache = at(many.url, 5 * SIZE), tmp_path / "cache"
    folder = root.local_copy(NAMES[:3], "the scripts")
    for name in NAMES:
        (root / name).read_bytes()
        assert held(cache) <= 5 * SIZE
    assert sorted(path.name for path in folder.iterdir()) == NAMES[:3]
    assert (folder / NAMES[0]).read_bytes() == (root / NAMES[0]).read_bytes()
    # Asked for by another part of the program, the same files need no more room.
    assert root.local_copy(NAMES[:2], "the scripts") == folder
    kept = prune(Cache(cache), ["remote_data"])
    assert [entry.name.partition("-")[0] for entry in kept.in_use] == ["in"]
    assert sorted(path.name for path in folder.iterdir()) == NAMES[:3]


def test_what_does_not_fit_is_said_with_what_is_needed(many: Any, at: At) -> None:
    root = at(many.url, 5 * SIZE)
    root.digests(NAMES)
    with pytest.raises(
        DataError, match=r"^the scripts: needs 6\.0 kB on disk at once, the cache for data may hold"
    ) as said:
        root.local_copy(NAMES[:6], "the scripts")
    assert str(said.value).endswith("5.0 kB; give --data-cache 1MB or more")
    with pytest.raises(
        DataError, match=r"00\.png: needs 996 B on disk at once, the cache for data may hold 10 B"
    ):
        (at(many.url, 10, cache="small") / NAMES[0]).read_bytes()


_READER = """
import sys
from pathlib import Path
from zoo.files.cache import Cache
from zoo.remote.path import RemotePath

url, cache, seed, wait = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
root = RemotePath(url, url, 5000, cache)
if wait == "keep":
    print(root.local_copy(["00.png", "01.png"], "a test"), flush=True)
    sys.stdin.read()
for step in range(60):
    name = f"{(7 * seed + step * (seed + 1)) % 20:02}.png"
    assert (root / name).read_bytes() == name.encode() * 166, name
    with Cache(cache).holding("remote_data", "room", ""):
        held = sum(path.stat().st_size for path in cache.glob("remote_data/*/objects/*/*"))
    assert held <= 5000, held
"""


def reader(url: str, cache: Path, seed: int, wait: str = "no") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _READER, url, str(cache), str(seed), wait]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, text=True, cwd=cache.parent, **pipes)  # type: ignore[call-overload,no-any-return]


def test_processes_share_the_room(many: Any, tmp_path: Path) -> None:
    readers = [reader(many.url, tmp_path / "cache", seed) for seed in range(3)]
    for process in readers:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert held(tmp_path / "cache") <= 5 * SIZE


def test_what_a_killed_process_kept_and_wrote_goes(many: Any, at: At, tmp_path: Path) -> None:
    process = reader(many.url, tmp_path / "cache", 0, "keep")
    assert process.stdout is not None
    kept = Path(process.stdout.readline().strip())
    assert sorted(path.name for path in kept.iterdir()) == NAMES[:2]
    part = (
        next((tmp_path / "cache" / "remote_data").glob("http*")) / "objects" / "parts" / f".x.{process.pid}-1"
    )
    part.write_bytes(bytes(SIZE))
    root = at(many.url, 5 * SIZE)
    for name in NAMES:
        (root / name).read_bytes()
    assert kept.is_dir()
    assert part.is_file()
    process.kill()
    process.communicate()
    for name in NAMES:
        (root / name).read_bytes()
    assert not kept.exists()
    assert not part.exists()
    assert os.listdir(tmp_path / "cache" / "remote_data") != []
