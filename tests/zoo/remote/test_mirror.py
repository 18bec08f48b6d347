"""A folder of a store is listed once, and its files are fetched once, whole and checked, or not at all."""

from __future__ import annotations

import errno
import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo.errors import DataError, DownloadError, UsageError
from zoo.remote import mirror, stores
from zoo.remote.path import RemotePath, path_at
from zoo.remote.stores import NoListingError

At = Callable[..., RemotePath]
CITY = "leftImg8bit/val/frankfurt"
FIRST = f"{CITY}/frankfurt_000000_000019_leftImg8bit.png"


@pytest.fixture(params=["web", "s3"])
def sets(request: pytest.FixtureRequest) -> str:
    """The URL of the folder with the data sets, on each kind of store."""
    found = request.getfixturevalue(request.param)
    return found if isinstance(found, str) else found.url


def parts_left(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("objects/*/.*") if path.is_file()]


def test_a_store_is_read_like_a_folder(sets: str, at: At, data: Path) -> None:
    there, here = at(f"{sets}/minicity"), data / "minicity"
    for pattern in ("*/*/*", "gtFine/val/*/*_instanceIds.png", "nothing*"):
        found = {path.relative_to(there).as_posix() for path in there.glob(pattern)}
        assert found == {path.relative_to(here).as_posix() for path in here.glob(pattern)}
    assert {path.name for path in there.iterdir()} == {path.name for path in here.iterdir()}
    for name in (FIRST, CITY, "leftImg8bit", "no/such", f"{FIRST}x", FIRST.replace(".png", "")):
        found, expected = there / name, here / name
        assert found.is_file() == expected.is_file()
        assert found.is_dir() == expected.is_dir()
        assert (found.exists(), found.name, found.suffix) == (
            expected.exists(),
            expected.name,
            expected.suffix,
        )
    assert (there / FIRST).read_bytes() == (here / FIRST).read_bytes()
    assert str((there / FIRST).parent) == f"{sets}/minicity/{CITY}"
    with pytest.raises(DataError, match="is not there"):
        (there / "no/such.png").read_bytes()


def test_a_pickled_path_opens_the_same_file(sets: str, at: At, data: Path) -> None:
    path = at(f"{sets}/minicity") / FIRST
    assert pickle.loads(pickle.dumps(path)).read_bytes() == (data / "minicity" / FIRST).read_bytes()


def test_digests_are_those_of_the_files_and_each_is_fetched_once(web: Any, at: At, data: Path) -> None:
    names = [f"{CITY}/{path.name}" for path in (data / "minicity" / CITY).iterdir()]
    expected = {name: (data / "minicity" / name).read_bytes() for name in names}
    digests = {name: (len(each), hashlib.sha256(each).hexdigest()) for name, each in expected.items()}
    for _ in range(2):
        root = at(f"{web.url}/minicity")
        assert root.digests(names) == digests
        assert {name: (root / name).read_bytes() for name in names} == expected
    files = [path for path in web.asked() if path.endswith(".png")]
    assert len(files) == len(set(files)) == len(names)
    assert web.asked().count(f"/minicity/{CITY}/") == 1


