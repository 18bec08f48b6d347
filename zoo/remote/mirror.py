"""One folder of a store: what it holds, as listed once, and its files, fetched when asked for."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.files.atomic import writing
from zoo.files.cache import Cache, touch
from zoo.files.digester import Digester, Digests
from zoo.files.progress import Progress, say
from zoo.remote.http import InterruptedTransferError
from zoo.remote.known import KnownFiles
from zoo.remote.listings import Listing, parse_sums, read_listing, write_listing
from zoo.remote.retries import insist
from zoo.remote.room import ENLARGE, KIND, Room
from zoo.remote.stores import Held, NoListingError, RefusedError, Store, WebStore, open_store

SUMS_NAME = "SHA256SUMS"
"""What `sha256sum` writes: a data set may have it, for servers that list no files, and to be checked."""

_THREADS = 16
# Below this, two processes that fetch the same file lose little.
_ALONE_BYTES = 8 << 20
_IMAGES = (".png", ".jpg", ".jpeg")
# A listing that is younger is believed: processes that start together list once.
_FRESH_S = 60.0
_CHUNK_BYTES = 1 << 18

_NOT_ASKED = Held(None, "the store was not asked for it")


@lru_cache(maxsize=64)
def mirror_of(base: str, cache_root: Path, bound_bytes: int) -> Mirror:
    """Returns this process' mirror of a folder of a store."""
    return Mirror(base, room_of(cache_root, bound_bytes))


@lru_cache(maxsize=64)
def room_of(cache_root: Path, bound_bytes: int) -> Room:
    """Returns this process' view of the files from stores."""
    return Room(Cache(cache_root), bound_bytes)


