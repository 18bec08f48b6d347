from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ArchiveError, ZooError
from zoo.fetch.archive import find_checkpoint, unpack_into_cache
from zoo.fetch.unpack import Limits, unpack
from zoo.files.cache import Cache

DATA = random.Random(3).randbytes(50_000)
FILES = {"model/ckpt-60000.index": b"index", "model/ckpt-60000.data-00000-of-00001": DATA}


def tar_bytes(files: dict[str, bytes], *special: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        for info in special:
            tar.addfile(info)
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def write(folder: Path, body: bytes, name: str = "model.tar.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Unpacking:
    """Unpacks into a cache that holds nothing else."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache(folder / "cache")

    def __call__(self, archive: Path, **settings: Any) -> Any:
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        return unpack_into_cache(archive, sha256, "checkpoints", self.cache, **settings)

    def refuses(
        self, archive: Path, match: str, error: type[ZooError] = ArchiveError, **settings: Any
    ) -> None:
        with pytest.raises(error, match=match) as caught:
            self(archive, **settings)
        assert "\n" not in str(caught.value)
        assert str(archive) in str(caught.value)
        assert caught.value.exit_code == 3
        left = [path.name for path in (self.cache.root / "checkpoints").iterdir()]
        assert left == ["CACHEDIR.TAG"]


@pytest.fixture
def unpacking(tmp_path: Path) -> Unpacking:
    return Unpacking(tmp_path)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as container:
        for name, body in files.items():
            container.writestr(name, body)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["model.tar.gz", "model.tar", "model.zip", "model"])
def test_archives_of_each_kind(tmp_path: Path, unpacking: Unpacking, name: str) -> None:
    body = zipped(FILES) if name.endswith(".zip") else tar_bytes(FILES)
    unpacked = unpacking(write(tmp_path, body, name))
    assert tree(unpacked.folder) == FILES
    assert {file.path: (file.bytes, file.sha256) for file in unpacked.files} == {
        path: (len(body), hashlib.sha256(body).hexdigest()) for path, body in FILES.items()
    }
    assert find_checkpoint(unpacked.folder) == unpacked.folder / "model" / "ckpt-60000"


def test_nothing_is_unpacked_twice(tmp_path: Path, unpacking: Unpacking) -> None:
    archive = write(tmp_path, tar_bytes(FILES))
    first = unpacking(archive)
    index = first.folder / "model/ckpt-60000.index"
    before = index.stat()
    assert unpacking(archive) == first
    assert (index.stat().st_ino, index.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_archive_of_the_same_name_never_mixes_in(tmp_path: Path, unpacking: Unpacking) -> None:
    first = unpacking(write(tmp_path, tar_bytes(FILES)))
    second = unpacking(write(tmp_path, tar_bytes({"model/ckpt-1.index": b"other"})))
    assert tree(first.folder) == FILES
    assert tree(second.folder) == {"model/ckpt-1.index": b"other"}


@pytest.mark.parametrize("damage", ["shorter", "gone", "new", "manifest", "linked"])
def test_a_changed_folder_is_made_anew(tmp_path: Path, unpacking: Unpacking, damage: str) -> None:
    archive = write(tmp_path, tar_bytes(FILES))
    unpacked = unpacking(archive)
    index = unpacked.folder / "model/ckpt-60000.index"
    if damage == "shorter":
        index.write_bytes(b"inde")
    elif damage == "gone":
        index.unlink()
    elif damage == "new":
        (unpacked.folder / "model/ckpt-70000.index").write_bytes(b"mine")
    elif damage == "manifest":
        (unpacked.folder.parent / "manifest.json").write_text("{}")
    else:
        index.unlink()
        index.symlink_to("/etc/hostname")
    assert tree(unpacking(archive).folder) == FILES


def test_a_change_of_contents_is_found_by_reading(tmp_path: Path, unpacking: Unpacking) -> None:
    unpacked = unpacking(write(tmp_path, tar_bytes(FILES)))
    assert (unpacked.changed_size(), unpacked.changed_contents()) == (None, None)
    data = unpacked.folder / "model/ckpt-60000.data-00000-of-00001"
    data.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
    assert unpacked.changed_size() is None
    assert unpacked.changed_contents() == "model/ckpt-60000.data-00000-of-00001"
    unpacked.forget(unpacking.cache)
    assert not unpacked.folder.exists()
    assert unpacked.changed_contents() == "model/ckpt-60000.data-00000-of-00001"


def test_what_a_killed_process_left_is_removed(tmp_path: Path, unpacking: Unpacking) -> None:
    archive = write(tmp_path, tar_bytes(FILES))
    unpacked = unpacking(archive)
    home = unpacked.folder.parent
    home.rename(home.with_name(f"{home.name}.unfinished"))
    assert tree(unpacking(archive).folder) == FILES
    assert not home.with_name(f"{home.name}.unfinished").exists()


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_archive(tmp_path: Path, unpacking: Unpacking, share: float) -> None:
    archive = write(tmp_path, tar_bytes(FILES))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    unpacking.refuses(archive, "damaged or incomplete|expected a .tar.gz")


@pytest.mark.parametrize("blocks", [1, 2, 5, 50, 101])
def test_a_truncated_tar_inside_a_whole_gzip(tmp_path: Path, unpacking: Unpacking, blocks: int) -> None:
    whole = tar_bytes(FILES)
    # 101 blocks are all the contents: only the mark of the end is missing.
    assert whole[100 * 512 : 101 * 512].strip(b"\0")
    assert not whole[101 * 512 :].strip(b"\0")
    unpacking.refuses(write(tmp_path, whole[: blocks * 512]), "damaged or incomplete")


def test_a_damaged_header_is_not_the_end(tmp_path: Path, unpacking: Unpacking) -> None:
    body = bytearray(tar_bytes(FILES))
    body[1024 + 100] ^= 1
    unpacking.refuses(write(tmp_path, bytes(body), "model.tar"), "damaged or incomplete")


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_gzip_changes_contents(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    small = {"a.index": b"index" * 20, "a.data-00000-of-00001": DATA[:300]}
    body = bytearray(gzip.compress(tar_bytes(small), mtime=0))
    body[int(position * len(body))] ^= 1 << bit
    archive = folder / "model.tar.gz"
    archive.write_bytes(body)
    try:
        unpacked = Unpacking(folder)(archive)
    except ArchiveError:
        assert not [path for path in (folder / "cache/checkpoints").iterdir() if path.name != "CACHEDIR.TAG"]
    else:
        # Some bits of a gzip header mean nothing: a date, a system.
        assert tree(unpacked.folder) == small


UNSAFE = {
    "parent": [special("../outside", tarfile.DIRTYPE)],
    "inner parent": [special("model/../../outside", tarfile.REGTYPE)],
    "absolute": [special("/tmp/outside", tarfile.REGTYPE)],
    "windows drive": [special("C:/outside", tarfile.REGTYPE)],
    "backslash": [special("..\\outside", tarfile.REGTYPE)],
    "absolute link": [special("model/link", tarfile.SYMTYPE, "/etc/passwd")],
    "outside link": [special("model/link", tarfile.SYMTYPE, "../../outside")],
    "outside hard link": [special("model/link", tarfile.LNKTYPE, "../outside")],
    "absolute hard link": [special("model/link", tarfile.LNKTYPE, "/etc/passwd")],
}


@pytest.mark.parametrize("case", UNSAFE)
def test_paths_that_lead_outside(tmp_path: Path, unpacking: Unpacking, case: str) -> None:
    before = set(tmp_path.parent.rglob("*"))
    archive = write(tmp_path, tar_bytes(FILES, *UNSAFE[case]))
    unpacking.refuses(archive, "leads outside: .*; the archive is unsafe")
    outside = set(tmp_path.parent.rglob("*")) - before
    assert not [path for path in outside if path.name == "outside"]


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_and_pipes(tmp_path: Path, unpacking: Unpacking, kind: bytes) -> None:
    archive = write(tmp_path, tar_bytes(FILES, special("model/strange", kind)))
    unpacking.refuses(archive, "'model/strange' is a device or a pipe")


def test_a_folder_link_is_no_way_out(tmp_path: Path, unpacking: Unpacking) -> None:
    out = special("model/way", tarfile.SYMTYPE, "..")
    inside = tarfile.TarInfo("model/way/file")
    archive = write(tmp_path, tar_bytes({}, out, inside))
    unpacking.refuses(archive, "both a file and a folder|is not a file in it|twice")


def test_inside_links_become_copies(tmp_path: Path, unpacking: Unpacking) -> None:
    links = [
        special("model/again", tarfile.SYMTYPE, "ckpt-60000.index"),
        special("model/hard", tarfile.LNKTYPE, "model/ckpt-60000.index"),
        special("other/up", tarfile.SYMTYPE, "../model/again"),
    ]
    unpacked = unpacking(write(tmp_path, tar_bytes(FILES, *links)))
    copies = dict.fromkeys(("model/again", "model/hard", "other/up"), b"index")
    assert tree(unpacked.folder) == {**FILES, **copies}
    assert not [path for path in unpacked.folder.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("target", ["nothing", "link", "."])
def test_links_that_end_nowhere(tmp_path: Path, unpacking: Unpacking, target: str) -> None:
    archive = write(tmp_path, tar_bytes(FILES, special("link", tarfile.SYMTYPE, target)))
    unpacking.refuses(archive, "the link 'link' points to")


def test_two_members_of_one_name(tmp_path: Path, unpacking: Unpacking) -> None:
    unpacking.refuses(write(tmp_path, tar_bytes({"a": b"1", "./a": b"2"})), "holds 'a' twice")
    unpacking.refuses(write(tmp_path, tar_bytes({"a": b"1", "a/b": b"2"})), "both a file and a folder")
    unpacking.refuses(write(tmp_path, tar_bytes({"a/b": b"1", "a": b"2"})), "twice")


def test_bombs(tmp_path: Path, unpacking: Unpacking) -> None:
    bomb = write(tmp_path, tar_bytes({"zeros": bytes(3_000_000)}), "bomb.tar.gz")
    assert bomb.stat().st_size < 10_000
    small = Limits(ratio=100, ratio_free_bytes=1_000_000)
    unpacking.refuses(bomb, "unpack to more than the allowed 1.0 MB", limits=small)
    unpacking.refuses(bomb, "more than the allowed 2.0 MB", limits=Limits(total_bytes=2_000_000))

    header = special("long", tarfile.XHDTYPE)
    header.size = 3_000_000
    unpacking.refuses(
        write(tmp_path, header.tobuf() + bytes(3_000_000)), "more than the allowed 1.0 MB", limits=small
    )
    many = write(tmp_path, tar_bytes({f"file{number}": b"" for number in range(50)}))
    unpacking.refuses(many, "more than the allowed 49 members", limits=Limits(members=49))
    zip_bomb = write(tmp_path, zipped({"zeros": bytes(3_000_000)}), "bomb.zip")
    unpacking.refuses(zip_bomb, "more than the allowed 1.0 MB", limits=small)
    linked = [special(f"copy{number}", tarfile.LNKTYPE, "file") for number in range(30)]
    copies = write(tmp_path, tar_bytes({"file": DATA}, *linked))
    unpacking.refuses(copies, "more than the allowed 1.0 MB", limits=Limits(total_bytes=1_000_000))
    # A file of a terabyte in a kilobyte: its holes never pass the limits, which count what is read.
    holes = tarfile.TarInfo("holes")
    holes.pax_headers = {"GNU.sparse.size": "1000000000000", "GNU.sparse.map": "0,999999999999"}
    sparse = write(tmp_path, holes.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    unpacking.refuses(sparse, "'holes' is a sparse file; pack it without `--sparse`")
    assert unpacking(bomb).files[0].bytes == 3_000_000


def test_a_million_members(tmp_path: Path, unpacking: Unpacking) -> None:
    folders = tmp_path / "many.tar.gz"
    header = special("many", tarfile.DIRTYPE).tobuf()
    folders.write_bytes(gzip.compress(header * 10_000) * 100 + gzip.compress(bytes(1024)))
    unpacking.refuses(folders, "holds more than the allowed 20000 members; not a model's archive")
    # Of a .zip archive the list of members is known before anything is unpacked.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as container:
        container.writestr("many", "")
        # Each of these is written into the list alone.
        container.filelist *= 25_000
    listed = write(tmp_path, buffer.getvalue(), "many.zip")
    unpacking.refuses(listed, "holds more than the allowed 20000 members; not a model's archive")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "found an empty file"),
        (b"\n<!doctype html><html>", "found a web page"),
        (b"BZh91AY&SY", "found a file that starts with b'BZh91AY&'"),
    ],
)
def test_files_that_are_no_archive(tmp_path: Path, unpacking: Unpacking, body: bytes, found: str) -> None:
    unpacking.refuses(write(tmp_path, body, "model"), found)


def test_zip_members_that_are_not_files(tmp_path: Path, unpacking: Unpacking) -> None:
    for mode, what in ((0o120777, "is a link"), (0o010644, "is a device or a pipe")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as container:
            info = zipfile.ZipInfo("strange")
            info.external_attr = mode << 16
            container.writestr(info, "../../outside")
        unpacking.refuses(write(tmp_path, buffer.getvalue(), "model.zip"), what)
    unpacking.refuses(write(tmp_path, zipped({"../outside": b""}), "model.zip"), "leads outside")
    damaged = bytearray(zipped(FILES))
    damaged[len(damaged) // 2] ^= 1
    unpacking.refuses(write(tmp_path, bytes(damaged), "model.zip"), "damaged or incomplete")


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    archive = write(tmp_path, tar_bytes({"n" * 300: b""}))
    with pytest.raises(ZooError, match="cannot be unpacked") as caught:
        unpack(archive, tmp_path / "folder")
    # The archive is not to blame.
    assert not isinstance(caught.value, ArchiveError)
