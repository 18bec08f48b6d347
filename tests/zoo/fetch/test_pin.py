from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import VerificationError, ZooError
from zoo.fetch.pin import LockedFile, LockFile, choose_lock_path
from zoo.files.cache import Cache

SEEN = LockedFile("https://example.org/b.tar.gz", "ab" * 32, 1234, "2025-03-01", "n03x6A==", "Ojk9", '"v1"')
BARE = LockedFile("https://example.org/a.tar.gz", "cd" * 32, 99, "2025-03-02")


@pytest.fixture
def lock(tmp_path: Path) -> LockFile:
    return LockFile(tmp_path / "project" / "zoo.lock", Cache(tmp_path / "cache"))


def test_which_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    assert choose_lock_path(cache, None, {}) == cache / "zoo.lock"
    (tmp_path / "zoo.lock").write_text("")
    assert choose_lock_path(cache, None, {}) == tmp_path / "zoo.lock"
    assert choose_lock_path(cache, None, {"ZOO_LOCK": str(tmp_path / "env.lock")}) == tmp_path / "env.lock"
    chosen = choose_lock_path(cache, Path("mine.lock"), {"ZOO_LOCK": "env.lock"})
    assert chosen == tmp_path / "mine.lock"


def test_first_sight_is_recorded_once(lock: LockFile) -> None:
    assert lock.seen(SEEN.url) is None
    assert lock.record(SEEN) == SEEN
    later = dataclasses.replace(SEEN, first_seen="2026-01-01", etag='"v2"')
    assert lock.record(later) == SEEN
    assert lock.seen(SEEN.url) == SEEN
    assert [path.name for path in lock.path.parent.iterdir()] == ["zoo.lock"]


def test_the_file_can_be_read_and_merged_by_lines(lock: LockFile) -> None:
    lock.record(SEEN)
    lock.record(BARE)
    lines = lock.path.read_text().splitlines()
    assert json.loads(lines[0]) == {"zoo.lock": 1}
    assert [json.loads(line)["url"] for line in lines[1:]] == [BARE.url, SEEN.url]
    assert "etag" not in json.loads(lines[1])
    lock.path.write_text("\n".join([lines[0], "", lines[2]]))
    assert lock.entries() == {SEEN.url: SEEN}
    lock.record(BARE)
    assert lock.path.read_text().splitlines() == lines


def test_a_later_difference_says_what_changed(lock: LockFile) -> None:
    lock.record(SEEN)
    text = lock.path.read_text()
    other = dataclasses.replace(SEEN, sha256="ef" * 32, bytes=1235)
    with pytest.raises(VerificationError) as caught:
        lock.record(other)
    message = str(caught.value)
    assert "changed since 2025-03-01: bytes 1234 -> 1235" in message
    assert f"sha256 {SEEN.sha256} -> {other.sha256}" in message
    assert "\n" not in message
    assert lock.path.read_text() == text
    assert lock.record(other, accept=True) == other
    assert lock.entries() == {SEEN.url: other}


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["<<<<<<< HEAD"], 'line 1: expected {"zoo.lock": 1}, found'),
        (['{"zoo.lock": 2}'], "line 1: expected"),
        (['{"zoo.lock": 1}', "=======", "x"], "line 2: expected an object with .* found '======='"),
        (
            ['{"zoo.lock": 1}', '{"url": "u", "sha256": "s", "bytes": "1", "first_seen": "d"}'],
            "line 2: expected",
        ),
        (['{"zoo.lock": 1}', '{"url": "u", "sha256": "s", "bytes": 1}'], "line 2: expected"),
        (['{"zoo.lock": 1}', '{"url": "u", "sha256": "s", "bytes": 1, "first_seen": 2}'], "line 2: expected"),
        (['{"zoo.lock": 1}', '{"url": "u", "sha256": "s", "bytes": 1, "first_seen": "d", "x": 1}'], "line 2"),
        (
            [
                '{"zoo.lock": 1}',
                '{"url": "u", "sha256": "s", "bytes": 1, "first_seen": "d"}',
                '{"url": "u", "sha256": "t", "bytes": 1, "first_seen": "d"}',
            ],
            "line 3: a second, different entry for u",
        ),
    ],
)
def test_damage_is_named_by_line(lock: LockFile, lines: list[str], match: str) -> None:
    lock.path.parent.mkdir()
    lock.path.write_text("\n".join(lines))
    with pytest.raises(VerificationError, match=match) as caught:
        lock.seen("u")
    assert str(caught.value).startswith(f"{lock.path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    folder = tmp_path / "zoo.lock"
    folder.mkdir()
    cache = Cache(tmp_path / "cache")
    with pytest.raises(VerificationError, match="cannot be read"):
        LockFile(folder, cache).entries()
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match=r"cannot be (read|written): "):
        LockFile(tmp_path / "file" / "zoo.lock", cache).record(SEEN)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(LockedFile, text, text, st.integers(0, 10**15), text, st.none() | text, st.none() | text),
        max_size=6,
        unique_by=lambda seen: seen.url,
    )
)
def test_what_is_written_is_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, files: list[LockedFile]
) -> None:
    folder = tmp_path_factory.mktemp("lock")
    cache = Cache(folder / "cache")
    forwards, backwards = LockFile(folder / "a.lock", cache), LockFile(folder / "b.lock", cache)
    for seen in files:
        forwards.record(seen)
    for seen in reversed(files):
        backwards.record(seen)
    assert forwards.entries() == {seen.url: seen for seen in files}
    if files:
        assert forwards.path.read_bytes() == backwards.path.read_bytes()


RECORD = """
import sys
from pathlib import Path
from zoo.files.cache import Cache
from zoo.fetch.pin import LockedFile, LockFile
path, cache, first = sys.argv[1:]
lock = LockFile(Path(path), Cache(Path(cache)))
for number in range(int(first), int(first) + 15):
    lock.record(LockedFile(f"https://example.org/{number}", "ab" * 32, number, "2025-03-01"))
"""


def test_two_processes_lose_nothing(lock: LockFile, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECORD, str(lock.path), str(tmp_path / "cache")]
    with subprocess.Popen([*command, "0"]) as first, subprocess.Popen([*command, "15"]) as second:
        assert (first.wait(), second.wait()) == (0, 0)
    assert sorted(seen.bytes for seen in lock.entries().values()) == list(range(30))
