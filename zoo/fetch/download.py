"""Downloads: one file from a URL to its place in the cache, whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import DownloadError, VerificationError, cannot_write
from zoo.fetch.locations import download_name
from zoo.fetch.resume import Answer, Part, read_answer, request_headers
from zoo.fetch.transports import Transport, transport_for
from zoo.fetch.unpack import Limits
from zoo.fetch.verify import Expectation, KnownFile, declared_difference, digest_file, read_known, recognise
from zoo.files.cache import SET_CACHE, Cache, remove
from zoo.files.progress import Progress
from zoo.files.words import readable_size
from zoo.remote.http import HttpLocation, InterruptedTransferError, retry_after_s
from zoo.remote.stores import Reply

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class DownloadOptions:
    """How downloads behave; the defaults suit people, tests bring their own clock."""

    attempts: int = 6  # so many failures in a row end the download
    first_delay_s: float = 1.0  # the longest wait after the first failure; it doubles with each further one
    longest_delay_s: float = 60.0  # no wait is longer, whatever the server asks for
    progress_bytes: int = 4 << 20  # an attempt that brought so many new bytes starts the counting again
    timeouts_s: tuple[float, float] = (20.0, 60.0)  # for a connection, and for further bytes
    chunk_bytes: int = 1 << 18  # read at a time
    most_undeclared_bytes: int = Limits.total_bytes  # of a file whose length nobody declared
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random  # in [0, 1); it spreads clients that failed together
    show_progress: bool = True  # on standard error

    def delay_s(self, failures: int, retry_after_s: float | None) -> float:
        """Returns the seconds to wait after so many failures in a row, or as long as the server asks."""
        if retry_after_s is not None:
            return min(max(retry_after_s, 0.0), self.longest_delay_s)
        longest = min(self.first_delay_s * 2.0 ** (failures - 1), self.longest_delay_s)
        return longest * (0.5 + 0.5 * self.chance())


def download_path(location: HttpLocation, cache: Cache) -> Path:
    """Returns where a file is, or would be, in the cache; its folder holds nothing else."""
    return cache.folder("downloads") / download_name(location.url)


def download(
    location: HttpLocation,
    cache: Cache,
    expected: Expectation = Expectation(),  # noqa: B008 - frozen
    options: DownloadOptions = DownloadOptions(),
    refresh: bool = False,
) -> KnownFile:
    """Makes sure that a file of the web is in the cache, whole and as expected.

    One process downloads at a time; the others wait and find it done. What an interrupted download left is
    continued. The file appears under its name only after every check: its declared length, the digests that
    the server declares (`x-goog-hash`), and what is expected. With `refresh` it is downloaded even if it is
    there; the old file is replaced only by a checked one.

    Raises:
      DownloadError: the file could not be fetched.
      VerificationError: what came is not what was declared or expected.
    """
    target = download_path(location, cache)
    with _alone(location, cache):
        if not refresh and (known := recognise(location.url, target, expected)) is not None:
            return known
        try:
            target.parent.mkdir(exist_ok=True)
            with transport_for(location) as http, Part(target, location.url) as part:
                return _Download(location, part, http, expected, options).run()
        except OSError as error:
            raise DownloadError(f"{location.url}: {cannot_write(target, error, SET_CACHE)}") from error
        finally:
            # A folder with nothing in it tells a user nothing.
            with contextlib.suppress(OSError):
                target.parent.rmdir()


def reread(location: HttpLocation, cache: Cache, name: str) -> None:
    """Reads a downloaded file of the entry `name` again, whole, if it is there.

    Raises VerificationError where it was changed on disk, and removes it.
    """
    target = download_path(location, cache)
    known = read_known(target) if target.is_file() else None
    if known is None:
        return
    found = digest_file(target)
    if (found.bytes, found.sha256) != (known.bytes, known.sha256):
        drop(location, cache)
        raise VerificationError(
            f"{name}: {target} was changed on disk: expected {known.bytes} bytes with sha256 "
            f"{known.sha256}, found {found.bytes} with {found.sha256}; "
            f"it was removed, `zoo fetch {name}` fetches it again"
        )


def drop(location: HttpLocation, cache: Cache) -> None:
    """Removes a downloaded file, and all that belongs to it, from the cache."""
    with _alone(location, cache):
        remove(download_path(location, cache).parent)


def _alone(location: HttpLocation, cache: Cache) -> AbstractContextManager[None]:
    taken = f"{location.url}: another process is downloading it"
    return cache.holding("downloads", download_name(location.url).parent.name, taken)


@dataclass(frozen=True)
class _Download:
    """One download: asks, writes, checks, and tries again within the policy."""

    location: HttpLocation
    part: Part
    http: Transport
    expected: Expectation
    options: DownloadOptions

    @property
    def url(self) -> str:
        """The file's URL as the user knows it."""
        return self.location.url

    def run(self) -> KnownFile:
        """Returns what is known of the landed file."""
        for last_try in (False, True):
            self._transfer()
            found = self.part.digests()
            wrong = declared_difference(self.part.declared, found)
            # What came in one piece, or what the server vouches for, would come again just the same.
            may_change = wrong is not None or (self.part.pieced and not self.part.declared)
            wrong = wrong or self.expected.difference(found)
            if wrong is None:
                return self.part.land()
            self.part.discard()
            if last_try or not may_change:
                break
            log.warning("%s: %s; downloading it again", self.url, wrong)
        raise VerificationError(f"{self.url}: {wrong}; nothing was kept")

    def _transfer(self) -> None:
        failures, furthest = 0, self.part.size_bytes
        begun_bytes = furthest
        while True:
            try:
                if self._ask():
                    return
            except InterruptedTransferError as interruption:
                self.part.pause()
                if self.part.size_bytes - furthest >= self.options.progress_bytes:
                    failures = 0
                furthest = max(furthest, self.part.size_bytes)
                failures += 1
                # Without a network, waiting is of no use; one that breaks off in the middle may come back.
                no_network = interruption.unresolved and furthest == begun_bytes
                self._wait(failures, interruption, no_network=no_network)

    def _wait(self, failures: int, interruption: InterruptedTransferError, *, no_network: bool) -> None:
        most = self.options.attempts
        if failures >= (min(2, most) if no_network else most):
            kept = self.part.size_bytes
            raise DownloadError(
                f"{self.url}: {interruption.reason}"
                + ("" if no_network else f", {failures} times in a row")
                + (f"; {readable_size(kept)} are kept and will be continued" if kept else "")
                + ("; check the network connection" if no_network else "; try again later")
            ) from interruption
        delay_s = self.options.delay_s(failures, interruption.retry_after_s)
        level = logging.INFO if no_network else logging.WARNING
        log.log(level, "%s: %s; again in %.1f s", self.url, interruption.reason, delay_s)
        self.options.sleep(delay_s)

    def _ask(self) -> bool:
        """Sends one request and takes in the reply; returns whether all bytes are there now."""
        part = self.part
        headers = request_headers(part.state, self.url)
        if headers is None:
            return True
        with self.http.ask(self.location, headers, self.options.timeouts_s) as reply:
            head = reply.head
            answer = read_answer(part.state if headers else None, head)
            status = f"the server answered {f'{head.status} {head.reason}'.strip()}"
            if answer is Answer.LATER:
                raise InterruptedTransferError(status, retry_after_s(head.retry_after))
            if answer is Answer.REFUSED:
                advice = _ADVICE.get(head.status, "asking again is no use: check the URL")
                raise DownloadError(f"{self.url}: {status}; {advice}")
            if answer is Answer.FORGET:
                log.info("%s: the file changed since the download was interrupted; starting again", self.url)
                part.discard()
            elif answer is not Answer.COMPLETE:
                self._take_in(reply, append=answer is Answer.APPEND)
        return answer is not Answer.FORGET

    def _take_in(self, reply: Reply, *, append: bool) -> None:
        part, expected, declared = self.part, self.expected, reply.head.total_bytes
        if None not in (expected.pinned_bytes, declared) and declared != expected.bytes:
            raise VerificationError(
                f"{self.url}: expected {expected.bytes} bytes, the server declares {declared} "
                f"(expected by {expected.origin}); {expected.remedy}"
            )
        part.open(reply.head, append=append)
        assert part.state is not None
        total = part.state.total_bytes
        limit = expected.pinned_bytes if total is None else total
        self._check_space(limit)
        name, done, show = part.target.name, part.size_bytes, self.options.show_progress
        with Progress(name, limit, done=done, amount=readable_size, show=show) as progress:
            for chunk in reply.chunks(self.options.chunk_bytes):
                part.write(chunk)
                progress.at(part.size_bytes)
                if limit is not None and part.size_bytes > limit:
                    came = part.size_bytes
                    part.discard()
                    sent = f"the server declares {limit} bytes and sent {came} or more"
                    raise InterruptedTransferError(sent)
                if limit is None and part.size_bytes > self.options.most_undeclared_bytes:
                    part.discard()
                    most = readable_size(self.options.most_undeclared_bytes)
                    raise DownloadError(
                        f"{self.url}: expected at most {most}, as no length is declared, found more; "
                        "check the URL, or give `bytes` in the registry"
                    )
        part.pause()
        if total is not None and part.size_bytes < total:
            raise InterruptedTransferError(f"the server declares {total} bytes and sent {part.size_bytes}")

    def _check_space(self, total_bytes: int | None) -> None:
        folder = self.part.target.parent
        needed = (total_bytes or 0) - self.part.size_bytes
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise DownloadError(
                f"{self.url}: needs {readable_size(needed)} in {folder}, {readable_size(free)} are free; "
                f"{os.strerror(errno.ENOSPC).lower()}: try `zoo cache prune`"
            )


_ADVICE = {
    **dict.fromkeys((404, 410), "the file is not there: check the URL in the registry"),
    **dict.fromkeys(
        (401, 403, 407), "it does not give the file to everybody: check the URL and the proxy settings"
    ),
}
"""What to do about a status that will not pass."""
