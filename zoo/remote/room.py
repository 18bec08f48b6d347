"""The bounded part of the cache for files from stores: who may stay, who leaves, and what is in use."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from zoo.errors import DataError, InUseError
from zoo.files.atomic import write_atomically, writing
from zoo.files.cache import SET_CACHE, Cache
from zoo.files.json_files import read_json
from zoo.files.words import readable_size

KIND = "remote_data"
"""The part of the cache."""

ENLARGE = "free space, or set ZOO_CACHE to a folder on a larger disk"
"""What to do about a disk that is full of fetched files."""

_IN_USE = "in-use-"
# Whoever makes room makes some for the next ones too.
_KEPT_SHARE = 0.9
_PAUSE_S = 0.02


class Room:
    """The files that came from stores, at most so many bytes; all processes of a machine share them.

    A file is in `<cache>/remote_data/<data set>/objects`, under a name that says of which URL and version it
    is, and its time stamp is that of its last use. One that the official scripts read has a second name (a
    hard link) in a folder of their process; the number of its names says that it must stay. A reader that has
    a file open is not disturbed by its removal.
    """

    def __init__(self, cache: Cache, bound_bytes: int) -> None:
        self.cache = cache
        self.bound_bytes = bound_bytes
        self._lock = threading.Lock()
        self._kept_folder: Path | None = None
        self._kept: dict[Path, int] = {}  # what this process keeps in place, with its bytes

    def admit(self, part: Path, needed: int, what: str) -> None:
        """Makes room for a file that is to be written, and the file, empty but of its full length.

        Args:
          part: the file; its name ends in `part_suffix`.
          needed: its length in bytes.
          what: who needs it, for the message.

        Raises:
          DataError: there cannot be so much room.
        """
        if needed > self.bound_bytes:
            raise DataError(self._too_small(what, needed))
        while not self._admitted(part, needed, what):
            # What others are writing now may leave once it is written.
            time.sleep(_PAUSE_S)

    def _admitted(self, part: Path, needed: int, what: str) -> bool:
        # Lies beside the locks: in the folder itself it would be an entry of the cache.
        counted = self.cache.root / "locks" / f"{KIND}.json"
        with self._lock, self.cache.holding(KIND, "room", ""):
            known, others_write = (read_json(counted) or {}).get("bytes"), False
            total = known if isinstance(known, int) else self.bound_bytes
            if total + needed > self.bound_bytes:
                wanted = max(0, int(self.bound_bytes * _KEPT_SHARE) - needed)
                total, others_write = self._bytes_left(wanted, part)
            if total + needed > self.bound_bytes:
                if others_write:
                    return False
                raise DataError(self._too_small(what, total + needed))
            write_atomically(counted, f'{{"bytes": {total + needed}}}', durable=False, remedy=SET_CACHE)
            # Whoever counts meanwhile counts it.
            with writing(part, ENLARGE):
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("ab") as stream:
                    stream.truncate(needed)
        return True

    def settle(self, part: Path, target: Path) -> None:
        """Gives a file that was written whole its name."""
        # Not while somebody counts, who would miss it in both places.
        with self._lock, self.cache.holding(KIND, "room", ""), writing(target, ENLARGE):
            target.parent.mkdir(exist_ok=True)
            part.replace(target)

    @staticmethod
    def part_suffix() -> str:
        """Returns the end of the name of a file that this process writes; the name begins with a dot."""
        return f".{os.getpid()}-{os.urandom(4).hex()}"

    def keep(self, source: Path, target: Path) -> None:
        """Gives a file a second name, `target` in `kept_folder`, so that it stays.

        Raises:
          FileNotFoundError: it has left meanwhile.
        """
        if target in self._kept:
            return
        with writing(target, ENLARGE):
            target.parent.mkdir(parents=True, exist_ok=True)
        size = source.stat().st_size
        try:
            os.link(source, target)
        except FileExistsError:
            pass
        except FileNotFoundError:
            raise
        except OSError:
            # A file system without hard links.
            with writing(target, ENLARGE):
                shutil.copyfile(source, target)
        self._kept[target] = size

    def require_room_for(self, needed: int, what: str) -> None:
        """Raises a DataError where so many bytes, in place at once, do not fit beside those kept in place."""
        total = needed + sum(self._kept.values())
        if total > self.bound_bytes:
            raise DataError(self._too_small(what, total))

    def keeps(self, target: Path) -> bool:
        """Says whether this process keeps a file in place under this name."""
        return target in self._kept

    @property
    def kept_folder(self) -> Path:
        """The folder of the files that this process keeps in place until it ends."""
        with self._lock:
            self._kept_folder = self._kept_folder or self._make_kept_folder()
            return self._kept_folder

    def _make_kept_folder(self) -> Path:
        name = f"{_IN_USE}{os.getpid()}-{os.urandom(4).hex()}"
        folder = self.cache.folder(KIND) / name
        stack = ExitStack()
        stack.enter_context(self.cache.holding(KIND, name, ""))
        with writing(folder, SET_CACHE):
            folder.mkdir()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(stack.close)
        return folder

    def _too_small(self, what: str, needed: int) -> str:
        # Rounded up, so that what the line says is enough.
        enough = f"{-(-needed // 1_000_000):,}".replace(",", "") + "MB"
        return (
            f"{what}: needs {readable_size(needed)} on disk at once, the cache for data may hold "
            f"{readable_size(self.bound_bytes)}; give --data-cache {enough} or more"
        )

    def _bytes_left(self, wanted: int, own: Path) -> tuple[int, bool]:
        """Removes what was not used for longest until at most `wanted` bytes are left.

        What a process that died was writing or keeping goes in any case.

        Returns:
          How many there are then, the file `own` that is being written apart, and whether others are being
          written.
        """
        root = self.cache.folder(KIND)
        self._forget_the_dead(root)
        found = [(path, status) for path, status in _files(root) if path != own]
        total = sum(status.st_size for _, status in found)
        for path, status in sorted(found, key=lambda file: file[1].st_mtime_ns):
            if total <= wanted:
                break
            if status.st_nlink > 1 or path.name.startswith("."):
                continue
            # On Windows a file that is open stays.
            with contextlib.suppress(OSError):
                path.unlink()
                total -= status.st_size
        return total, any(path.name.startswith(".") for path, _ in found)

    def _forget_the_dead(self, root: Path) -> None:
        for folder in root.glob(f"{_IN_USE}*"):
            with (
                contextlib.suppress(InUseError),
                self.cache.holding(KIND, folder.name, f"{folder}: is in use", wait=False),
            ):
                shutil.rmtree(folder, ignore_errors=True)
        import psutil

        for part in root.glob("*/objects/*/.*"):
            writer = part.name.rpartition(".")[2].partition("-")[0]
            if not writer.isdigit() or not psutil.pid_exists(int(writer)):
                part.unlink(missing_ok=True)


def _files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder in root.glob("*/objects/*"):
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield Path(entry.path), os.stat(entry.path)
