from __future__ import annotations

import gzip
import hashlib
import io
import random
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ArchiveError, DownloadError, VerificationError, ZooError
from zoo.fetch.download import DownloadOptions
from zoo.fetch.fetcher import Fetcher
from zoo.fetch.pin import LockFile
from zoo.files.cache import Cache
from zoo.files.contents import entries, prune

DATA = random.Random(4).randbytes(30_000)
FILES = {"model/ckpt-60000.index": b"index", "model/ckpt-60000.data-00000-of-00001": DATA}


@dataclass(frozen=True)
class RemoteFile:
    url: str
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Entry:
    checkpoint: RemoteFile
    saved_model: RemoteFile | None = None
    name: str = "city/model"


@dataclass(frozen=True)
class Dataset:
    archive: RemoteFile | None
    name: str = "city"


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return gzip.compress(buffer.getvalue(), mtime=0)


ARCHIVE = archive_of(FILES)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
CHANGED = archive_of({**FILES, "model/readme": b"changed"})


@dataclass
class Home:
    """A user's machine: a cache, a lock file, and no patience."""

    folder: Path
    options: DownloadOptions = field(
        default_factory=lambda: DownloadOptions(attempts=2, sleep=lambda _: None)
    )

    def __post_init__(self) -> None:
        self.cache = Cache(self.folder / "cache")
        self.lock = self.folder / "zoo.lock"

    @property
    def fetcher(self) -> Any:
        return Fetcher(self.cache, self.lock, self.options)

    def checkpoint(self, remote: RemoteFile) -> Any:
        return self.fetcher.checkpoint(Entry(remote))

    def seen(self) -> dict[str, Any]:
        return LockFile(self.lock, self.cache).entries()

    def kept(self) -> list[str]:
        """Returns what the cache holds, as kind/name."""
        return [f"{entry.kind}/{entry.name}" for entry in entries(self.cache)]

    def refuses(self, remote: RemoteFile, error: type[ZooError], match: str) -> str:
        with pytest.raises(error, match=match) as caught:
            self.checkpoint(remote)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 3
        return str(caught.value)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_from_the_web_to_a_checkpoint_on_disk(server: Any, home: Home) -> None:
    url = server.put("/model.tar.gz", ARCHIVE, headers=[("x-goog-hash", server.goog_hash(ARCHIVE))])
    found = home.checkpoint(RemoteFile(url))
    assert (found.url, found.sha256, found.bytes) == (url, SHA256, len(ARCHIVE))
    assert found.archive.read_bytes() == ARCHIVE
    assert found.path == found.unpacked.folder / "model" / "ckpt-60000"
    assert found.path.with_name("ckpt-60000.data-00000-of-00001").read_bytes() == DATA
    seen = home.seen()[url]
    assert (seen.sha256, seen.bytes, seen.etag) == (SHA256, len(ARCHIVE), '"v1"')
    assert f"crc32c={seen.crc32c},md5={seen.md5}" == server.goog_hash(ARCHIVE)
    assert home.checkpoint(RemoteFile(url)) == found
    assert len(server.requests) == 1


def test_objects_of_a_public_bucket(server: Any, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint.removeprefix("http://"))
    server.put("/bucket/a%20folder/model.tar.gz", ARCHIVE)
    found = home.checkpoint(RemoteFile("gs://bucket/a folder/model.tar.gz"))
    assert found.sha256 == SHA256
    assert list(home.seen()) == ["gs://bucket/a folder/model.tar.gz"]
    assert server.requests[0][1]["Accept-Encoding"] == "gzip"


def test_local_files_are_read_where_they_are(home: Home) -> None:
    path = home.folder / "my model.tar.gz"
    path.write_bytes(ARCHIVE)
    url = path.as_uri()
    found = home.checkpoint(RemoteFile(url))
    assert (found.archive, found.sha256) == (path, SHA256)
    assert [kept.split("/")[0] for kept in home.kept()] == ["checkpoints"]
    assert home.seen()[url].sha256 == SHA256
    home.refuses(RemoteFile((home.folder / "gone.tar.gz").as_uri()), DownloadError, "found nothing")
    home.refuses(RemoteFile(home.folder.as_uri()), DownloadError, "found a folder")