class Mirror:
    """A folder of a store as far as it was looked at, and its files as far as they were fetched.

    Methods take whole URLs, also of what lies above the folder, and may be called by many threads.
    """

    def __init__(self, base: str, room: Room) -> None:
        self.base = base
        self.store: Store = open_store(base)
        self._room = room
        title = re.sub(r"[^A-Za-z0-9.-]+", "_", base)[:60].strip("_")
        self.folder = room.cache.folder(KIND) / f"{title}-{_hash(base)[:8]}"
        self._known = KnownFiles(self.folder / "known.jsonl")
        self._lock = threading.RLock()
        self._listings: dict[str, Listing] = {}
        self._from_before = False  # whether a listing of an earlier process was believed
        self._looked: dict[str, Held | None] = {}
        self._summed: dict[str, str] | None = None
        self._under_way: dict[str, Future[Path]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")

    # ---- what there is ----

    def listing(self, url: str) -> Listing:
        """Returns what a folder holds, nothing where there is none.

        Raises:
          NoListingError: the server does not say.
        """
        with self._lock:
            if url in self._listings:
                return self._listings[url]
            if self.is_web and self._sums():
                found = Listing.of_names(url, self._sums())
            else:
                found = self._listed_before(url) or self._list(url)
            self._listings[url] = found
            return found

    def _list(self, url: str) -> Listing:
        found = Listing.now(url, insist(url, lambda: self.store.folder(url)))
        write_listing(self.folder, found)
        self._check_known(found)
        return found

    def _listed_before(self, url: str) -> Listing | None:
        """Returns the listing of an earlier call, if the store still agrees with its first and last name."""
        found = read_listing(self.folder, url)
        # On the web, a listing is one page.
        if found is None or (self.is_web and found.age_s > _FRESH_S):
            return None
        files = sorted(name for name, held in found.names.items() if held is not None)
        for name in dict.fromkeys((*files[:1], *files[-1:])) if found.age_s > _FRESH_S else ():
            there = insist(url, partial(self.store.look, f"{url}/{name}"))
            if there != found.names[name]:
                say(f"{url}: {name} has changed since the folder was listed on {found.listed}; listing again")
                return None
        self._from_before = True
        return found

    def _check_known(self, listing: Listing) -> None:
        """Forgets the versions of a web folder's files where those of the first or the last are others."""
        known = sorted(name for name in listing.names if self._known.get(f"{listing.url}/{name}"))
        for name in dict.fromkeys((*known[:1], *known[-1:])) if self.is_web else ():
            url = f"{listing.url}/{name}"
            before = self._known.get(url)
            if before and insist(url, partial(self.store.look, url)) != before.held:
                say(f"{url}: has changed since it was fetched; the files of its folder are fetched again")
                for other in known:
                    self._known.forget(f"{listing.url}/{other}")
                return

    def forget_listings(self) -> bool:
        """Forgets what folders hold; returns whether any of it came from an earlier process."""
        with self._lock:
            old, self._from_before = self._from_before, False
            for url in self._listings:
                (self.folder / Listing.file_name(url)).unlink(missing_ok=True)
            self._listings.clear()
            return old

    @property
    def is_web(self) -> bool:
        """Whether it is a web server, which says neither lengths nor versions in its listings."""
        return isinstance(self.store, WebStore)

    def held(self, url: str) -> Held | None:
        """Returns what is declared of a file, None where there is none; the web may not say its length."""
        found = self._listed(url)
        return self._look(url) if found == _NOT_ASKED else found

    def _listed(self, url: str) -> Held | None:
        """Returns what `held` does as far as it is known without asking for this file."""
        parent, _, name = url.rpartition("/")
        found: Held | None = _NOT_ASKED
        if not self._is_inside(parent):
            # The folder that the user named, or a file of its own: no listing says whether it has changed.
            if url not in self._looked:
                self._looked[url] = self._look(url)
            return self._looked[url]
        with contextlib.suppress(NoListingError):
            found = self.listing(parent).names.get(name)
        if found is not None and found.bytes is None and (known := self._known.get(url)):
            return known.held
        return found

    def _look(self, url: str) -> Held | None:
        try:
            return insist(url, lambda: self.store.look(url))
        except RefusedError:
            # So does a web server answer about a folder that it does not list.
            if self.is_web and url == self.base:
                return None
            raise

    def is_folder(self, url: str) -> bool:
        """Says whether there is a folder; a server that lists nothing has all without a suffix."""
        parent, _, name = url.rpartition("/")
        listed = self._listings.get(parent)
        if listed is not None and name in listed.names:
            return listed.names[name] is None
        try:
            return bool(self.listing(url).names)
        except NoListingError:
            return "." not in name or url == self.base

    def _is_inside(self, url: str) -> bool:
        return url == self.base or url.startswith(f"{self.base}/")

    # ---- files ----

    def fetch(self, url: str) -> Path:
        """Returns a file's path on this machine, fetched if need be; it may leave any time later.

        Raises:
          DataError: there is no such file, or it is not what was declared.
          DownloadError: the store refuses, or does not answer.
        """
        return self._present(url) or self.start(url).result()

    def start(self, url: str) -> Future[Path]:
        """Begins to fetch a file, beside others."""
        with self._lock:
            if url not in self._under_way:
                self._under_way[url] = future = self._threads.submit(self._bring, url)
                future.add_done_callback(lambda _: self._under_way.pop(url, None))
                return future
            return self._under_way[url]

    def keep(self, root: str, names: Iterable[str], what: str) -> Path:
        """Fetches files and keeps them on this machine until the process ends.

        Args:
          root: the URL of the folder that `names` are relative to.
          names: of the files.
          what: who needs them, for the message.

        Returns:
          A folder with these names.

        Raises:
          DataError: they do not fit at once; the line says how much is needed.
        """
        folder = self._room.kept_folder / _hash(root)[:8]
        wanted = [name for name in names if not self._room.keeps(folder / name)]
        held = (self._listed(f"{root}/{name}") for name in wanted)
        self._room.require_room_for(sum((file.bytes or 0) for file in held if file), what)
        for name, future in [(name, self.start(f"{root}/{name}")) for name in wanted]:
            path = future.result()
            while True:
                try:
                    self._room.keep(path, folder / name)
                    break
                except FileNotFoundError:
                    path = self.fetch(f"{root}/{name}")
        return folder

    def digests(self, urls: Sequence[str]) -> list[tuple[int, str]]:
        """Returns length and SHA-256 of files; those that are not known yet are fetched, with a bar."""
        missing = [url for url in urls if self._digest(url) is None]
        if not missing:
            return [self._require_digest(url) for url in urls]
        futures: list[Future[Any]] = [
            self._threads.submit(self._believe, url) if url in self._sums() else self.start(url)
            for url in missing
        ]
        try:
            with Progress(f"files of {self.base}", len(missing)) as progress:
                for future in futures:
                    future.result()
                    progress.advance()
        finally:
            for future in futures:
                future.cancel()
        return [self._require_digest(url) for url in urls]

    def _digest(self, url: str) -> tuple[int, str] | None:
        """Returns length and SHA-256 of a file as it is now, or None where they are not known."""
        held, known = self._listed(url), self._known.get(url)
        if known is not None and known.held == held:
            return known.held.bytes or 0, known.sha256
        if held is not None and held.bytes is not None and url in self._sums():
            return held.bytes, self._sums()[url]
        return None

    def _require_digest(self, url: str) -> tuple[int, str]:
        digest = self._digest(url)
        if digest is None:
            raise DataError(f"{url}: has changed in the store meanwhile; call again")
        return digest

    def _believe(self, url: str) -> None:
        """Asks for a file's length alone: the list of the folder says its digest."""
        held = self._look(url)
        if held is None:
            raise DataError(f"{url}: is not there, but {SUMS_NAME} lists it; complete the data set")
        if held.bytes is None:
            self.fetch(url)
        else:
            self._known.learn(url, held, self._sums()[url])

    def _present(self, url: str) -> Path | None:
        held = self._listed(url)
        if held is None or held.bytes is None:
            return None
        path = self._object(url, held)
        if not path.is_file():
            return None
        touch(path)
        return path

    def _object(self, url: str, held: Held) -> Path:
        name = _hash(f"{url}\0{held.bytes}\0{held.version}")[:40]
        return self.folder / "objects" / name[:2] / name

    def _bring(self, url: str) -> Path:
        held = self._listed(url)
        if held is None:
            raise DataError(f"{url}: is not there; complete the data set, or check the address")
        with contextlib.ExitStack() as alone:
            is_small = url.endswith(_IMAGES) if held.bytes is None else held.bytes < _ALONE_BYTES
            if not is_small:
                taken = f"{url}: another process is fetching it"
                alone.enter_context(self._room.cache.holding(KIND, _hash(url)[:16], taken))
            return self._present(url) or insist(url, lambda: self._transfer(url, held))

    def _transfer(self, url: str, expected: Held) -> Path:
        """Fetches a file whole, checks it, and puts it in its place."""
        with self.store.ask(url, expected if expected.bytes is not None else None) as reply:
            declared = Held(reply.head.total_bytes, reply.head.version)
            if None not in (expected.bytes, declared.bytes):
                self._require_same(url, expected, declared)
            part = self.folder / "objects" / "parts" / f".{_hash(url)[:16]}{self._room.part_suffix()}"
            digester = Digester()
            try:
                self._room.admit(part, declared.bytes or 0, url)
                with part.open("r+b") as stream:
                    for chunk in reply.chunks(_CHUNK_BYTES):
                        digester.update(chunk)
                        with writing(part, ENLARGE):
                            stream.write(chunk)
                            stream.flush()
                found = digester.result()
                if declared.bytes not in (None, found.bytes):
                    reason = f"the store declares {declared.bytes} bytes and sent {found.bytes}"
                    raise InterruptedTransferError(reason)
                if declared.bytes is None:
                    self._room.admit(part, found.bytes, url)
                self._require_equal(url, declared, reply.head.digests or {}, found)
                declared = Held(found.bytes, declared.version)
                target = self._object(url, declared)
                self._room.settle(part, target)
            finally:
                part.unlink(missing_ok=True)
        self._known.learn(url, declared, found.sha256)
        return target

    def _require_same(self, url: str, expected: Held, found: Held | None) -> None:
        if found != expected:
            self._forget(url)
            length, version = (found.bytes, found.version) if found else (0, "none")
            raise DataError(
                f"{url}: has changed in the store since it was listed: expected {expected.bytes} bytes, "
                f"version {expected.version}, found {length} and {version}; call again"
            )

    def _require_equal(self, url: str, held: Held, declared: Mapping[str, str], found: Digests) -> None:
        """Raises where a file that came is not the one that was declared."""
        digests = {**held.digests, **declared}
        wrong = [kind for kind, expected in digests.items() if getattr(found, kind) != expected]
        if not self.is_web and (wrong or not digests):
            # A bucket sends what it has now.
            self._require_same(url, held, self.store.look(url))
        if wrong and self.store.digest_counts(url):
            came = f"the {found.bytes} bytes that came have {getattr(found, wrong[0])}"
            raise InterruptedTransferError(f"the store declares {wrong[0]} {digests[wrong[0]]}, {came}")
        listed = self._sums().get(url, found.sha256) if url != self.base else found.sha256
        if found.sha256 != listed:
            raise DataError(
                f"{url}: expected sha256 {listed}, as {SUMS_NAME} says, found {found.sha256}; "
                "upload it again, or make the list again"
            )

    def _forget(self, url: str) -> None:
        parent = url.rpartition("/")[0]
        with self._lock:
            self._known.forget(url)
            self._listings.pop(parent, None)
            (self.folder / Listing.file_name(parent)).unlink(missing_ok=True)

    def _sums(self) -> dict[str, str]:
        """Returns the SHA-256 that the folder's own list gives for each file; nothing without a list."""
        with self._lock:
            if self._summed is None:
                self._summed = {}
                self._summed = self._read_sums(f"{self.base}/{SUMS_NAME}")
            return self._summed

    def _read_sums(self, url: str) -> dict[str, str]:
        try:
            # Asked for in any case: another list means other files.
            held = insist(url, lambda: self.store.look(url))
        except RefusedError:
            # So does a bucket answer about what is not there where it may not be listed.
            held = None
        if held is None:
            return {}
        path = self._object(url, held)
        if not path.is_file():
            path = insist(url, lambda: self._transfer(url, held))
        return parse_sums(path.read_text(encoding="utf-8", errors="replace"), self.base)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
