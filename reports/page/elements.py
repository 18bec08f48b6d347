"""The elements that the page is made of: tables, lists, notes, sections, and regions that scroll."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from zoo.reports.page.markup import Markup, join, tag

# A table of more rows scrolls by itself on a screen.
TALL_ROWS = 30


def table(
    caption: Any,
    columns: Sequence[tuple[Any, str | None]],
    rows: Iterable[Sequence[Any]],
    class_: str | None = None,
) -> Markup:
    """Returns a table, of whose columns the titles and classes are given; the first cell names its row."""
    head = tag("tr", [tag("th", title, scope="col", class_=name) for title, name in columns])
    body = []
    for first, *others in rows:
        cells = [tag("td", it, class_=name) for it, (_, name) in zip(others, columns[1:], strict=True)]
        body.append(tag("tr", tag("th", first, scope="row"), cells))
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), class_=class_)


def drawing(parts: Iterable[Any], width: int, height: int, label: str, class_: str) -> Markup:
    """Returns an SVG element of the page, in pixels; `label` says what it shows."""
    names = {"role": "img", "aria_label": label, "class_": f"chart {class_}"}
    return tag("svg", parts, viewBox=f"0 0 {width} {height}", width=width, height=height, **names)


def svg_file(content: Iterable[Any], width: int, height: int, **attributes: Any) -> Markup:
    """Returns a whole SVG file, in pixels."""
    size = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return tag("svg", content, xmlns="http://www.w3.org/2000/svg", **size, **attributes)


def data_uri(media_type: str, data: bytes) -> str:
    """Returns an address that is the data itself."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def items(contents: Iterable[Any], label: str, class_: str | None = None) -> Markup:
    """Returns a list."""
    return tag("ul", [tag("li", content) for content in contents], class_=class_, aria_label=label)


def note(*words: Any) -> Markup:
    """Returns a paragraph in small print."""
    return tag("p", words, class_="note")


def part(title: str, anchor: str, *content: Any, class_: str | None = None) -> Markup:
    """Returns a part of an entry's section under a heading that `anchor` leads to."""
    return tag("section", tag("h3", title, id=anchor), content, class_=class_)


def details(title: str, about: str, content: Markup, class_: str | None = None) -> Markup:
    """Returns content that is folded away below its title; screen readers say `about` after the title."""
    summary = tag("summary", title, tag("span", about, class_="unseen"))
    return tag("details", summary, content, class_=class_)


def scroll(content: Markup, label: str, *, tall: bool = False) -> Markup:
    """Returns a region that scrolls by itself, also by keyboard, so that the page never does sideways."""
    class_ = "scroll tall" if tall else "scroll"
    return tag("div", content, class_=class_, role="region", aria_label=label, tabindex=0)


def scrolled_table(
    label: str, caption: Any, columns: Sequence[tuple[Any, str | None]], rows: Sequence[Any], class_: str
) -> Markup:
    """Returns a table that scrolls by itself, downwards too where it has more than `TALL_ROWS` rows."""
    return scroll(table(caption, columns, rows, class_), label, tall=len(rows) > TALL_ROWS)


def breakable(name: str) -> Markup:
    """Returns a name that may go over two lines after each `_` and `/`."""
    return join((character, tag("wbr")) if character in "_/" else character for character in name)
