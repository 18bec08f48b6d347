"""Decisions of a download, as pure functions: what to ask for, what an answer means, when to try again."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from zoo.fetch.http import ReplyHead, Timeouts

WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may pass: time-outs, too many requests, and troubles of the server itself."""


@dataclass(frozen=True)
class PartState:
    """What an interrupted download left on disk.

    Attributes:
      url: where the bytes came from.
      bytes: how many bytes are there.
      total_bytes: length of the whole file, if the server declared it.
      etag: the server's validator of the version that the bytes belong to.
      last_modified: the date of that version.
    """

    url: str
    bytes: int
    total_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` may name: a strong ETag, else the date of the last change, else nothing."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class Request(enum.Enum):
    """What to ask a server for."""

    WHOLE = "the whole file"
    REST = "the bytes that are missing"
    NOTHING = "nothing: all bytes are here"


def next_request(part: PartState | None, url: str) -> Request:
    """Returns what to ask for, given what is on disk.

    A part is only continued if the server can be told which version it belongs to; otherwise the halves of
    two versions could be joined.
    """
    if part is None or part.url != url or part.bytes == 0 or part.validator is None:
        return Request.WHOLE
    if part.total_bytes is not None and part.bytes >= part.total_bytes:
        return Request.NOTHING if part.bytes == part.total_bytes else Request.WHOLE
    return Request.REST


def request_headers(request: Request, part: PartState | None) -> dict[str, str]:
    """Returns the headers that ask for the missing bytes of that version; none for the whole file."""
    if request is not Request.REST or part is None or part.validator is None:
        return {}
    return {"Range": f"bytes={part.bytes}-", "If-Range": part.validator}


class Answer(enum.Enum):
    """What a server's reply means for the bytes on disk."""

    APPEND = "the missing bytes follow"
    REPLACE = "the whole file follows"
    COMPLETE = "nothing is missing"
    FORGET = "the bytes on disk belong to another version: ask for the whole file"
    LATER = "not now, perhaps later"
    REFUSED = "no, and asking again is no use"


def read_answer(request: Request, part: PartState | None, reply: ReplyHead) -> Answer:
    """Returns what a reply means, given what was asked for and what is on disk."""
    if reply.status in WORTH_RETRYING:
        return Answer.LATER
    if reply.status == 200:
        return Answer.REPLACE
    if request is not Request.REST or part is None:
        return Answer.REFUSED
    if reply.status == 206:
        fits = reply.range_start == part.bytes and _same_version(part, reply)
        return Answer.APPEND if fits else Answer.FORGET
    if reply.status == 416:
        ends_here = reply.total_bytes == part.bytes and _same_version(part, reply)
        return Answer.COMPLETE if ends_here else Answer.FORGET
    return Answer.FORGET if reply.status == 412 else Answer.REFUSED


def _same_version(part: PartState, reply: ReplyHead) -> bool:
    pairs: list[tuple[Any, Any]] = [
        (part.total_bytes, reply.total_bytes),
        (part.etag, reply.etag),
        (part.last_modified, reply.last_modified),
    ]
    return all(old == new for old, new in pairs if old is not None and new is not None)


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again: exponential back-off with jitter, or as long as the server asks.

    Attributes:
      attempts: how many failures in a row end the download.
      first_delay_s: the longest wait after the first failure; it doubles with each further one.
      longest_delay_s: no wait is longer, whatever the server asks for.
      progress_bytes: an attempt that brought at least so many new bytes starts the counting again.
    """

    attempts: int = 6
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    progress_bytes: int = 4 << 20

    def delay_s(self, failures: int, retry_after_s: float | None, chance: float) -> float:
        """Returns the seconds to wait after the given number of failures in a row.

        Args:
          failures: 1 after the first one.
          retry_after_s: what the server asked for.
          chance: a random number in [0, 1); it spreads clients that failed together.
        """
        if retry_after_s is not None:
            return min(max(retry_after_s, 0.0), self.longest_delay_s)
        longest = min(self.first_delay_s * 2.0 ** (failures - 1), self.longest_delay_s)
        return longest * (0.5 + 0.5 * chance)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Returns the seconds that a `Retry-After` header asks for, as a number or a date; None if neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max((when - now).total_seconds(), 0.0)


@dataclass(frozen=True)
class DownloadOptions:
    """How downloads behave; the defaults suit people, tests bring their own clock.

    Attributes:
      retry: when to try again.
      timeouts: how long to wait for a server.
      chunk_bytes: how much is read at a time.
      sleep: waits so many seconds.
      chance: gives a random number in [0, 1).
    """

    retry: RetryPolicy = RetryPolicy()
    timeouts: Timeouts = field(default_factory=Timeouts)
    chunk_bytes: int = 1 << 18
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
