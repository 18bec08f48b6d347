"""The cache: one folder for what is downloaded and made from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from zoo.errors import UsageError, ZooError
from zoo.files.atomic import write_atomically, writing
from zoo.files.locks import holding

SET_CACHE = "set ZOO_CACHE to a folder that can be written"
"""What to do about a cache that cannot be written."""

KINDS = {
    "downloads": "archives as they were downloaded",
    "checkpoints": "unpacked checkpoints",
    "saved_models": "unpacked SavedModels",
    "datasets": "unpacked data sets",
    "remote_data": "files of data sets in buckets and on the web",
    "panoptic_ground_truth": "panoptic ground truth made from data sets",
    "fingerprints": "digests of data sets' files",
    "fastest": "networks as files of the runtime that is fastest here",
    "numba": "machine code of the pixel loops",
}
"""The parts of the cache that can be made again, and what each holds."""

RUNS = "runs"
"""Results live beside the cache's parts and are never pruned."""

MANIFEST_NAME = "manifest.json"
"""Lists the files of an unpacked archive."""

UNFINISHED_SUFFIX = ".unfinished"
"""Ends the name of a folder that is being filled."""

TAG_NAME = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Made by the model zoo. All in this folder can be made again: `zoo cache prune` removes it.\n"
)
"""The common mark of a cache folder; backup programs skip it, and pruning touches no folder without it."""


def default_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the cache's folder: `ZOO_CACHE`, or the user's cache folder of this system.

    Raises:
      UsageError: `ZOO_CACHE` is not set, and this user has no home folder.
    """
    if chosen := environ.get("ZOO_CACHE"):
        return Path(os.path.expanduser(chosen)).absolute()
    import platformdirs

    root = Path(platformdirs.user_cache_dir("zoo", appauthor=False))
    # In a container whose user has neither HOME nor an entry in /etc/passwd, `~` stays `~`.
    if not root.is_absolute():
        raise UsageError("this user has no home folder for the cache; set ZOO_CACHE to a folder")
    return root


class Cache:
    """The cache in one folder, `ZOO_CACHE` or the user's cache folder by default; made when first written to.

    Layout: `<root>/<kind>/<entry>` for each of `KINDS`, and `<root>/locks` for the locks between processes.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root).absolute() if root is not None else default_root()

    def folder(self, kind: str) -> Path:
        """Returns the folder of one part, which is made and marked if it is new.

        Raises:
          UsageError: a folder of that name is there and is not a cache's.
          ZooError: it cannot be written.
        """
        if kind not in KINDS:
            raise ValueError(f"no part of the cache is called {kind}")
        folder = self.root / kind
        tag = folder / TAG_NAME
        with writing(folder, SET_CACHE):
            folder.mkdir(parents=True, exist_ok=True)
            if not tag.exists():
                others = [path for path in folder.iterdir() if TAG_NAME not in path.name]
                # Another process may have made, marked and used the folder just now.
                if others and not tag.exists():
                    raise UsageError(
                        f"{folder}: expected a folder of the cache, found one that holds other files; "
                        "set ZOO_CACHE to another folder"
                    )
                write_atomically(tag, TAG_TEXT, remedy=SET_CACHE)
        return folder

    def holding(self, kind: str, name: str, taken: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Holds the lock that a process takes while it makes or removes an entry; see `locks.holding`."""
        path = self.root / "locks" / f"{kind}-{name}.lock"
        return holding(path, taken, wait=wait, remedy=SET_CACHE)


def remove(path: Path) -> None:
    """Removes a file, a folder, or a link itself, if it is there; raises ZooError where that fails."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ZooError(f"{path}: cannot be removed: {error.strerror}; remove it by hand") from error


def touch(path: Path) -> None:
    """Marks a file or folder as used now; a cache that is only readable stays usable."""
    try:
        os.utime(path)
    except OSError:
        return
