"""Digests, and verification down to the tensors, with checkpoints that TensorFlow wrote."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ArchiveError, VerificationError
from zoo.fetch.download import DownloadOptions
from zoo.fetch.fetcher import Fetcher
from zoo.fetch.pin import LockFile
from zoo.fetch.verify import Digester, Expectation, declared_difference
from zoo.files.cache import Cache
from zoo.files.contents import entries, prune

DATA = "model/ckpt-7.data-00000-of-00001"
INDEX = "model/ckpt-7.index"
TENSORS = 3
"""Two variables, and the description of the objects that hold them."""

KERNEL = "encoder/kernel/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True)
class RemoteFile:
    url: str
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Entry:
    checkpoint: RemoteFile
    name: str = "city/model"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small checkpoint of the published form."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    encoder = tf.Module()
    encoder.kernel = tf.Variable(tf.reshape(tf.range(600.0), [20, 30]))
    encoder.bias = tf.Variable(tf.ones([30]))
    tf.train.Checkpoint(encoder=encoder).write(str(folder / "ckpt-7"))
    return {f"model/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return gzip.compress(buffer.getvalue(), mtime=0)


def flipped(files: dict[str, bytes], name: str, position: int) -> dict[str, bytes]:
    body = bytearray(files[name])
    body[position] ^= 1
    return {**files, name: bytes(body)}


def kernel_position(files: dict[str, bytes]) -> int:
    """Returns where the kernel lies in the data file."""
    import numpy as np

    return files[DATA].index(np.arange(600, dtype="<f4").tobytes())


class Home:
    """A user's machine: a cache and a lock file."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache(folder / "cache")
        self.lock = folder / "zoo.lock"
        options = DownloadOptions(attempts=2, sleep=lambda _: None)
        self.fetcher: Any = Fetcher(self.cache, self.lock, options)

    def fetch(self, url: str) -> Any:
        return self.fetcher.checkpoint(Entry(RemoteFile(url)))

    def verify(self, url: str, sha256: str | None = None, accept: bool = False) -> Any:
        return self.fetcher.verify(Entry(RemoteFile(url, sha256)), accept=accept)

    def refuses(self, url: str, match: str, **settings: Any) -> str:
        with pytest.raises(VerificationError, match=match) as caught:
            self.verify(url, **settings)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("city/model: ")
        return str(caught.value)

    def seen(self) -> dict[str, Any]:
        return LockFile(self.lock, self.cache).entries()

    def kept(self) -> list[str]:
        return [entry.kind for entry in entries(self.cache)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_good_checkpoint(server: Any, home: Home, files: dict[str, bytes]) -> None:
    archive = archive_of(files)
    url = server.put("/model.tar.gz", archive)
    report = home.verify(url)
    assert report.to_json() == {
        "entry": "city/model",
        "url": url,
        "archive": str(report.checkpoint.archive),
        "sha256": home.seen()[url].sha256,
        "bytes": len(archive),
        "expected_by": None,
        "first_seen": home.seen()[url].first_seen,
        "checkpoint": str(report.checkpoint.path),
        "files": 2,
        "tensors": TENSORS,
        "tensor_bytes": report.tensor_bytes,
    }
    assert report.tensor_bytes > 630 * 4
    assert "first seen" in str(report)
    again = home.verify(url)
    assert again.checkpoint.expected_by.startswith(str(home.lock))
    assert len(server.requests) == 1
    pinned = home.verify(url, sha256=report.checkpoint.sha256)
    assert (pinned.checkpoint.expected_by, pinned.checkpoint.first_seen) == ("the registry", None)


def test_a_flipped_bit_in_a_published_tensor(server: Any, home: Home, files: dict[str, bytes]) -> None:
    position = kernel_position(files)
    for place in (position, position + 1201, position + 2399):
        url = server.put("/model.tar.gz", archive_of(flipped(files, DATA, place)))
        assert f"tensor '{KERNEL}' is damaged: " in home.refuses(url, "damaged")
        assert (home.kept(), home.seen()) == ([], {})


def test_a_flipped_bit_in_the_list_of_tensors(server: Any, home: Home, files: dict[str, bytes]) -> None:
    refused = 0
    places = range(0, len(files[INDEX]), 7)
    for place in places:
        url = server.put("/model.tar.gz", archive_of(flipped(files, INDEX, place)))
        try:
            report = home.verify(url)
        except (VerificationError, ArchiveError):
            assert (home.kept(), home.seen()) == ([], {})
            refused += 1
        else:
            # A bit that TensorFlow does not need: all tensors were read, and had their checksums.
            assert report.tensors == TENSORS
            prune(home.cache)
            home.lock.unlink()
    # Only the index's index and the padding at its end have no checksum that is looked at.
    assert refused > len(places) / 2


def test_a_flipped_bit_in_the_unpacked_copy(server: Any, home: Home, files: dict[str, bytes]) -> None:
    url = server.put("/model.tar.gz", archive_of(files))
    found = home.fetch(url)
    (found.unpacked.folder / DATA).write_bytes(flipped(files, DATA, kernel_position(files))[DATA])
    message = home.refuses(url, "the unpacked copy was removed, `zoo fetch city/model` makes it again")
    assert KERNEL in message
    assert DATA in message
    assert home.kept() == ["downloads"]
    assert home.verify(url).tensors == TENSORS
    assert len(server.requests) == 1


def test_a_change_outside_the_tensors(server: Any, home: Home, files: dict[str, bytes]) -> None:
    url = server.put("/model.tar.gz", archive_of({**files, "model/readme": b"mine"}))
    found = home.fetch(url)
    (found.unpacked.folder / "model/readme").write_bytes(b"your")
    home.refuses(url, "its digest differs; model/readme was changed on disk")
    assert len(home.verify(url).checkpoint.unpacked.files) == 3


def test_a_flipped_bit_in_the_archive_on_disk(server: Any, home: Home, files: dict[str, bytes]) -> None:
    import os

    url = server.put("/model.tar.gz", archive_of(files))
    found = home.fetch(url)
    status = found.archive.stat()
    body = bytearray(found.archive.read_bytes())
    body[len(body) // 2] ^= 1
    found.archive.write_bytes(body)
    os.utime(found.archive, ns=(status.st_atime_ns, status.st_mtime_ns))
    message = home.refuses(url, "was changed on disk: expected")
    assert found.sha256 in message
    assert "`zoo fetch city/model` fetches it again" in message
    assert home.kept() == ["checkpoints"]
    assert home.fetch(url) == found


def test_accepting_a_changed_file(server: Any, home: Home, files: dict[str, bytes]) -> None:
    url = server.put("/model.tar.gz", archive_of(files))
    home.verify(url)
    old = home.seen()[url]
    changed = archive_of({**files, "model/readme": b"changed"})
    server.put("/model.tar.gz", changed, etag='"v2"')
    assert home.verify(url).checkpoint.bytes == old.bytes
    report = home.verify(url, accept=True)
    assert report.checkpoint.bytes == len(changed)
    assert home.seen()[url].sha256 == report.checkpoint.sha256 != old.sha256
    assert home.verify(url).checkpoint.sha256 == report.checkpoint.sha256


def test_damage_is_never_accepted(server: Any, home: Home, files: dict[str, bytes]) -> None:
    url = server.put("/model.tar.gz", archive_of(files))
    home.verify(url)
    before = home.seen()
    server.put("/model.tar.gz", archive_of(flipped(files, DATA, kernel_position(files))), etag='"v2"')
    home.refuses(url, "is damaged", accept=True)
    assert home.seen() == before


def test_the_bundled_checkpoint(home: Home) -> None:
    report = home.verify("package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz")
    assert (report.checkpoint.bytes, len(report.checkpoint.unpacked.files)) == (9_696_695, 2)
    assert report.checkpoint.sha256 == "1e2df671184ff941101d8d01dda72fec70ec6142f7a1b98720fed15613fe7b91"
    assert report.tensors == 364


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