def test_files_of_the_package_need_no_lock(home: Home) -> None:
    remote = RemoteFile("package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz")
    found = home.checkpoint(remote)
    assert found.path.name == "ckpt-2600"
    assert found.archive.name == "minicity_mobilenet_v3_small_os16.tar.gz"
    assert not home.lock.exists()
    home.refuses(RemoteFile("package://zoo/assets/gone.tar.gz"), DownloadError, "holds no such file")
    home.refuses(RemoteFile("package://no_such_package/gone.tar.gz"), DownloadError, "holds no such file")
    home.refuses(RemoteFile(remote.url, sha256=SHA256), VerificationError, f"expected sha256 {SHA256}, found")


def test_a_package_inside_a_zip(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    library = home.folder / "library.zip"
    with zipfile.ZipFile(library, "w") as container:
        container.writestr("packed_models/__init__.py", "")
        container.writestr("packed_models/model.tar.gz", ARCHIVE)
    monkeypatch.syspath_prepend(str(library))
    found = home.checkpoint(RemoteFile("package://packed_models/model.tar.gz", sha256=SHA256))
    assert found.archive.read_bytes() == ARCHIVE
    assert found.path.name == "ckpt-60000"
    sys.modules.pop("packed_models", None)


def test_pinned_files_need_no_lock(server: Any, home: Home) -> None:
    url = server.put("/model.tar.gz", ARCHIVE)
    home.checkpoint(RemoteFile(url, SHA256, len(ARCHIVE)))
    assert not home.lock.exists()


def test_a_wrong_pin(server: Any, home: Home) -> None:
    url = server.put("/model.tar.gz", ARCHIVE)
    message = home.refuses(RemoteFile(url, "0" * 64), VerificationError, "expected by the registry")
    assert f"expected sha256 {'0' * 64}, found {SHA256}" in message
    assert home.kept() == []


def test_a_file_that_changed_since_first_sight(server: Any, home: Home, tmp_path: Path) -> None:
    url = server.put("/model.tar.gz", ARCHIVE)
    home.checkpoint(RemoteFile(url))
    server.put("/model.tar.gz", CHANGED)
    home.checkpoint(RemoteFile(url))

    prune(home.cache)
    message = home.refuses(RemoteFile(url), VerificationError, "the file has changed")
    assert f"expected {len(ARCHIVE)} bytes, found {len(CHANGED)}" in message
    assert f"expected sha256 {SHA256}, found {hashlib.sha256(CHANGED).hexdigest()}" in message
    assert f"{home.lock}, first seen 20" in message
    assert "`zoo verify --accept city/model`" in message
    assert home.kept() == []

    lines = home.lock.read_text().splitlines(keepends=True)
    home.lock.write_text("".join(line for line in lines if url not in line))
    assert home.checkpoint(RemoteFile(url)).bytes == len(CHANGED)
    assert home.seen()[url].bytes == len(CHANGED)


def test_a_local_file_that_changed_since_first_sight(home: Home) -> None:
    path = home.folder / "model.tar.gz"
    path.write_bytes(ARCHIVE)
    home.checkpoint(RemoteFile(path.as_uri()))
    path.write_bytes(CHANGED)
    home.refuses(RemoteFile(path.as_uri()), VerificationError, "the file has changed")
    assert path.read_bytes() == CHANGED


def test_a_lock_file_that_came_with_the_project(server: Any, home: Home) -> None:
    url = server.put("/model.tar.gz", ARCHIVE)
    home.checkpoint(RemoteFile(url))
    other = Home(home.folder / "another machine")
    other.lock = home.lock
    server.put("/model.tar.gz", CHANGED)
    other.refuses(RemoteFile(url), VerificationError, "the file has changed")


BAD = {
    "truncated": (ARCHIVE[:-200], "damaged or incomplete"),
    "parent path": (archive_of({**FILES, "../outside": b""}), "leads outside"),
    "no checkpoint": (archive_of({"model/saved_model.pb": b""}), "expected one checkpoint"),
    "two checkpoints": (archive_of({**FILES, "model/ckpt-1.index": b""}), "found 2"),
    "shard missing": (archive_of({"model/ckpt-60000.index": b""}), "incomplete"),
    "web page": (b"<html>sign in</html>", "found a web page"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_archives_leave_nothing_behind(server: Any, home: Home, case: str) -> None:
    body, match = BAD[case]
    url = server.put("/model.tar.gz", body)
    assert home.refuses(RemoteFile(url), ArchiveError, match).startswith("city/model: ")
    assert (home.kept(), home.seen()) == ([], {})
    assert not list(home.folder.rglob("outside"))

    server.put("/model.tar.gz", ARCHIVE)
    assert home.checkpoint(RemoteFile(url)).sha256 == SHA256


def test_a_server_that_declares_too_little_leaves_nothing_behind(server: Any, home: Home) -> None:
    url = server.put("/model.tar.gz", ARCHIVE, always=server.whole(declared=len(ARCHIVE) - 9))
    home.refuses(RemoteFile(url), ArchiveError, "damaged or incomplete")
    assert (home.kept(), home.seen()) == ([], {})


def test_bad_local_archives_are_left_to_their_owner(home: Home) -> None:
    path = home.folder / "model.tar.gz"
    path.write_bytes(ARCHIVE[:-200])
    home.refuses(RemoteFile(path.as_uri()), ArchiveError, "damaged or incomplete")
    assert path.exists()
    assert home.kept() == []


def test_servers_that_fail_leave_nothing_behind(server: Any, home: Home) -> None:
    url = server.put("/model.tar.gz", ARCHIVE, always=server.answer(404))
    home.refuses(RemoteFile(url), DownloadError, "404 Not Found")
    server.put("/model.tar.gz", ARCHIVE, server.answer(503))
    assert home.checkpoint(RemoteFile(url)).sha256 == SHA256


def test_a_changed_unpacked_copy_is_made_anew(server: Any, home: Home) -> None:
    url = server.put("/model.tar.gz", ARCHIVE)
    found = home.checkpoint(RemoteFile(url))
    found.path.with_name("ckpt-60000.index").unlink()
    (found.unpacked.folder / "model" / "ckpt-1.index").write_bytes(b"")
    assert home.checkpoint(RemoteFile(url)) == found
    assert found.path.with_name("ckpt-60000.index").read_bytes() == b"index"
    assert len(server.requests) == 1


def test_data_sets(server: Any, home: Home) -> None:
    url = server.put("/city.tar.gz", archive_of({"city/gtFine/a.png": b"1", "city/leftImg8bit/a.png": b"2"}))
    folder = home.fetcher.dataset(Dataset(RemoteFile(url)))
    assert sorted(path.name for path in folder.iterdir()) == ["gtFine", "leftImg8bit"]
    assert folder.name == "city"
    empty = server.put("/empty.tar.gz", archive_of({}))
    with pytest.raises(ArchiveError, match="holds no files"):
        home.fetcher.dataset(Dataset(RemoteFile(empty)))
    assert (len(home.kept()), list(home.seen())) == (2, [url])
    with pytest.raises(ArchiveError, match="give the folder with --data"):
        home.fetcher.dataset(Dataset(None))


def test_saved_models(server: Any, home: Home) -> None:
    good = server.put(
        "/good.tar.gz", archive_of({"name/saved_model.pb": b"1", "name/variables/x.index": b""})
    )
    checkpoint = RemoteFile(server.endpoint + "/none")
    entry: Any = Entry(checkpoint, RemoteFile(good))
    assert home.fetcher.saved_model(entry).name == "name"
    bad: Any = Entry(checkpoint, RemoteFile(server.put("/bad.tar.gz", ARCHIVE)))
    with pytest.raises(ArchiveError, match="expected one SavedModel"):
        home.fetcher.saved_model(bad)
    none: Any = Entry(checkpoint)
    with pytest.raises(ArchiveError, match="no SavedModel of this entry was published"):
        home.fetcher.saved_model(none)


def test_names_of_downloads_are_safe(server: Any, home: Home) -> None:
    url = server.put("/..%2F..%2Fevil.tar.gz?x=/../../y", ARCHIVE)
    found = home.checkpoint(RemoteFile(url))
    assert found.archive.parent.parent == home.cache.root / "downloads"
    assert found.archive.parent.name.startswith("_2F.._2Fevil-")
