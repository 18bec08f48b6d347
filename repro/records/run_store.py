"""A run's files in a bucket, from which it resumes on another machine."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from zoo.errors import InUseError, UsageError, ZooError
from zoo.files.atomic import write_atomically
from zoo.files.cache import RUNS, UNFINISHED_SUFFIX
from zoo.remote.path import RemotePath
from zoo.remote.retries import insist
from zoo.remote.stores import BucketStore
from zoo.repro.records.run_destination import RunDestination
from zoo.repro.records.run_folder import OWN_FILES, RunFolder

LEASE = "lease.json"
"""Says in an unfinished run's folder who is making it."""

_RENEWED_S = 60.0
# A process that has not renewed its lease for so long is taken to be dead.
_EXPIRES_S = 600.0
# Written last, in this order: what is there says that all else is.
_LAST = ("table.md", "record.json")


class StoredDestination(RunDestination):
    """The place of one entry's results in a bucket; the run is made in a folder of this machine.

    In the bucket an unfinished run is in `<name>.unfinished`, to which the files of an image go once they are
    complete, its statistics last. A finished one is in `<name>`; it is there where its record is, which is
    written last. Buckets rename nothing, so a finished run is written again under its new name before the
    unfinished one is removed.
    """

    def __init__(self, path: Path, url: str) -> None:
        """Takes the folder on this machine, and that in the bucket."""
        super().__init__(path)
        if url.startswith(("http://", "https://")):
            raise UsageError(f"--out {url}: expected a path or a bucket (s3://, gs://), found a web server")
        self.url = url
        self._unfinished_url = url + UNFINISHED_SUFFIX
        self._store = BucketStore(url)
        self._id = os.urandom(8).hex()
        self._renewed_s = 0.0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Holds the destination here and in the bucket, and brings what is there to this machine.

        Raises:
          InUseError: another process, of this machine or another, is running in it.
        """
        with super().in_use():
            self._claim()
            try:
                self._bring(self._unfinished_url, self.unfinished, everything=True)
                self._bring(self.url, self.finished, everything=False)
                yield
            finally:
                self._release()

    def open(self, identity: Mapping[str, Any], *, restart: bool = False) -> RunFolder:
        """Returns the folder to make the run in; see `RunDestination.open`."""
        folder = super().open(identity, restart=restart)
        there = self._files(self._unfinished_url)
        stale = [name for name in there if not (folder.root / name).is_file() and name != LEASE]
        self._remove(self._unfinished_url, stale)
        for name in _names(folder.root):
            if name not in there or there[name] != (folder.root / name).stat().st_size:
                self._send(self._unfinished_url, folder.root, name)
        return folder

    def finish(self) -> Path | None:
        """Replaces the last results here and in the bucket; see `RunDestination.finish`."""
        kept = super().finish()
        root = self.finished.root
        if not (root / "record.json").is_file() or self.unfinished.root.exists():
            return kept
        if kept is not None:
            self._move(self.url, f"{self.url.rpartition('/')[0]}/{kept.name}")
        self._remove(self.url, sorted(self._files(self.url), key=_order, reverse=True))
        for name in _names(root):
            self._send(self.url, root, name)
        self._remove(
            self._unfinished_url, [name for name in self._files(self._unfinished_url) if name != LEASE]
        )
        return kept

    def discard(self) -> None:
        """Removes the unfinished run, here and in the bucket."""
        super().discard()
        self._remove(self._unfinished_url, list(self._files(self._unfinished_url)))

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        """Gives what sends the files of images while the run is made."""
        sender = Sender(self._send_image, self._claim)
        try:
            yield sender
        finally:
            sender.close()

    @property
    def place(self) -> str:
        """Where the results are."""
        return self.url

    def _send_image(self, paths: list[Path]) -> None:
        for path in paths:
            name = path.relative_to(self.unfinished.root).as_posix()
            self._send(self._unfinished_url, self.unfinished.root, name)

    # ---- who is making the run ----

    def _claim(self) -> None:
        """Takes the lease, or renews it.

        Raises:
          InUseError: another process has it.
        """
        if time.time() - self._renewed_s < _RENEWED_S:
            return
        url = f"{self._unfinished_url}/{LEASE}"
        self._require_own(url)
        lease = {"id": self._id, "host": socket.gethostname(), "pid": os.getpid(), "at_s": time.time()}
        insist(url, partial(self._store.write, url, json.dumps(lease).encode()))
        # Of two that wrote at once, the one that was overwritten sees it.
        self._require_own(url)
        self._renewed_s = time.time()

    def _require_own(self, url: str) -> None:
        content = insist(url, partial(self._store.read, url))
        try:
            lease = json.loads(content or b"null")
            if lease is None or lease["id"] == self._id:
                return
            age_s, host, pid = time.time() - lease["at_s"], lease["host"], lease["pid"]
        except (ValueError, KeyError, TypeError):
            return
        if age_s > _EXPIRES_S or (host == socket.gethostname() and not psutil.pid_exists(pid)):
            return
        raise InUseError(
            f"{self.url}: process {pid} on {host} is running there, seen {age_s:.0f} s ago; wait for it "
            f"(a dead one is forgotten after {_EXPIRES_S / 60:.0f} minutes), or give another --out"
        )

    def _release(self) -> None:
        content = insist(self.url, partial(self._store.read, f"{self._unfinished_url}/{LEASE}"))
        if content and self._id.encode() in content:
            self._remove(self._unfinished_url, [LEASE])

    # ---- files ----

    def _bring(self, url: str, folder: RunFolder, *, everything: bool) -> None:
        """Makes a folder of this machine hold what is in the bucket; all, or what says what it is."""
        there = self._files(url)
        if "run.json" not in there:
            if everything:
                folder.clear()
            return
        first = self._read(url, "run.json")
        if folder.identity() != json.loads(first):
            folder.clear()
        for name, length in there.items():
            path = folder.root / name
            wanted = name != LEASE and (everything or name in ("run.json", "record.json"))
            if wanted and not (path.is_file() and path.stat().st_size == length):
                write_atomically(path, self._read(url, name), durable=False)

    def _files(self, url: str) -> dict[str, int]:
        return insist(url, partial(self._store.files, url))

    def _read(self, url: str, name: str) -> bytes:
        content = insist(url, partial(self._store.read, f"{url}/{name}"))
        if content is None:
            raise InUseError(f"{url}/{name}: was removed by another process; call again")
        return content

    def _send(self, url: str, root: Path, name: str) -> None:
        insist(url, partial(self._store.write, f"{url}/{name}", (root / name).read_bytes()))

    def _remove(self, url: str, names: list[str]) -> None:
        insist(url, partial(self._store.remove, [f"{url}/{name}" for name in names]))

    def _move(self, source: str, target: str) -> None:
        names = sorted(self._files(source), key=_order)
        for name in names:
            insist(target, partial(self._store.write, f"{target}/{name}", self._read(source, name)))
        self._remove(source, names[::-1])


def destination_at(path: Path, cache_root: Path) -> RunDestination:
    """Returns the place of a run's results, on this machine or in a bucket.

    Args:
      path: the folder of the results.
      cache_root: the folder of the cache, where a run for a bucket is made.
    """
    if not isinstance(path, RemotePath):
        return RunDestination(path)
    parent = hashlib.sha256(str(path.parent).encode()).hexdigest()[:12]
    return StoredDestination(cache_root / RUNS / f"at-{parent}" / path.name, str(path))


class Sender:
    """Sends the files of images in the order in which they were completed, beside the run."""

    def __init__(self, send: Callable[[list[Path]], None], renew: Callable[[], None]) -> None:
        self._send, self._renew = send, renew
        self._waiting: queue.Queue[list[Path] | None] = queue.Queue(maxsize=64)
        self._failure: ZooError | None = None
        self._thread = threading.Thread(target=self._work, name="send", daemon=True)
        self._thread.start()

    def __call__(self, paths: list[Path]) -> None:
        """Takes the files of one image, of which the last says that it is complete.

        Raises:
          ZooError: earlier ones could not be sent.
        """
        if self._failure is not None:
            raise self._failure
        self._waiting.put(paths)

    def close(self) -> None:
        """Waits until all is sent; raises as a call does."""
        self._waiting.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while True:
            try:
                paths = self._waiting.get(timeout=_RENEWED_S)
                if paths is None:
                    return
            except queue.Empty:
                paths = []
            if self._failure is None:
                try:
                    self._renew()
                    self._send(paths)
                except ZooError as error:
                    self._failure = error


def _names(root: Path) -> list[str]:
    """Returns the files of a run; what the official scripts left for themselves stays on its machine."""
    found = (root / name for name in OWN_FILES if name != "official")
    files = [each for path in found for each in (path, *path.rglob("*")) if each.is_file()]
    return sorted((path.relative_to(root).as_posix() for path in files), key=_order)


def _order(name: str) -> tuple[int, str]:
    """Puts statistics behind predictions, and the record behind all."""
    if name in _LAST:
        return 3 + _LAST.index(name), name
    return (2 if name.startswith("images/") else 0 if name == "run.json" else 1), name
