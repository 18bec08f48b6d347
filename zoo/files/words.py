"""Numbers, sizes and times as people read them."""

from __future__ import annotations

from datetime import datetime, timezone


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
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95 or (unit == "B" and size < 1000):
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def utc_now() -> str:
    """Returns the time, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
