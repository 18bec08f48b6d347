"""Finds the pictures and videos that a user means, and gives each a name of its own."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from zoo.errors import DataError, UsageError
from zoo.files.words import counted

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
# fmt: off
PICTURE_SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".tif", ".tiff", ".webp",
    ".avif", ".heic", ".heif", ".jp2", ".ppm", ".pgm", ".pnm",
)
# fmt: on


@dataclass(frozen=True)
class Input:
    """A picture or video of the user, and what its predictions are called."""

    path: Path
    name: str  # with `/` where it lies in a subfolder; unique among the inputs

    @property
    def is_video(self) -> bool:
        """Whether its file name is that of a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


class FoundInputs(NamedTuple):
    """The inputs in natural order, and how many files are neither pictures nor videos by their names."""

    inputs: list[Input]
    others: int


def find_inputs(what: Sequence[str | Path], out: Path | None = None) -> FoundInputs:
    """Returns the pictures and videos that a user means.

    A folder stands for those in it and in its subfolders, linked ones too, hidden ones apart; a pattern
    (`*`, `?`, `[...]`, `**`) for what matches it. A file that is named itself is taken whatever it is called.
    Names are the files', without their endings, below the folder that was named: `holiday/rome/1.jpg` of
    `holiday` is `rome/1`. Where two would be the same, the ending becomes part of them (`a_png`, `a_jpg`), or
    else all names start at the folder that all inputs share.

    Args:
      what: files, folders and patterns; each file counts once.
      out: the folder of outputs, whose files are not taken.

    Raises:
      DataError: a path is not there, a folder cannot be read, or there is neither a picture nor a video.
      UsageError: an address instead of a path, or `out` is a folder of inputs.
    """
    found: dict[str, PurePath] = {}
    others: set[str] = set()
    out_path = None if out is None else os.path.realpath(out)
    for text in (os.fspath(each) for each in what):
        if "://" in text:
            raise UsageError(f"{text}: expected a file, a folder or a pattern; download it first")
        for path, relative in _files_of(os.path.expanduser(text), out_path):
            absolute = os.path.abspath(path)
            if os.path.exists(path) and not os.path.isfile(path):
                raise DataError(f"{path}: expected a file, found a pipe or a device; save it to a file")
            is_named = path == os.path.expanduser(text)
            if is_named or relative.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES):
                found.setdefault(absolute, relative)
            else:
                others.add(absolute)
    others -= found.keys()
    if not found:
        also = f", but {counted(len(others), 'other file')}" if others else ""
        where = " ".join(map(str, what))
        raise DataError(
            f"{where}: expected pictures ({', '.join(PICTURE_SUFFIXES[:5])}, ...) or videos "
            f"({', '.join(VIDEO_SUFFIXES[:3])}, ...), found none{also}"
        )
    names = _unique_names(found)
    inputs = [Input(Path(absolute), names[absolute]) for absolute in found]
    return FoundInputs(sorted(inputs, key=lambda each: natural_order(each.name)), len(others))


def natural_order(name: str) -> list[object]:
    """Returns a key that sorts `img2` before `img10`."""
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _files_of(text: str, out: str | None) -> Iterator[tuple[str, PurePath]]:
    """Yields the files of a path or pattern, each with its path below the folder that was named."""
    if os.path.isdir(text):
        if os.path.realpath(text) == out:
            raise UsageError(f"--out {text}: is a folder of inputs; give another folder")
        yield from _files_in(text, text, out)
    elif os.path.exists(text):
        yield text, PurePath(os.path.basename(text))
    elif glob.has_magic(text):
        root = text
        while glob.has_magic(root):
            root = os.path.dirname(root)
        matches = glob.glob(text, recursive=True)
        if not matches:
            raise DataError(f"{text}: expected a pattern that matches files, found none")
        for match in matches:
            if os.path.isdir(match):
                # Of `**` the subfolders come as matches too.
                yield from _files_in(match, root, out)
            elif not _is_within(match, out):
                yield match, PurePath(os.path.relpath(match, root or "."))
    else:
        raise DataError(
            f"{text}: expected a file, a folder or a pattern, found nothing there; check the path"
        )


def _files_in(folder: str, root: str, out: str | None) -> Iterator[tuple[str, PurePath]]:
    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename}: cannot be read: {error.strerror}; name the files or folders to take instead"
        )

    # Links may lead in a circle.
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(parent)
        if real in seen or _is_within(parent, out):
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            if not name.startswith("."):
                path = os.path.join(parent, name)
                yield path, PurePath(os.path.relpath(path, root or "."))


def _is_within(path: str, out: str | None) -> bool:
    return out is not None and f"{os.path.realpath(path)}{os.sep}".startswith(f"{out}{os.sep}")


def _unique_names(found: dict[str, PurePath]) -> dict[str, str]:
    """Returns the name of each file, given its absolute path and that below the folder that was named."""
    names = _named(found)
    if _repeated(names.values()):
        shared = os.path.commonpath([os.path.dirname(path) for path in found])
        names = _named({path: PurePath(os.path.relpath(path, shared)) for path in found})
    taken: Counter[str] = Counter()
    for path, name in names.items():
        # File systems of some computers do not tell `A` from `a`.
        taken[name.casefold()] += 1
        if (number := taken[name.casefold()]) > 1:
            names[path] = f"{name}_{number}"
    return names


def _named(found: dict[str, PurePath]) -> dict[str, str]:
    """Returns names without endings, or with them where two files of one folder differ in nothing else."""
    stems = {path: os.path.splitext(path)[0].casefold() for path in found}
    count = Counter(stems.values())
    folders = {os.path.dirname(stem) for stem in stems.values()}
    names = {}
    for path, relative in found.items():
        name = relative.with_suffix("").as_posix()
        # The frames of a video go by its name and a number, like the pictures of a folder of that name.
        is_video = relative.suffix.lower() in VIDEO_SUFFIXES
        has_twin = count[stems[path]] > 1 or (is_video and stems[path] in folders)
        names[path] = f"{name}_{relative.suffix[1:]}" if has_twin and relative.suffix else name
    return names


def _repeated(names: Iterable[str]) -> bool:
    return any(number > 1 for number in Counter(name.casefold() for name in names).values())
