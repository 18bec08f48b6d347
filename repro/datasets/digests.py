"""Digests of a data set's files, remembered between runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zoo.errors import DataError
from zoo.files.atomic import write_atomically
from zoo.files.cache import SET_CACHE
from zoo.files.json_files import read_json
from zoo.files.processes import available_cores
from zoo.remote.path import RemotePath
from zoo.repro.datasets.image_files import read_bytes


def file_digests(root: Path, names: Iterable[str], cache: Path) -> dict[str, tuple[int, str]]:
    """Returns size and SHA-256 of each file.

    A file whose size and time of change are as they were is not read again: what was found is kept in
    `cache`, one file for each data set folder. What a store holds is fetched once, and known then. Names
    are relative to `root`, with forward slashes.
    """
    if isinstance(root, RemotePath):
        return root.digests(names)
    names = list(names)
    memory = cache / (hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:32] + ".json")
    known = read_json(memory) or {}
    found: dict[str, list[object]] = {}
    changed: list[str] = []
    for name in names:
        try:
            status = (root / name).stat()
        except OSError as error:
            raise DataError(f"{root / name}: cannot be read: {error.strerror or error}") from None
        stamp = [status.st_size, status.st_mtime_ns]
        entry = known.get(name)
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
            found[name] = entry
        else:
            found[name] = [*stamp, ""]
            changed.append(name)
    if changed:
        with ThreadPoolExecutor(min(8, available_cores())) as threads:
            digests = threads.map(lambda name: hashlib.sha256(read_bytes(root / name)).hexdigest(), changed)
            for name, digest in zip(changed, digests, strict=True):
                found[name][2] = digest
        write_atomically(memory, json.dumps({**known, **found}), durable=False, remedy=SET_CACHE)
    return {name: (int(str(found[name][0])), str(found[name][2])) for name in names}


def digest_of_files(digests: Mapping[str, tuple[int, str]], *, about: str = "") -> str:
    """Returns one SHA-256 over names, sizes and digests of files, in the order of their names."""
    digest = hashlib.sha256(f"{about}\n".encode())
    for name in sorted(digests):
        size, content = digests[name]
        digest.update(f"{name}\0{size}\0{content}\n".encode())
    return digest.hexdigest()
