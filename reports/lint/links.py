"""The first cell of a row, `title ([config](...), [ckpt](...))`, compared with the registry's entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from zoo.registry import Entry
from zoo.registry.schema import PublishedTable
from zoo.reports.tables.published import TO_ROOT, with_quirks

_LINK = re.compile(r"\[(?P<label>[^\[\]]*)\]\((?P<target>[^()\s]*)")
_TITLE = re.compile(r"(?P<title>.*?)\s*\(?\s*(?=\[[^\[\]]*\]\()")

LinkKind = Literal["config", "checkpoint"]


@dataclass(frozen=True)
class Finding:
    """One difference between a file, at a line from 1, and the registry."""

    line: int
    what: str
    expected: str
    found: str
    known: bool = False
    """Whether the registry records it, as one of upstream's irregularities or a later edition's row."""

    def __str__(self) -> str:
        known = "known: " if self.known else ""
        return f"{known}{self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class BackboneCell:
    """The first cell of a row: its text, the title before the links, and their targets (empty for none)."""

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
    config, checkpoint = targets.get("config", ""), targets.get("ckpt", "")
    return BackboneCell(text, title["title"] if title else text, config, checkpoint)


def config_link(entry: Entry) -> str:
    """Returns the link to an entry's configuration, as tables have it; empty where there is none."""
    return f"{TO_ROOT}{entry.config}" if entry.config else ""


def regular_link(place: LinkKind, table: PublishedTable, model: str) -> str:
    """Returns the target of a row's link by the rule of its table."""
    pattern = TO_ROOT + table.config_pattern if place == "config" else table.checkpoint_pattern
    return table.regular(pattern, model)


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
            shown = found + _hint(place, expected, found, table) if found else "none"
            yield Finding(line, f"{place} link of {entry.name}", expected or "none", shown)
    yield from _check_form(line, cell, entry)


def check_links_of_stranger(line: int, cell: BackboneCell, table: PublishedTable) -> Iterator[Finding]:
    """Checks the links of a row that the registry does not have, against the rules of its table."""
    pattern = re.escape(regular_link("config", table, "{model}")).replace(re.escape("{model}"), "(.+)")
    model = re.fullmatch(pattern, cell.config)
    if cell.config and model is None:
        yield Finding(line, f"config link of {cell.title!r}", regular_link("config", table, "*"), cell.config)
    rule, found = regular_link("checkpoint", table, model[1] if model else "*"), cell.checkpoint
    if found and model is not None and found != rule:
        found += _hint("checkpoint", rule, found, table)
        yield Finding(line, f"checkpoint link of {cell.title!r}", rule, found)
    elif found and not found.startswith(folder_of_links("checkpoint", table)):
        yield Finding(line, f"checkpoint link of {cell.title!r}", rule, found)
    if _is_unbalanced(cell.links):
        yield Finding(line, f"links of {cell.title!r}", "balanced parentheses", _parentheses(cell.links))


def _quirks_of_name(line: int, place: LinkKind, entry: Entry, table: PublishedTable) -> Iterator[Finding]:
    regular = regular_link(place, table, entry.short_name)
    for quirk in entry.quirks:
        if quirk.place == place:
            links = regular, with_quirks(entry, place, regular)
            expected, found = (link.rpartition("/")[2] for link in links)
            yield Finding(line, f"{place} link of {entry.name}, {quirk.note}", expected, found, known=True)


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


def _is_unbalanced(text: str) -> bool:
    found = re.sub(r"[^()]", "", text)
    while "()" in found:
        found = found.replace("()", "")
    return bool(found)


def _parentheses(text: str) -> str:
    return f"{text.count('(')} opening and {text.count(')')} closing"
