"""Downloads: one file from a URL to its place on disk, whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

from zoo.errors import DownloadError, VerificationError, cannot_write
from zoo.fetch.http import HttpReply, HttpTransport, InterruptedTransferError, ReplyHead
from zoo.fetch.locations import HttpLocation
from zoo.fetch.part import Part, Record, cached_file, record_path
from zoo.fetch.progress import Meter, ProgressCallback, StderrProgress
from zoo.fetch.resume import (
    Answer,
    DownloadOptions,
    Request,
    next_request,
    read_answer,
    request_headers,
    retry_after_s,
)
from zoo.fetch.verify import Expectation, declared_difference
from zoo.files.cache import SET_CACHE, touch
from zoo.files.words import readable_size

log = logging.getLogger("zoo")


class Download:
    """One download: asks, writes, checks, and tries again within the policy.

    Args:
      url: the file's URL as the user knows it.
      location: where to ask for it.
      target: where it goes; its folder is made.
      expected: what it must be, if known.
      options: retries and time-outs.
      progress: takes reports; None shows them on standard error.
    """

    def __init__(
        self,
        url: str,
        location: HttpLocation,
        target: Path,
        expected: Expectation | None = None,
        options: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
        progress: ProgressCallback | None = None,
    ) -> None:
        self._url = url
        self._location = location
        self._target = target
        self._expected = expected
        self._options = options
        self._part = Part(target, url)
        self._http = HttpTransport(options.timeouts)
        self._meter = Meter(target.name, progress or StderrProgress())

    def run(self, lock: AbstractContextManager[None], *, refresh: bool = False) -> Record:
        """Makes sure that the file is on disk, whole and as expected.

        One process downloads at a time; the others wait and find it done. What an interrupted download left
        is continued. The file appears under its name only after every check: its declared length, the
        digests that the server declares (`x-goog-hash`), and what is expected.

        Args:
          lock: the lock between processes.
          refresh: download even if it is there; the old file is replaced only by a checked one.

        Raises:
          DownloadError: the file could not be fetched.
          VerificationError: what came is not what was declared or expected.
        """
        folder = self._target.parent
        with lock:
            if not refresh and (record := cached_file(self._url, self._target, self._expected)) is not None:
                touch(record_path(self._target))
                return record
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with self._http, self._part:
                    return self._run()
            except OSError as error:
                raise DownloadError(f"{self._url}: {cannot_write(self._target, error, SET_CACHE)}") from error
            finally:
                self._meter.end()
                # A folder with nothing in it tells a user nothing.
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _run(self) -> Record:
        for last_try in (False, True):
            self._transfer()
            found = self._part.digests()
            wrong = declared_difference(self._part.declared, found)
            undeclared = wrong is not None
            pieced = self._part.pieced and not self._part.declared
            if wrong is None and self._expected is not None:
                wrong = self._expected.difference(found.bytes, found.sha256)
            if wrong is None:
                return self._part.land()
            self._part.discard()
            # What came in one piece, or what the server vouches for, would come again just the same.
            if last_try or not (undeclared or pieced):
                raise VerificationError(f"{self._url}: {wrong}; nothing was kept")
            log.warning("%s: %s; downloading it again", self._url, wrong)
        raise AssertionError("unreachable")

    def _transfer(self) -> None:
        failures, furthest = 0, self._part.size_bytes
        begun_bytes = furthest
        while True:
            try:
                if self._ask():
                    return
            except InterruptedTransferError as interruption:
                self._part.pause()
                if self._part.size_bytes - furthest >= self._options.retry.progress_bytes:
                    failures = 0
                furthest = max(furthest, self._part.size_bytes)
                failures += 1
                # Without a network, waiting is of no use; one that breaks off in the middle may come back.
                no_network = interruption.unresolved and furthest == begun_bytes
                self._wait(failures, interruption, no_network=no_network)

    def _wait(self, failures: int, interruption: InterruptedTransferError, *, no_network: bool) -> None:
        retry = self._options.retry
        if failures >= (min(2, retry.attempts) if no_network else retry.attempts):
            kept = self._part.size_bytes
            raise DownloadError(
                f"{self._url}: {interruption.reason}"
                + ("" if no_network else f", {failures} times in a row")
                + (f"; {readable_size(kept)} are kept and will be continued" if kept else "")
                + ("; check the network connection" if no_network else "; try again later")
            ) from interruption
        delay_s = retry.delay_s(failures, interruption.retry_after_s, self._options.chance())
        level = logging.INFO if no_network else logging.WARNING
        log.log(level, "%s: %s; again in %.1f s", self._url, interruption.reason, delay_s)
        self._options.sleep(delay_s)

    def _ask(self) -> bool:
        """Sends one request and takes in the reply; returns whether all bytes are there now."""
        part = self._part
        request = next_request(part.state, self._url)
        if request is Request.NOTHING:
            return True
        with self._http.ask(self._location, request_headers(request, part.state)) as reply:
            head = reply.head
            answer = read_answer(request, part.state, head)
            if answer is Answer.COMPLETE:
                return True
            if answer is Answer.FORGET:
                log.info("%s: the file changed since the download was interrupted; starting again", self._url)
                part.discard()
                return False
            status = f"the server answered {f'{head.status} {head.reason}'.strip()}"
            if answer is Answer.LATER:
                wait_s = retry_after_s(head.retry_after, datetime.now(timezone.utc))
                raise InterruptedTransferError(status, wait_s)
            if answer is Answer.REFUSED:
                raise DownloadError(f"{self._url}: {status}; {_advice(head)}")
            self._check_declared_length(head)
            if answer is Answer.REPLACE:
                part.begin(head)
            else:
                part.resume(head)
            self._take_in(reply)
        return True

    def _take_in(self, reply: HttpReply) -> None:
        part = self._part
        assert part.state is not None
        total = part.state.total_bytes
        limit = total
        if limit is None and self._expected is not None and self._expected.pinned:
            limit = self._expected.bytes
        self._check_space(limit)
        self._meter.start(part.size_bytes, limit)
        for chunk in reply.chunks(self._options.chunk_bytes):
            part.write(chunk)
            self._meter.at(part.size_bytes)
            if limit is not None and part.size_bytes > limit:
                came = part.size_bytes
                part.discard()
                raise InterruptedTransferError(f"the server declares {limit} bytes and sent {came} or more")
        part.pause()
        if total is not None and part.size_bytes < total:
            raise InterruptedTransferError(f"the server declares {total} bytes and sent {part.size_bytes}")

    def _check_declared_length(self, head: ReplyHead) -> None:
        expected = self._expected
        if expected is None or not expected.pinned or None in (expected.bytes, head.total_bytes):
            return
        if head.total_bytes != expected.bytes:
            raise VerificationError(
                f"{self._url}: expected {expected.bytes} bytes, the server declares {head.total_bytes} "
                f"(expected by {expected.origin}); {expected.remedy}"
            )

    def _check_space(self, total_bytes: int | None) -> None:
        if total_bytes is None:
            return
        folder = self._target.parent
        needed = total_bytes - self._part.size_bytes
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise DownloadError(
                f"{self._url}: needs {readable_size(needed)} in {folder}, {readable_size(free)} are free; "
                f"{os.strerror(errno.ENOSPC).lower()}: try `zoo cache prune`"
            )


def _advice(head: ReplyHead) -> str:
    if head.status in (404, 410):
        return "the file is not there: check the URL in the registry"
    if head.status in (401, 403, 407):
        return "it does not give the file to everybody: check the URL and the proxy settings"
    return "asking again is no use: check the URL"
