"""Archives: unpacked safely, whole or not at all, and the one checkpoint in an unpacked folder."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from zoo.errors import ArchiveError, ZooError
from zoo.files.words import readable_size

READ_BYTES = 1 << 20
UNSAFE = "the archive is unsafe: do not use it"
TAR_BLOCK_BYTES = 512

CORRUPT = (
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    tarfile.TarError,
    zipfile.BadZipFile,
    UnicodeError,
    ValueError,
    NotImplementedError,
    RecursionError,
)
"""What the readers of the standard library raise on damaged or unusual archives."""


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to.

    Attributes:
      total_bytes: all files together.
      members: files and folders.
      ratio: unpacked to packed length; below `ratio_free_bytes` any ratio is allowed.
      ratio_free_bytes: see `ratio`.
    """

    total_bytes: int = 64 * 10**9
    members: int = 500_000
    ratio: int = 250
    ratio_free_bytes: int = 64 * 10**6


@dataclass(frozen=True)
class Unpacked:
    """One unpacked file: its path in the archive (with `/`), its length and SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Member:
    name: str
    kind: Literal["file", "folder", "link"]
    target: str = ""
    stream: IO[bytes] | None = None


def unpack(archive: Path, folder: Path, limits: Limits = Limits()) -> list[Unpacked]:
    """Unpacks a `.tar.gz`, `.tar` or `.zip` archive into an empty folder.

    Only regular files and folders are ever made: a link inside the archive becomes a copy of its target.
    Refused are absolute paths, `..`, links that leave the folder, devices and pipes, two members of one name,
    and archives beyond the limits. Every checksum that the format has is checked to its end.

    Args:
      archive: the file; its kind is told from its first bytes.
      folder: where to; it must be empty. After an error, discard what was unpacked until then.
      limits: what the archive may grow to.

    Returns:
      the files, in the order of their paths.

    Raises:
      ArchiveError: the archive is damaged, unsafe, or of another kind.
      ZooError: the folder cannot be written.
    """
    try:
        packed_bytes = archive.stat().st_size
        with archive.open("rb") as raw:
            budget = _Budget(archive, packed_bytes, limits)
            with contextlib.closing(_members(archive, raw, budget)) as members:
                return _write(archive, folder, members, budget)
    except CORRUPT as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(
            f"{archive}: the archive is damaged or incomplete: {reason}; fetch it again"
        ) from error
    except OSError as error:
        raise ZooError(f"{archive}: cannot be unpacked into {folder}: {error.strerror or error}") from error


class _Budget:
    """Counts what comes out of an archive, headers included, and stops at the limits."""

    def __init__(self, archive: Path, packed_bytes: int, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        self._bytes = 0
        self._members = 0
        by_ratio = max(packed_bytes * limits.ratio, limits.ratio_free_bytes)
        self._most_bytes = min(limits.total_bytes, by_ratio)
        self._packed_bytes = packed_bytes

    def spend(self, count_bytes: int) -> None:
        self._bytes += count_bytes
        if self._bytes > self._most_bytes:
            raise ArchiveError(
                f"{self._archive}: {readable_size(self._packed_bytes)} unpack to more than the allowed "
                f"{readable_size(self._most_bytes)}; not a model's archive"
            )

    def count_member(self) -> None:
        self._members += 1
        if self._members > self._limits.members:
            raise ArchiveError(
                f"{self._archive}: holds more than the allowed {self._limits.members} members; "
                "not a model's archive"
            )


class _Counted:
    """A stream that spends a budget and remembers where it is and where its last non-zero byte was."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget
        self.position = 0
        self.contents_end = 0

    def read(self, count_bytes: int = -1) -> bytes:
        if count_bytes < 0:
            raise ValueError("a read without a length")
        chunk = self._stream.read(min(count_bytes, READ_BYTES))
        self._budget.spend(len(chunk))
        contents = chunk.rstrip(b"\0")
        if contents:
            self.contents_end = self.position + len(contents)
        self.position += len(chunk)
        return chunk

    def drain(self) -> None:
        """Reads to the end, where gzip keeps its checksum."""
        while self.read(READ_BYTES):
            pass


