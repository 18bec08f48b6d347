"""The elements that the page is made of: tables, lists, notes, sections, and regions that scroll."""

from __future__ import annotations

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
    """Returns a table.

    Args:
      caption: its content.
      columns: title and class of each column; the class is that of the header and of the cells.
      rows: contents of the cells, the first of which names the row.
      class_: of the table.
    """
    head = tag("tr", [tag("th", title, scope="col", class_=name) for title, name in columns])
    classes = [name for _, name in columns[1:]]
    body = [
        tag(
            "tr",
            tag("th", first, scope="row"),
            [tag("td", c, class_=n) for c, n in zip(cells, classes, strict=True)],
        )
        for first, *cells in rows
    ]
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), class_=class_)


def drawing(parts: Iterable[Any], width: int, height: int, label: str, class_: str) -> Markup:
    """Returns an SVG element of the page, in pixels; `label` says what it shows."""
    box = f"0 0 {width} {height}"
    class_ = f"chart {class_}"
    return tag(
        "svg", parts, viewBox=box, width=width, height=height, role="img", aria_label=label, class_=class_
    )


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


def breakable(name: str) -> Markup:
    """Returns a name that may go over two lines after each `_` and `/`."""
    return join((character, tag("wbr")) if character in "_/" else character for character in name)
