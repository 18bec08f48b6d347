"""The first cell of a row, `title ([config](...), [ckpt](...))`, compared with the registry's entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.reports.tables.published import TO_ROOT, with_quirks

if TYPE_CHECKING:
    from zoo.registry import Entry
    from zoo.registry.schema import PublishedTable

_LINK = re.compile(r"\[(?P<label>[^\[\]]*)\]\((?P<target>[^()\s]*)")
_TITLE = re.compile(r"(?P<title>.*?)\s*\(?\s*(?=\[[^\[\]]*\]\()")

LinkKind = Literal["config", "checkpoint"]


@dataclass(frozen=True)
class Finding:
    """One difference between a file and the registry.

    Attributes:
      line: line of the file, from 1.
      what: the cell, link, row or column, and of which entry.
      expected: as the registry has it.
      found: as the file has it.
      known: whether the registry records it, as one of upstream's irregularities or a later edition's row.
    """

    line: int
    what: str
    expected: str
    found: str
    known: bool = False

    def __str__(self) -> str:
        known = "known: " if self.known else ""
        return f"{known}{self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class BackboneCell:
    """The first cell of a row.

    Attributes:
      text: all of it.
      title: what stands before the links.
      config: target of the link to the configuration; empty where there is none.
      checkpoint: target of the link to the checkpoint, likewise.
    """

    text: str
    title: str
    config: str
    checkpoint: str

    @property
    def links(self) -> str:
        """What follows the title."""
        return self.text[len(self.title) :].strip()


def backbone_cell(text: str) -> BackboneCell:
    """Returns the parts of the first cell of a row; links are found whatever stands around them."""
    title = _TITLE.match(text)
    targets = {link["label"]: link["target"] for link in _LINK.finditer(text)}
    return BackboneCell(
        text=text,
        title=title["title"] if title else text,
        config=targets.get("config", ""),
        checkpoint=targets.get("ckpt", ""),
    )


def config_link(entry: Entry) -> str:
    """Returns the link to an entry's configuration, as tables have it; empty where there is none."""
    return f"{TO_ROOT}{entry.config}" if entry.config else ""


def regular_link(place: LinkKind, table: PublishedTable, model: str) -> str:
    """Returns the target of a row's link by the rule of its table."""
    if place == "config":
        return TO_ROOT + table.config_pattern.replace("{model}", model)
    return table.checkpoint_pattern.replace("{model}", model)


def check_cell(line: int, cell: BackboneCell, entry: Entry, table: PublishedTable) -> Iterator[Finding]:
    """Compares the first cell of a row with its entry."""
    if cell.title != entry.title:
        yield Finding(line, f"title of {entry.name}", entry.title, cell.title or "none")
    links: tuple[tuple[LinkKind, str, str], ...] = (
        ("config", config_link(entry), cell.config),
        ("checkpoint", entry.checkpoint.url, cell.checkpoint),
    )
    for place, expected, found in links:
        if found == expected:
            yield from _quirks_of_name(line, place, entry, table)
        else:
            hint = _hint(place, expected, found, table) if found else ""
            yield Finding(
                line, f"{place} link of {entry.name}", expected or "none", f"{found or 'none'}{hint}"
            )
    yield from _check_form(line, cell, entry)


def check_links_of_stranger(line: int, cell: BackboneCell, table: PublishedTable) -> Iterator[Finding]:
    """Checks the links of a row that the registry does not have, against the rules of its table."""
    pattern = re.escape(regular_link("config", table, "{model}")).replace(re.escape("{model}"), "(.+)")
    model = re.fullmatch(pattern, cell.config)
    if cell.config and model is None:
        rule = regular_link("config", table, "*")
        yield Finding(line, f"config link of {cell.title!r}", rule, cell.config)
    if cell.checkpoint:
        rule = regular_link("checkpoint", table, model[1] if model else "*")
        prefix = folder_of_links("checkpoint", table)
        if model is not None and cell.checkpoint != rule:
            hint = _hint("checkpoint", rule, cell.checkpoint, table)
            yield Finding(line, f"checkpoint link of {cell.title!r}", rule, f"{cell.checkpoint}{hint}")
        elif not cell.checkpoint.startswith(prefix):
            yield Finding(line, f"checkpoint link of {cell.title!r}", rule, cell.checkpoint)
    if _is_unbalanced(cell.links):
        yield Finding(line, f"links of {cell.title!r}", "balanced parentheses", _parentheses(cell.links))


def _quirks_of_name(line: int, place: LinkKind, entry: Entry, table: PublishedTable) -> Iterator[Finding]:
    regular = regular_link(place, table, entry.short_name)
    for quirk in entry.quirks:
        if quirk.place == place:
            what = f"{place} link of {entry.name}, {quirk.note}"
            found = with_quirks(entry, place, regular)
            yield Finding(line, what, _file_name(regular), _file_name(found), known=True)


def _check_form(line: int, cell: BackboneCell, entry: Entry) -> Iterator[Finding]:
    """Checks the text around the links, whatever they lead to."""
    what = f"links of {entry.name}"
    regular = f"([config]({cell.config}), [ckpt]({cell.checkpoint}))"
    irregular = with_quirks(entry, "links", regular)
    balanced, found = f"balanced parentheses, {_parentheses(regular)}", _parentheses(cell.links)
    if cell.links == irregular != regular:
        notes = ", ".join(quirk.note for quirk in entry.quirks if quirk.place == "links")
        yield Finding(line, f"{what}, {notes}", balanced, found, known=True)
    elif cell.links == regular != irregular:
        yield Finding(line, what, f"upstream's quirk, {_parentheses(irregular)}", found, known=True)
    elif _is_unbalanced(cell.links):
        yield Finding(line, what, balanced, found)
    elif cell.config and cell.checkpoint and cell.links != regular:
        yield Finding(line, what, regular, cell.links)


def _hint(place: LinkKind, expected: str, found: str, table: PublishedTable) -> str:
    """Returns in brackets what is wrong with a link, where that can be told."""
    folder = folder_of_links(place, table)
    if not found.startswith(folder):
        return f" (not under {folder})"
    if found.replace("_", "") == expected.replace("_", ""):
        return " (differs in underscores only)"
    return ""


def folder_of_links(place: LinkKind, table: PublishedTable) -> str:
    """Returns the folder in which the files of a table's links are, by its rule."""
    return regular_link(place, table, "").rpartition("/")[0] + "/"


def _file_name(link: str) -> str:
    return link.rpartition("/")[2]


def _is_unbalanced(text: str) -> bool:
    found = re.sub(r"[^()]", "", text)
    while "()" in found:
        found = found.replace("()", "")
    return bool(found)


def _parentheses(text: str) -> str:
    return f"{text.count('(')} opening and {text.count(')')} closing"