def _members(archive: Path, raw: BinaryIO, budget: _Budget) -> Generator[_Member, None, None]:
    start = raw.read(TAR_BLOCK_BYTES)
    raw.seek(0)
    if start[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
            yield from _tar_members(archive, _Counted(cast("IO[bytes]", stream), budget))
    elif start[257:262] == b"ustar":
        yield from _tar_members(archive, _Counted(raw, budget))
    elif start[:2] == b"PK":
        yield from _zip_members(archive, raw, budget)
    else:
        kind = "a web page" if start.lstrip()[:1] == b"<" else f"a file that starts with {start[:8]!r}"
        found = kind if start else "an empty file"
        raise ArchiveError(
            f"{archive}: expected a .tar.gz, .tar or .zip archive, found {found}; "
            "check what the registry names"
        )


def _tar_members(archive: Path, counted: _Counted) -> Iterator[_Member]:
    with tarfile.open(fileobj=counted, mode="r|", errorlevel=2) as tar:  # type: ignore[call-overload]
        for member in tar:
            if member.isdir():
                yield _Member(member.name, "folder")
            elif member.isreg():
                with contextlib.closing(_required(tar.extractfile(member))) as stream:
                    yield _Member(member.name, "file", stream=stream)
            elif member.islnk():
                yield _Member(member.name, "link", target=member.linkname)
            elif member.issym():
                base = member.name.rpartition("/")[0]
                absolute = member.linkname.startswith("/")
                target = member.linkname if absolute else f"{base}/{member.linkname}".lstrip("/")
                yield _Member(member.name, "link", target=target)
            else:
                raise ArchiveError(f"{archive}: {member.name!r} is a device or a pipe; {UNSAFE}")
        end = tar.offset
    counted.drain()
    # A damaged header looks like the end to the reader; the true end is empty blocks and nothing else.
    if counted.position < end + TAR_BLOCK_BYTES or counted.contents_end > end:
        raise tarfile.ReadError(f"no mark of the end after {end} bytes")


def _zip_members(archive: Path, raw: BinaryIO, budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(raw) as container:
        for info in container.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield _Member(info.filename, "folder")
            elif info.flag_bits & 1:
                raise ArchiveError(f"{archive}: {info.filename!r} is encrypted; unpack it by hand")
            elif mode == stat.S_IFLNK:
                raise ArchiveError(
                    f"{archive}: {info.filename!r} is a link in a .zip archive; make it a .tar.gz archive"
                )
            elif mode not in (0, stat.S_IFREG):
                raise ArchiveError(f"{archive}: {info.filename!r} is a device or a pipe; {UNSAFE}")
            else:
                with container.open(info) as stream:
                    counted = _Counted(stream, budget)
                    yield _Member(info.filename, "file", stream=counted)  # type: ignore[arg-type]


def _required(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise tarfile.ReadError("a member without contents")
    return stream


def _write(archive: Path, folder: Path, members: Iterable[_Member], budget: _Budget) -> list[Unpacked]:
    files: dict[str, Unpacked] = {}
    links: dict[str, str] = {}
    for member in members:
        budget.count_member()
        name = _inside(archive, member.name, member.name, "path")
        if member.kind == "folder":
            _make_folder(archive, folder / name, name)
            continue
        if not name:
            raise ArchiveError(f"{archive}: holds a file without a name: {member.name!r}; {UNSAFE}")
        if name in files or name in links:
            raise ArchiveError(f"{archive}: holds {name!r} twice; {UNSAFE}")
        if member.kind == "link":
            links[name] = _inside(archive, member.target, member.name, "link")
            continue
        assert member.stream is not None
        files[name] = _write_file(archive, folder, name, member.stream)
    for name, target in links.items():
        # Links to links are followed by name alone; a cycle is refused like any other dead end.
        seen = {name}
        while target in links and target not in seen:
            seen.add(target)
            target = links[target]
        if target not in files:
            raise ArchiveError(
                f"{archive}: the link {name!r} points to {target!r}, which is not a file in it"
            )
        budget.spend(files[target].bytes)
        with (folder / target).open("rb") as stream:
            files[name] = _write_file(archive, folder, name, stream)
    return [files[name] for name in sorted(files)]


def _inside(archive: Path, path: str, member: str, what: str) -> str:
    """Returns a path of the archive without `.` parts, or refuses one that leads out of the folder."""
    unsafe = path.startswith("/") or "\\" in path or "\0" in path or bool(re.match(r"[A-Za-z]:", path))
    parts: list[str] = []
    for part in path.split("/"):
        if unsafe or (part == ".." and (what == "path" or not parts)):
            raise ArchiveError(f"{archive}: {member!r} has a {what} that leads outside: {path!r}; {UNSAFE}")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _make_folder(archive: Path, path: Path, name: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArchiveError(f"{archive}: {name!r} is both a file and a folder in it") from error


def _write_file(archive: Path, folder: Path, name: str, stream: IO[bytes]) -> Unpacked:
    path = folder / name
    _make_folder(archive, path.parent, name)
    digest = hashlib.sha256()
    size = 0
    try:
        # Where the disk ignores case, names that differ in case alone are two of one name.
        output = path.open("xb")
    except (FileExistsError, IsADirectoryError) as error:
        raise ArchiveError(f"{archive}: holds {name!r} twice; {UNSAFE}") from error
    with output:
        while chunk := stream.read(READ_BYTES):
            output.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return Unpacked(name, size, digest.hexdigest())


def find_checkpoint(folder: Path) -> Path:
    """Returns the prefix of the one checkpoint in a folder, whatever its layout and number.

    A checkpoint is one `<prefix>.index` with all its `<prefix>.data-?????-of-?????` files beside it.

    Raises:
      ArchiveError: there is none, more than one, or one with files missing.
    """
    # Archives made on a Mac hold a `._name` beside each name.
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("._"))
    indices = [path for path in files if path.name.endswith(".index")]
    if len(indices) != 1:
        listed = indices or files
        names = ", ".join(path.relative_to(folder).as_posix() for path in listed[:6])
        more = f", and {len(listed) - 6} more" if len(listed) > 6 else ""
        raise ArchiveError(
            f"{folder}: expected one checkpoint (one *.index file), found {len(indices) or 'none'}"
            f"{' among' if not indices else ':'} {names or 'no files'}{more}; give another one"
        )
    prefix = indices[0].with_name(indices[0].name.removesuffix(".index"))
    shards = [
        (int(match[1]), int(match[2]))
        for path in prefix.parent.iterdir()
        if (match := re.fullmatch(re.escape(prefix.name) + r"\.data-(\d{5})-of-(\d{5})", path.name))
    ]
    counts = {count for _, count in shards}
    count = min(counts, default=0)
    if len(counts) != 1 or sorted(number for number, _ in shards) != list(range(count)):
        found = ", ".join(f"{number:05}-of-{of:05}" for number, of in sorted(shards)) or "none"
        raise ArchiveError(
            f"{indices[0]}: expected all *.data-?????-of-????? files beside it, found {found}; "
            "the archive is incomplete: fetch it again"
        )
    return prefix
