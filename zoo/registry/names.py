"""Names of entries and backbones: their spellings, globs, and what a misspelled one may have meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from zoo.errors import UnknownNameError
from zoo.registry.messages import close_matches, did_you_mean
from zoo.registry.schema import Backbone, Entry, Named

AnyNamed = TypeVar("AnyNamed", bound=Named)

_STRIDE_SUFFIX = re.compile(r"_os\d+$")
_SEPARATORS = re.compile(r"[\s_(),-]+")
_GLOB_CHARACTERS = "*?["


SPELLINGS: tuple[Callable[[Entry], tuple[str, ...]], ...] = (
    lambda entry: (entry.name,),
    lambda entry: (entry.short_name,),
    lambda entry: tuple(_STRIDE_SUFFIX.sub("", name) for name in (entry.name, entry.short_name)),
)
"""How an entry may be called, the most exact way first."""


def is_glob(text: str) -> bool:
    """Returns whether a text is a shell pattern and not a name."""
    return any(character in text for character in _GLOB_CHARACTERS)


def matching_glob(glob: str, named: Iterable[AnyNamed]) -> list[AnyNamed]:
    """Returns those whose full or short name matches a shell pattern, in any case."""
    return [each for each in named if _matches(glob, (each.name, each.short_name))]


def each_once(
    patterns: Iterable[str], by_name: Callable[[str], AnyNamed], by_glob: Callable[[str], Sequence[AnyNamed]]
) -> list[AnyNamed]:
    """Returns what names and globs stand for: in the order given, each once."""
    found: dict[str, AnyNamed] = {}
    for pattern in patterns:
        for each in by_glob(pattern) if is_glob(pattern) else [by_name(pattern)]:
            found.setdefault(each.name, each)
    return list(found.values())


def with_backbone(entries: Sequence[Entry], wanted: str) -> list[Entry]:
    """Returns the entries with a backbone, given in any case and with any separators.

    `wanted` is its kind (`swidernet`), its variant (`swidernet_sac_1_1_3`), its title as `zoo list` prints it
    (`MobilenetV3-S`), or a glob for any of them; where none is called so, a part of one (`resnet`).

    Raises:
        UnknownNameError: No entry has such a backbone.
    """
    plain = _plain(wanted)
    tests: list[Callable[[Entry], bool]] = [lambda entry: _matches(wanted, _backbone_names(entry))]
    if plain and not is_glob(wanted):
        tests = [
            lambda entry: plain in map(_plain, _backbone_names(entry)),
            lambda entry: any(plain in _plain(name) for name in _backbone_names(entry)),
        ]
    for test in tests:
        if found := [entry for entry in entries if test(entry)]:
            return found
    kinds = list(dict.fromkeys(entry.network.backbone.name for entry in entries))
    hint = did_you_mean(wanted, dict.fromkeys(name for entry in entries for name in _backbone_names(entry)))
    raise UnknownNameError(
        f"no entry has the backbone {wanted!r}{hint}; "
        f"expected one of {', '.join(kinds)}, a title, a part of one, or a glob"
    )


def suggestions(
    name: str, entries: Sequence[Entry], backbones: Sequence[Backbone], most: int = 4
) -> list[str]:
    """Returns the full names that a name, or a glob's group (`cityscapes/*`), may be a misspelling of."""
    meant: dict[str, list[str]] = {}
    for entry in entries:
        for spelling in (spelling for spellings in SPELLINGS for spelling in spellings(entry)):
            meant.setdefault(spelling, []).append(entry.name)
    for backbone in backbones:
        meant[backbone.name] = [backbone.name]
    if is_glob(name):
        group, slash, rest = name.partition("/")
        groups = dict.fromkeys(each.name.partition("/")[0] for each in (*entries, *backbones))
        if slash and group not in groups:
            return [f"{close}/{rest}" for close in close_matches(group, groups)]
    core = name.strip(_GLOB_CHARACTERS + "]").casefold()
    spellings = [spelling for spelling in meant if core and core in spelling] or close_matches(core, meant)
    return list(dict.fromkeys(full for spelling in spellings for full in meant[spelling]))[:most]


def _matches(glob: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name.casefold(), glob.casefold()) for name in names)


def _backbone_names(entry: Entry) -> tuple[str, str, str]:
    """Returns the kind of backbone ("swidernet"), the variant that the entry's name spells, and the title."""
    return entry.network.backbone.name, _STRIDE_SUFFIX.sub("", entry.short_name), entry.title


def _plain(text: str) -> str:
    return _SEPARATORS.sub("", text.casefold())
