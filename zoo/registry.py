"""The registry: every model, backbone and data set that is declared, found by name.

The built-in `registry.yaml` comes first, then the files of the environment variable `ZOO_REGISTRY`, then
those of `--registry`. A later file may add to what earlier ones declare and extend it, but redefines nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path

from zoo.errors import UnknownNameError
from zoo.registry_file import close_matches, did_you_mean, parse, read
from zoo.registry_layers import Declarations
from zoo.schema import Backbone, Claim, Dataset, Entry, RemoteFile

__all__ = ["Backbone", "Claim", "Dataset", "Entry", "Registry", "RemoteFile", "list_entries", "load_registry"]

ENVIRONMENT_VARIABLE = "ZOO_REGISTRY"

_STRIDE_SUFFIX = re.compile(r"_os\d+$")


@dataclass(frozen=True)
class Registry:
    """All declarations, in the order of their files.

    Attributes:
        entries: Models that can be reproduced.
        backbones: ImageNet checkpoints.
        datasets: What entries are measured on.
    """

    entries: tuple[Entry, ...]
    backbones: tuple[Backbone, ...]
    datasets: tuple[Dataset, ...]

    def resolve(self, name: str) -> Entry:
        """The entry called `name`.

        Args:
            name: The full name (`cityscapes/resnet50_os32`), or where only one entry fits, without the first
                part (`resnet50_os32`), without the output stride (`cityscapes/resnet50`), or without either.

        Raises:
            UnknownNameError: No entry fits, or several do.
        """
        for spelling in (_full_names, _short_names, _names_without_stride):
            fitting = [entry for entry in self.entries if name in spelling(entry)]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                names = ", ".join(entry.name for entry in fitting)
                raise UnknownNameError(f"{name!r} fits {len(fitting)} entries: {names}; give the full name")
        if any(name == backbone.name for backbone in self.backbones):
            message = (
                f"{name!r} is an ImageNet backbone, without decoders and heads; expected a panoptic entry"
            )
            raise UnknownNameError(f"{message}; run `zoo list` for all names")
        raise self._unknown(name)

    def find(self, name: str) -> Entry | Backbone:
        """Like `resolve`, and ImageNet backbones too, by their full name.

        Raises:
            UnknownNameError: Nothing fits, or several entries do.
        """
        for backbone in self.backbones:
            if name == backbone.name:
                return backbone
        return self.resolve(name)

    def select(
        self, patterns: Iterable[str] = (), dataset: str | None = None, backbone: str | None = None
    ) -> list[Entry]:
        """Entries that fit any of the patterns, in the registry's order.

        Args:
            patterns: Names as in `resolve`, or shell patterns (`cityscapes/*`, `*_os16`) for full or short
                names; none for all entries.
            dataset: Only entries measured on this data set.
            backbone: Only entries with this backbone: a name (`swidernet`, `swidernet_sac_1_1_3`) or a shell
                pattern (`resnet50*`).

        Raises:
            UnknownNameError: A name or a pattern that fits no entry, or a data set that does not exist.
        """
        wanted: set[str] | None = None
        for pattern in patterns:
            wanted = wanted or set()
            if not any(character in pattern for character in "*?["):
                wanted.add(self.resolve(pattern).name)
                continue
            fitting = {
                entry.name
                for entry in self.entries
                if fnmatchcase(entry.name, pattern) or fnmatchcase(entry.short_name, pattern)
            }
            if not fitting:
                raise UnknownNameError(f"no entry fits {pattern!r}; run `zoo list` for all names")
            wanted |= fitting
        if dataset is not None:
            self.dataset(dataset)
        return [
            entry
            for entry in self.entries
            if (wanted is None or entry.name in wanted)
            and (dataset is None or entry.dataset == dataset)
            and (backbone is None or any(fnmatchcase(name, backbone) for name in _backbone_names(entry)))
        ]

    def select_backbones(self, patterns: Iterable[str] = ()) -> list[Backbone]:
        """ImageNet backbones that fit any of the patterns, in the registry's order.

        Args:
            patterns: Names or shell patterns, for full or short names; none for all.

        Raises:
            UnknownNameError: A name or a pattern that fits none.
        """
        patterns = list(patterns)
        wanted = set() if patterns else {backbone.name for backbone in self.backbones}
        for pattern in patterns:
            fitting = {
                backbone.name
                for backbone in self.backbones
                if fnmatchcase(backbone.name, pattern) or fnmatchcase(backbone.short_name, pattern)
            }
            if not fitting:
                raise UnknownNameError(
                    f"no ImageNet backbone fits {pattern!r}; run `zoo list --backbones` for all names"
                )
            wanted |= fitting
        return [backbone for backbone in self.backbones if backbone.name in wanted]

    def dataset(self, name: str) -> Dataset:
        """The data set called `name`.

        Raises:
            UnknownNameError: There is none.
        """
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        names = [dataset.name for dataset in self.datasets]
        raise UnknownNameError(
            f"no data set {name!r}{did_you_mean(name, names)}; expected one of {', '.join(names)}"
        )

    def _unknown(self, name: str) -> UnknownNameError:
        meant: dict[str, list[str]] = {}
        for entry in self.entries:
            for spelling in (*_full_names(entry), *_short_names(entry), *_names_without_stride(entry)):
                meant.setdefault(spelling, []).append(entry.name)
        for backbone in self.backbones:
            meant[backbone.name] = [backbone.name]
        spellings = [spelling for spelling in meant if name and name in spelling] or close_matches(
            name, meant
        )
        suggestions = list(dict.fromkeys(full for spelling in spellings for full in meant[spelling]))[:4]
        hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ";"
        return UnknownNameError(f"no entry {name!r}{hint} run `zoo list` for all names")


def load_registry(files: Sequence[str | os.PathLike[str]] = ()) -> Registry:
    """Loads the built-in registry, the files of `ZOO_REGISTRY` (separated as in `PATH`), and `files`.

    Raises:
        RegistryError: A file that does not follow the schema: file, line, key path, expected, found.
    """
    listed = [path for path in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if path]
    paths = {Path(path).resolve(): path for path in (*listed, *files)}
    builtin = resources.files("zoo").joinpath("registry.yaml").read_text(encoding="utf-8")
    declared = Declarations([parse(builtin, "zoo/registry.yaml"), *map(read, paths.values())])
    datasets = declared.datasets()
    return Registry(declared.entries(), declared.backbones(), datasets)


def list_entries(
    *patterns: str,
    dataset: str | None = None,
    backbone: str | None = None,
    files: Sequence[str | os.PathLike[str]] = (),
) -> list[Entry]:
    """Entries of the registry, those of `ZOO_REGISTRY` and `files` included; see `Registry.select`."""
    return load_registry(files).select(patterns, dataset=dataset, backbone=backbone)


def _full_names(entry: Entry) -> tuple[str, ...]:
    return (entry.name,)


def _short_names(entry: Entry) -> tuple[str, ...]:
    return (entry.short_name,)


def _names_without_stride(entry: Entry) -> tuple[str, ...]:
    return tuple(_STRIDE_SUFFIX.sub("", name) for name in (entry.name, entry.short_name))


def _backbone_names(entry: Entry) -> tuple[str, str]:
    """The kind of backbone ("swidernet"), and the variant that the entry's name spells."""
    return entry.network.backbone.name, _STRIDE_SUFFIX.sub("", entry.short_name)
