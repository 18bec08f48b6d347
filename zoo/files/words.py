"""Words of messages that depend on numbers."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Returns a number with its noun.

    >>> counted(1, "entry", "entries"), counted(1200, "image")
    ('1 entry', '1,200 images')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
