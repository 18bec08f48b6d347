"""Hostile archives: what each holds, and what may come of it."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from typing import NamedTuple

BASE = {"net/ckpt.index": b"the list of tensors", "net/ckpt.data-00000-of-00001": bytes(range(256)) * 40}


BOMB_BYTES = 66_000_000
"""A little more than an archive may unpack to at any ratio."""


class Archive(NamedTuple):
    """An archive, and the files that may come of it; None where it has to be refused."""

    data: bytes
    files: dict[str, bytes] | None


def whole() -> Archive:
    """Returns an archive as it should be."""
    return Archive(_packed([_file(name, content) for name, content in BASE.items()], gzip.compress), BASE)


def damaged(rng: random.Random) -> Archive:
    """Returns an archive with a member or two that it should not have, or of an unusual but sound form."""
    members = [_file(name, content) for name, content in BASE.items()]
    files: dict[str, bytes] | None = dict(BASE)
    for _ in range(rng.choice((1, 1, 2))):
        more, found = rng.choice(_WAYS)(rng)
        members += more
        files = None if files is None or found is None or found.keys() & files.keys() else {**files, **found}
    if files is not None and rng.random() < 0.5:
        rng.shuffle(members)
    if rng.random() < 0.2:
        return Archive(_zipped(rng), None)
    is_bomb = any(member.size == BOMB_BYTES for member, _ in members)
    return Archive(_packed(members, rng.choice((gzip.compress, gzip.compress if is_bomb else bytes))), files)


Member = tuple[tarfile.TarInfo, bytes]
Found = dict[str, bytes] | None


def _file(name: str, content: bytes = b"x") -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def _special(name: str, kind: bytes, target: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def _packed(members: list[Member], pack: Callable[[bytes], bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return pack(buffer.getvalue())


def _outside(rng: random.Random) -> tuple[list[Member], Found]:
    names = ("../escaped", "/tmp/zoo-fuzz-escaped", "net/../../escaped", "..", "net\\..\\..\\escaped", "C:/x")
    return [_file(rng.choice(names))], None


def _link(rng: random.Random) -> tuple[list[Member], Found]:
    kind = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
    if rng.random() < 0.4:
        target = "ckpt.index" if kind == tarfile.SYMTYPE else "net/ckpt.index"
        return [_special("net/link", kind, target)], {"net/link": BASE["net/ckpt.index"]}
    targets = ("/etc/passwd", "../../../../etc/passwd", "link", "net/link", "missing", "net", "", "..")
    return [_special("net/link", kind, rng.choice(targets))], None


def _through_a_link(rng: random.Random) -> tuple[list[Member], Found]:
    kind = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
    return [_special("net/way", kind, rng.choice(("..", "/tmp", "."))), _file("net/way/escaped")], None


def _device(rng: random.Random) -> tuple[list[Member], Found]:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z", tarfile.GNUTYPE_LONGNAME)
    return [_special("net/device", rng.choice(kinds))], None


def _twice(rng: random.Random) -> tuple[list[Member], Found]:
    name = rng.choice(("net/ckpt.index", "net/./ckpt.index", "net//ckpt.index", "./net/ckpt.index"))
    return [_file(name, b"another list")], None


def _file_and_folder(rng: random.Random) -> tuple[list[Member], Found]:
    return [_file("net/ckpt.index/below")], None


def _bomb(rng: random.Random) -> tuple[list[Member], Found]:
    return [_file("net/zeros", bytes(BOMB_BYTES))], None


def _many(rng: random.Random) -> tuple[list[Member], Found]:
    names = [f"net/more/{number}" for number in range(rng.choice((10, 500)))]
    return [_file(name) for name in names], dict.fromkeys(names, b"x")


def _sparse(rng: random.Random) -> tuple[list[Member], Found]:
    member, content = _file("net/sparse", b"ab")
    size = rng.choice(("3", "9" * 15, "-1", "x"))
    places = rng.choice(("0,1,2,1", "0,999999999999", "5,1,0,1", "x", "1"))
    member.pax_headers = {"GNU.sparse.size": size, "GNU.sparse.map": places}
    return [(member, content)], None


def _headers(rng: random.Random) -> tuple[list[Member], Found]:
    member, content = _file("net/odd", b"ab")
    headers = (
        {"path": "../escaped"},
        {"size": "999999999999"},
        {"size": "-5"},
        {"linkpath": "/etc/passwd", "path": "x" * 5000},
        # No UTF-8, but the name of a file all the same.
        {"hdrcharset": "BINARY", "path": "net/\udcff"},
    )
    member.pax_headers = rng.choice(headers)
    is_sound = member.pax_headers is headers[-1]
    return [(member, content)], {"net/\udcff": content} if is_sound else None


def _odd_name(rng: random.Random) -> tuple[list[Member], Found]:
    name = rng.choice(
        ("net/a b", "net/\u202egnp", "net/\x1b[31mred", "net/<b>", "net/=1+1", "net/" + "y" * 150)
    )
    return [_file(name)], {name: b"x"}


_WAYS = (
    *(_outside, _outside, _link, _link, _through_a_link, _device, _twice, _file_and_folder, _many),
    *(_sparse, _headers, _odd_name),
    _bomb,
)


def _zipped(rng: random.Random) -> bytes:
    """Returns a .zip archive that has to be refused."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as container:
        for name, content in BASE.items():
            container.writestr(name, content)
        info = zipfile.ZipInfo(
            rng.choice(("../escaped", "/tmp/zoo-fuzz-escaped", "net/x", "a\\..\\..\\escaped"))
        )
        if info.filename == "net/x":
            info.external_attr = rng.choice((0o120777, 0o020666, 0o010666)) << 16
        container.writestr(info, b"/etc/passwd")
    return buffer.getvalue()
