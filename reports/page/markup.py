"""HTML and SVG written as nested calls; whatever is not markup itself is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from zoo.files.words import visible


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


# Elements that have no end tag in HTML.
_VOID_ELEMENTS = frozenset({"br", "img", "link", "meta", "wbr"})


def tag(element: str, /, *content: Any, **attributes: Any) -> Markup:
    """Returns one element; its content is text (escaped), markup, or iterables of these, None is left out.

    Of attributes, an underscore at the end is dropped (`class_`), others become hyphens (`aria_label`); None
    and False leave the attribute out, True gives one without a value. Numbers are written short.
    """
    words = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{escape(visible(_text(value)))}"')
    start = f"<{' '.join(words)}>"
    return Markup(start if element in _VOID_ELEMENTS else f"{start}{join(content)}</{element}>")


def join(parts: Iterable[Any]) -> Markup:
    """Returns the parts one after another, escaped where they are not markup."""
    return Markup("".join(_content(part) for part in parts))


def _content(part: Any) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, (str, int, float)):
        return escape(visible(_text(part)), quote=False)
    return join(part)


def _text(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
