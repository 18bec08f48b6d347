"""Numbers, sizes and times as people read them."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from zoo.errors import UsageError

_UNITS = ("B", "kB", "MB", "GB", "TB")


def counted(number: int, one: str, many: str = "") -> str:
    """Returns a number with its noun.

    >>> counted(1, "entry", "entries"), counted(1200, "image")
    ('1 entry', '1,200 images')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def readable_size(size_bytes: float) -> str:
    """Returns a size in powers of 1000.

    >>> readable_size(999), readable_size(9_696_695)
    ('999 B', '9.7 MB')
    """
    size = float(size_bytes)
    for unit in _UNITS[:-1]:
        if size < 999.95 or (unit == "B" and size < 1000):
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def parse_size(text: str) -> int:
    """Returns the bytes of a size like `readable_size` writes it, in powers of 1000.

    >>> parse_size("20GB"), parse_size("1.5 MB")
    (20000000000, 1500000)

    Raises:
      UsageError: it is no size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?)B?\s*", text)
    if match is None or not (size := int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))):
        raise UsageError(f"{text}: expected a size above 0, as 20GB or 500MB")
    return size


# Control characters, ends of lines and paragraphs, marks of reading direction, and halves of characters.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Returns a text in which what a terminal or a browser would obey is written out, as JSON writes it.

    Names of files and classes come from anywhere: one may hold a code that clears the screen, or a mark that
    turns the reading direction. Tabs and ends of lines stay.

    >>> visible("safe" + chr(27) + "[2J")
    'safe\\\\u001b[2J'
    """
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def utc_now() -> str:
    """Returns the time, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