@pytest.mark.parametrize(
    ("make", "error", "line"),
    [
        (lambda fault: fault.refuse(403), DownloadError, "the server answered 403 Forbidden; check"),
        (lambda fault: fault.refuse(404), DataError, "the server answered 404 .*; the file is not there"),
        (lambda fault: fault.refuse(503), DownloadError, "answered 503 .*, 4 times in a row; try again"),
        (lambda fault: fault.cut_short, DownloadError, "connection closed|declares 5000 bytes and sent 15"),
        (lambda fault: fault.hang, DownloadError, "did not answer in time, 4 times in a row"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(
    make: Callable[[SimpleNamespace], Any],
    error: type[Exception],
    line: str,
    web: Any,
    at: At,
    fault: SimpleNamespace,
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "TIMEOUTS_S", (0.3, 0.3))
    root = at(f"{web.url}/minicity")
    web.faults[FIRST] = make(fault)
    with pytest.raises(error, match=f"^{web.url}/minicity/{FIRST}: .*({line})") as raised:
        (root / FIRST).read_bytes()
    assert "\n" not in str(raised.value)
    assert parts_left(tmp_path) == []
    del web.faults[FIRST]
    assert (root / FIRST).read_bytes() == (data / "minicity" / FIRST).read_bytes()


def test_a_server_that_is_gone_is_one_line(at: At, web_of: Callable[[Path], Any], data: Path) -> None:
    root = at("http://127.0.0.1:9/minicity")
    with pytest.raises(DownloadError, match="connection refused, 4 times in a row; try again later"):
        list(root.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(
    web: Any, at: At, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Path.open

    def full(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        stream = usual(path, mode, *more, **options)
        if mode != "r+b":
            return stream

        def write(chunk: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        return _Full(stream, write)

    path = at(f"{web.url}/minicity") / FIRST
    path.is_file()
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(Exception, match="the disk is full; free space and call again"):
        path.read_bytes()
    monkeypatch.undo()
    assert parts_left(tmp_path) == []


class _Full:
    """A file on a disk that is full."""

    def __init__(self, stream: Any, write: Callable[[bytes], None]) -> None:
        self._stream, self.write = stream, write

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()


def test_faults_of_buckets_are_one_line(s3: str, at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with pytest.raises(DataError, match=r"s3://none/x: there is no such bucket; check its name"):
        list(at("s3://none/x").iterdir())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DownloadError, match=r"no credentials were found; set them"):
        list(at(f"{s3}/minicity").iterdir())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DownloadError, match=r"could not connect .* 4 times in a row"):
        list(at(f"{s3}/minicity").iterdir())


def test_a_kind_of_url_that_nothing_reads_is_one_line(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"expected the extra that reads gs://.*panoptic-zoo\[gcs\]"):
        list(at("gs://bucket/data").iterdir())
    with pytest.raises(UsageError, match="expected a path, https://, s3:// or gs://"):
        list(at("nothing://bucket/data").iterdir())
    with pytest.raises(UsageError, match="20 bananas: expected a size"):
        path_at("s3://bucket/data", "20 bananas")


def test_a_file_that_changed_since_it_was_listed_is_said(
    s3_endpoint: str, s3: str, at: At, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    client = boto3.client("s3")
    put = lambda name, body: client.put_object(Bucket="data", Key=f"changing/{name}", Body=body)  # noqa: E731
    for name in ("a", "b", "c"):
        put(name, b"old")
    root = at("s3://data/changing")
    assert (root / "a").read_bytes() == b"old"
    # Under way: what was listed is not what comes.
    put("b", b"new and longer")
    with pytest.raises(
        DataError, match=r"changing/b: has changed in the store since it was listed: expected 3"
    ):
        (root / "b").read_bytes()
    # A later process looks at the first and the last name, and lists again where one differs.
    assert (at("s3://data/changing") / "b").read_bytes() == b"new and longer"
    put("a", b"newer")
    monkeypatch.setattr(mirror, "_FRESH_S", -1.0)
    root = at("s3://data/changing")
    assert [(root / name).read_bytes() for name in ("a", "b")] == [b"newer", b"new and longer"]
    assert "a has changed since the folder was listed on" in capfd.readouterr().err
    client.close()


def test_a_web_file_that_changed_is_fetched_again(
    at: At, web_of: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"old")
    url = f"{web_of(folder).url}/"
    assert (at(url.rstrip("/")) / "a.png").read_bytes() == b"old"
    (folder / "a.png").write_bytes(b"newer")
    monkeypatch.setattr(mirror, "_FRESH_S", -1.0)
    assert (at(url.rstrip("/")) / "a.png").read_bytes() == b"newer"


def test_a_list_of_digests_takes_the_place_of_a_listing_and_is_checked(
    at: At, web_of: Callable[[Path], Any], data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    shutil.copytree(data / "minicity", folder)
    web = web_of(folder)
    web.lists = False
    with pytest.raises(NoListingError, match=r"lists no files \(it answered 403 Forbidden\).* as SHA256SUMS"):
        list((at(web.url) / CITY).iterdir())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder).as_posix()}\n"
        for path in files
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    root = at(web.url, cache="another")
    assert {path.name for path in (root / CITY).iterdir()} == {
        path.name for path in (folder / CITY).iterdir()
    }
    web.requests.clear()
    names = [path.relative_to(folder).as_posix() for path in files]
    assert root.digests(names)[FIRST] == ((folder / FIRST).stat().st_size, lines[names.index(FIRST)][:64])
    assert web.asked() == []  # their lengths were asked for, and nothing was fetched
    (folder / FIRST).write_bytes(b"something else")
    with pytest.raises(DataError, match=r"has changed|expected sha256"):
        (root / FIRST).read_bytes()
