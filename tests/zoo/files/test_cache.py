from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from zoo.errors import UsageError, ZooError
from zoo.files.cache import KINDS, TAG_NAME, Cache, default_root
from zoo.files.contents import describe, prune
from zoo.files.words import readable_size

DAY_S = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, kind: str, name: str, size: int, days_old: float = 0) -> Path:
    path = cache.folder(kind) / name / "file"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    used = time.time() - days_old * DAY_S
    os.utime(path, (used, used))
    return path


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "mine"))
    assert Cache().root == tmp_path / "mine"
    assert default_root({"ZOO_CACHE": "~/zoo"}) == Path.home() / "zoo"
    assert default_root({}).name == "zoo"
    assert default_root({"ZOO_CACHE": ""}) == default_root({})


def test_looking_makes_nothing(cache: Cache) -> None:
    description = describe(cache)
    assert (description.bytes, description.entries) == (0, ())
    assert str(cache.root) in str(description)
    assert not cache.root.exists()


def test_what_is_there_and_how_large(cache: Cache) -> None:
    put(cache, "downloads", "b", 2000)
    put(cache, "downloads", "a", 1000)
    put(cache, "datasets", "c", 500)
    (cache.root / "runs").mkdir()
    (cache.root / "runs" / "record.json").write_bytes(bytes(70))
    description = describe(cache)
    assert [(entry.kind, entry.name, entry.bytes) for entry in description.entries] == [
        ("downloads", "a", 1000),
        ("downloads", "b", 2000),
        ("datasets", "c", 500),
    ]
    as_json = description.to_json()
    assert {kind: value["bytes"] for kind, value in as_json["kinds"].items()} == {
        **dict.fromkeys(KINDS, 0),
        "downloads": 3000,
        "datasets": 500,
    }
    assert (as_json["bytes"], as_json["runs_bytes"]) == (3500, 70)
    assert "3.5 kB" in str(description)


def test_pruning_by_kind_and_age(cache: Cache) -> None:
    old = put(cache, "downloads", "old", 1000, days_old=40)
    new = put(cache, "downloads", "new", 2000)
    data = put(cache, "datasets", "old", 4000, days_old=40)
    run = cache.root / "runs" / "record.json"
    run.parent.mkdir()
    run.write_text("{}")

    planned = prune(cache, kinds=["downloads"], older_than_days=30, dry_run=True)
    assert ([entry.path for entry in planned.removed], planned.freed_bytes) == ([old.parent], 1000)
    assert "would remove downloads/old" in str(planned)
    assert old.exists()

    done = prune(cache, kinds=["downloads"], older_than_days=30)
    assert done.to_json()["freed_bytes"] == 1000
    assert (old.parent.exists(), new.exists(), data.exists()) == (False, True, True)

    assert prune(cache).freed_bytes == 6000
    assert (new.exists(), data.exists(), run.exists()) == (False, False, True)


def test_an_unknown_kind(cache: Cache) -> None:
    with pytest.raises(UsageError, match="no part 'download'; expected one of downloads, checkpoints"):
        prune(cache, kinds=["download"])
    with pytest.raises(ValueError, match="no part"):
        cache.folder("download")


def test_pruning_keeps_what_is_in_use(cache: Cache) -> None:
    path = put(cache, "checkpoints", "abc", 1000)
    unfinished = put(cache, "checkpoints", "abc.unfinished", 10)
    with cache.holding("checkpoints", "abc", "in use"):
        report = prune(cache)
        assert (report.removed, len(report.in_use)) == ((), 2)
        assert "kept checkpoints/abc: another process is using it" in str(report)
        assert path.exists()
        assert unfinished.exists()
    assert len(prune(cache).removed) == 2


def test_pruning_stays_inside(cache: Cache, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    put(cache, "datasets", "a", 10)
    (cache.folder("datasets") / "link").symlink_to(precious)
    # A part of the cache that is a link leads elsewhere, whatever is written there.
    (precious / TAG_NAME).write_text("")
    (cache.root / "fingerprints").symlink_to(precious)
    prune(cache)
    assert (precious / "file").read_text() == "mine"
    assert [path.name for path in cache.folder("datasets").iterdir()] == [TAG_NAME]


def test_folders_of_others_are_neither_used_nor_pruned(tmp_path: Path) -> None:
    mine = tmp_path / "datasets" / "cityscapes"
    mine.mkdir(parents=True)
    cache = Cache(tmp_path)
    with pytest.raises(UsageError, match="found one that holds other files; set ZOO_CACHE"):
        cache.folder("datasets")
    assert prune(cache).removed == ()
    assert mine.is_dir()


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    with pytest.raises(ZooError, match=r"^cannot write .*; set ZOO_CACHE.*$"):
        cache.folder("downloads")
    with (
        pytest.raises(ZooError, match=r"^cannot write .*; set ZOO_CACHE.*$"),
        cache.holding("downloads", "a", "in use"),
    ):
        pytest.fail("a lock in a file")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (9_696_695, "9.7 MB"),
        (11 * 10**9, "11.0 GB"),
        (3 * 10**15, "3000.0 TB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert readable_size(size) == words
