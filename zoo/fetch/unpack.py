"""Unpacks archives safely: whole or not at all, and nothing outside their folder."""

from __future__ import annotations

import gzip
import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from zoo.errors import ArchiveError, ZooError
from zoo.files.words import readable_size

READ_BYTES = 1 << 20
UNSAFE = "the archive is unsafe: do not use it"
TAR_BLOCK_BYTES = 512

CORRUPT = (
    *(EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile),
    *(ValueError, NotImplementedError, RecursionError),
)
"""What the readers of the standard library raise on damaged or unusual archives."""


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to."""

    total_bytes: int = 64 * 10**9
    members: int = 500_000  # files and folders
    member_bytes: int = 256  # packed length for each member, on average
    free_members: int = 20_000  # below which they may be of any length
    ratio: int = 250  # unpacked to packed length
    ratio_free_bytes: int = 64 * 10**6  # below which any ratio is allowed


@dataclass(frozen=True)
class UnpackedFile:
    """One unpacked file: its path in the archive (with `/`), its length and SHA-256."""

    path: str
    bytes: int
    sha256: str


def unpack(archive: Path, folder: Path, limits: Limits = Limits()) -> list[UnpackedFile]:
    """Unpacks a `.tar.gz`, `.tar` or `.zip` archive, told by its first bytes; returns its files by path.

    Only regular files and folders are ever made: a link inside the archive becomes a copy of its target.
    Refused are absolute paths, `..`, links that leave the folder, devices and pipes, sparse files, two
    members of one name, and archives beyond the limits. Every checksum that the format has is checked to its
    end. The filters of `tarfile` are laxer: they strip a leading `/`, keep `\\`, and make links. The folder
    must be empty; after an error, discard what was unpacked until then.

    Raises:
      ArchiveError: the archive is damaged, unsafe, or of another kind.
      ZooError: the folder cannot be written.
    """
    try:
        with archive.open("rb") as raw:
            return _Unpacking(archive, folder, limits).run(raw)
    except CORRUPT as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(
            f"{archive}: the archive is damaged or incomplete: {reason}; fetch it again"
        ) from error
    except OSError as error:
        raise ZooError(f"{archive}: cannot be unpacked into {folder}: {error.strerror or error}") from error


def copy_and_digest(stream: IO[bytes], output: IO[bytes] | None = None) -> tuple[int, str]:
    """Reads a stream to its end, copies it if an output is given, and returns its length and SHA-256."""
    digest = hashlib.sha256()
    size = 0
    while chunk := stream.read(READ_BYTES):
        if output is not None:
            output.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


class _Unpacking:
    """Writes one archive's members; counts what comes out, headers included, and stops at the limits."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self._archive = archive
        self._folder = folder
        self._limits = limits
        self._files: dict[str, UnpackedFile] = {}
        self._links: dict[str, str] = {}
        self._packed_bytes = archive.stat().st_size
        by_length = max(self._packed_bytes // limits.member_bytes, limits.free_members)
        self._most_members = min(limits.members, by_length)
        self._bytes = self._members = 0

    def run(self, raw: BinaryIO) -> list[UnpackedFile]:
        """Returns the files of an archive, unpacked."""
        start = raw.read(TAR_BLOCK_BYTES)
        raw.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                self._tar(_Counted(cast("IO[bytes]", stream), self))
        elif start[257:262] == b"ustar":
            self._tar(_Counted(raw, self))
        elif start[:2] == b"PK":
            self._zip(raw)
        else:
            kind = "a web page" if start.lstrip()[:1] == b"<" else f"a file that starts with {start[:8]!r}"
            raise self._refused(
                f"expected a .tar.gz, .tar or .zip archive, found {kind if start else 'an empty file'}; "
                "check what the registry names"
            )
        self._copy_links()
        return [self._files[name] for name in sorted(self._files)]

    def spend(self, count_bytes: int) -> None:
        """Takes in that so many bytes came out; raises an `ArchiveError` if they are too many."""
        self._bytes += count_bytes
        by_ratio = max(self._packed_bytes * self._limits.ratio, self._limits.ratio_free_bytes)
        most_bytes = min(self._limits.total_bytes, by_ratio)
        if self._bytes > most_bytes:
            raise self._refused(
                f"{readable_size(self._packed_bytes)} unpack to more than the allowed "
                f"{readable_size(most_bytes)}; not a model's archive"
            )

    def _refused(self, reason: str) -> ArchiveError:
        return ArchiveError(f"{self._archive}: {reason}")

    def _tar(self, counted: _Counted) -> None:
        with tarfile.open(fileobj=counted, mode="r|", errorlevel=2) as tar:  # type: ignore[call-overload]
            for member in tar:
                # It would keep all that has passed: half a gigabyte for a million members.
                tar.members.clear()
                self._count(1)
                name = self._inside(member.name, member.name, "path")
                if member.issparse():
                    # Its holes are not in the archive, so no limit would see them.
                    raise self._refused(f"{member.name!r} is a sparse file; pack it without `--sparse`")
                if member.isdir():
                    self._make_folder(name)
                elif member.isreg():
                    with cast("IO[bytes]", tar.extractfile(member)) as stream:
                        self._write(self._new(name, member.name), stream)
                elif member.islnk() or member.issym():
                    target = member.linkname
                    if member.issym() and not target.startswith("/"):
                        target = f"{member.name.rpartition('/')[0]}/{target}".lstrip("/")
                    self._links[self._new(name, member.name)] = self._inside(target, member.name, "link")
                else:
                    raise self._refused(f"{member.name!r} is a device or a pipe; {UNSAFE}")
            end = tar.offset
        counted.drain()
        # A damaged header looks like the end to the reader; the true end is empty blocks and nothing else.
        if counted.position < end + TAR_BLOCK_BYTES or counted.contents_end > end:
            raise tarfile.ReadError(f"no mark of the end after {end} bytes")

    def _zip(self, raw: BinaryIO) -> None:
        with zipfile.ZipFile(raw) as container:
            self._count(len(container.infolist()))
            for info in container.infolist():
                mode = stat.S_IFMT(info.external_attr >> 16)
                name = self._inside(info.filename, info.filename, "path")
                if info.is_dir():
                    self._make_folder(name)
                elif info.flag_bits & 1:
                    raise self._refused(f"{info.filename!r} is encrypted; unpack it by hand")
                elif mode == stat.S_IFLNK:
                    raise self._refused(
                        f"{info.filename!r} is a link in a .zip archive; make it a .tar.gz archive"
                    )
                elif mode not in (0, stat.S_IFREG):
                    raise self._refused(f"{info.filename!r} is a device or a pipe; {UNSAFE}")
                else:
                    with container.open(info) as stream:
                        self._write(self._new(name, info.filename), cast("IO[bytes]", _Counted(stream, self)))

    def _count(self, members: int) -> None:
        self._members += members
        if self._members > self._most_members:
            raise self._refused(
                f"holds more than the allowed {self._most_members} members; not a model's archive"
            )

    def _new(self, name: str, path: str) -> str:
        if not name:
            raise self._refused(f"holds a file without a name: {path!r}; {UNSAFE}")
        if name in self._files or name in self._links:
            raise self._refused(f"holds {name!r} twice; {UNSAFE}")
        return name

    def _inside(self, path: str, member: str, what: str) -> str:
        """Returns a path of the archive without `.` parts, or refuses one that leads out of the folder."""
        unsafe = path.startswith("/") or "\\" in path or "\0" in path or bool(re.match(r"[A-Za-z]:", path))
        parts: list[str] = []
        for part in path.split("/"):
            if unsafe or (part == ".." and (what == "path" or not parts)):
                raise self._refused(f"{member!r} has a {what} that leads outside: {path!r}; {UNSAFE}")
            if part == "..":
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)

    def _make_folder(self, name: str, of: str = "") -> None:
        try:
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._refused(f"{of or name!r} is both a file and a folder in it") from error

    def _write(self, name: str, stream: IO[bytes]) -> None:
        self._make_folder(name.rpartition("/")[0], name)
        try:
            # Where the disk ignores case, names that differ in case alone are two of one name.
            output = (self._folder / name).open("xb")
        except (FileExistsError, IsADirectoryError) as error:
            raise self._refused(f"holds {name!r} twice; {UNSAFE}") from error
        with output:
            self._files[name] = UnpackedFile(name, *copy_and_digest(stream, output))

    def _copy_links(self) -> None:
        for name, target in self._links.items():
            # Links to links are followed by name alone; a cycle is refused like any other dead end.
            seen = {name}
            while target in self._links and target not in seen:
                seen.add(target)
                target = self._links[target]
            if target not in self._files:
                raise self._refused(f"the link {name!r} points to {target!r}, which is not a file in it")
            self.spend(self._files[target].bytes)
            with (self._folder / target).open("rb") as stream:
                self._write(name, stream)


class _Counted:
    """A stream that tells how much is read, and knows where it is and where its last non-zero byte was."""

    def __init__(self, stream: IO[bytes], unpacking: _Unpacking) -> None:
        self._stream = stream
        self._unpacking = unpacking
        self.position = 0
        self.contents_end = 0

    def read(self, count_bytes: int = -1) -> bytes:
        """Reads at most so many bytes."""
        if count_bytes < 0:
            raise ValueError("a read without a length")
        chunk = self._stream.read(min(count_bytes, READ_BYTES))
        self._unpacking.spend(len(chunk))
        contents = chunk.rstrip(b"\0")
        if contents:
            self.contents_end = self.position + len(contents)
        self.position += len(chunk)
        return chunk

    def drain(self) -> None:
        """Reads to the end, where gzip keeps its checksum."""
        while self.read(READ_BYTES):
            pass
