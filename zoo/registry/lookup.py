"""The registry: every model, backbone and data set that is declared, found by name.

The built-in `registry.yaml` comes first, then the files of the environment variable `ZOO_REGISTRY`, then
those of `--registry`. A later file may add to what earlier ones declare and extend it, but redefines nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import NoReturn, TypeAlias

from zoo.errors import UnknownNameError
from zoo.registry.declarations import Declarations
from zoo.registry.messages import Problems, did_you_mean
from zoo.registry.names import SPELLINGS, each_once, matching_glob, suggestions, with_backbone
from zoo.registry.schema import Backbone, DatasetDeclaration, Entry
from zoo.registry.yaml_file import BUILTIN, RegistryFile, parse, read
from zoo.remote.path import path_at

ENVIRONMENT_VARIABLE = "ZOO_REGISTRY"


@dataclass(frozen=True)
class Registry:
    """All declarations, in the order of their files."""

    entries: tuple[Entry, ...]
    backbones: tuple[Backbone, ...]
    datasets: tuple[DatasetDeclaration, ...]

    def resolve(self, name: str) -> Entry:
        """Returns the entry called `name`.

        That is the full name (`cityscapes/resnet50_os32`); or, where only one entry matches, without its
        first part (`resnet50_os32`), without the output stride (`cityscapes/resnet50`), or without either.

        Raises:
            UnknownNameError: No entry matches, or several do.
        """
        for spelling in SPELLINGS:
            matching = [entry for entry in self.entries if name in spelling(entry)]
            if len(matching) == 1:
                return matching[0]
            if matching:
                names = ", ".join(entry.name for entry in matching)
                raise UnknownNameError(
                    f"{name!r} matches {len(matching)} entries: {names}; give the full name"
                )
        if any(name == backbone.name for backbone in self.backbones):
            message = "is an ImageNet backbone, without decoders and heads; expected a panoptic entry"
            raise UnknownNameError(f"{name!r} {message}; run `zoo list` for all names")
        raise UnknownNameError(f"no entry {name!r}{self._hint(name)}")

    def find(self, name: str) -> Entry | Backbone:
        """Returns what `resolve` does, and ImageNet backbones too, by their full name."""
        named = {backbone.name: backbone for backbone in self.backbones}
        return named.get(name) or self.resolve(name)

    def resolve_all(self, patterns: Iterable[str]) -> list[Entry]:
        """Returns the entries that names and globs stand for: in the order given, each once.

        Names are as in `resolve`; globs (`cityscapes/*`, `*_os16`) match full or short names, in any case.

        Raises:
            UnknownNameError: A name or a glob that matches no entry, or a name that matches several.
        """
        return each_once(
            patterns, self.resolve, lambda glob: matching_glob(glob, self.entries) or self._none_matches(glob)
        )

    def find_all(self, patterns: Iterable[str]) -> list[Entry | Backbone]:
        """Returns what `resolve_all` does, and ImageNet backbones too.

        A glob that matches an entry stands for entries alone: only `imagenet/*` and its like mean backbones.
        """
        return each_once(
            patterns,
            self.find,
            lambda glob: (
                matching_glob(glob, self.entries)
                or matching_glob(glob, self.backbones)
                or self._none_matches(glob)
            ),
        )

    def select(
        self,
        patterns: Iterable[str] = (),
        dataset: str | None = None,
        backbone: str | None = None,
        project: str | None = None,
    ) -> list[Entry]:
        """Returns the entries that match any of the patterns, in the registry's order.

        Patterns are as in `resolve_all`, none standing for all entries; a `dataset`, a `backbone` as in
        `zoo.registry.names.with_backbone`, or a `project` of upstream's ("axial_deeplab"), leaves only the
        entries measured on it, that have it, or that belong to it.

        Raises:
            UnknownNameError: A name, a pattern, a data set, a backbone or a project that matches nothing, or
                no entry that all of them match.
        """
        patterns = list(patterns)
        found: Sequence[Entry] = self.resolve_all(patterns) if patterns else self.entries
        if dataset is not None:
            self.dataset(dataset)
        if backbone is not None:
            known = with_backbone(self.entries, backbone)
            found = [entry for entry in found if entry in known]
        projects = dict.fromkeys(entry.project for entry in self.entries)
        if project is not None and project not in projects:
            hint = did_you_mean(project, projects)
            raise UnknownNameError(f"no project {project!r}{hint}; expected one of {', '.join(projects)}")
        found = [
            entry
            for entry in self.entries
            if entry in found and dataset in (None, entry.dataset) and project in (None, entry.project)
        ]
        if not found:
            filters = {"--dataset": dataset, "--backbone": backbone, "--project": project}
            asked = [*patterns, *(f"{option} {value}" for option, value in filters.items() if value)]
            raise UnknownNameError(f"no entry matches all of: {', '.join(asked)}; leave one of them out")
        return found

    def select_backbones(self, patterns: Iterable[str] = ()) -> list[Backbone]:
        """Returns the ImageNet backbones that match any of the patterns (none: all), in the registry's order.

        Raises UnknownNameError for a name or a glob that matches none.
        """

        def matching(pattern: str) -> list[Backbone]:
            if found := matching_glob(pattern, self.backbones):
                return found
            names = [name for each in self.backbones for name in (each.name, each.short_name)]
            raise UnknownNameError(
                f"no ImageNet backbone matches {pattern!r}{did_you_mean(pattern, names)}; "
                "run `zoo list --backbones` for all names"
            )

        wanted = [backbone for pattern in patterns for backbone in matching(pattern)]
        return [backbone for backbone in self.backbones if backbone in wanted or not wanted]

    def dataset(self, name: str) -> DatasetDeclaration:
        """Returns the data set called `name`; raises UnknownNameError where there is none."""
        named = {dataset.name: dataset for dataset in self.datasets}
        if name not in named:
            raise UnknownNameError(
                f"no data set {name!r}{did_you_mean(name, named)}; expected one of {', '.join(named)}"
            )
        return named[name]

    def _none_matches(self, glob: str) -> NoReturn:
        if matching_glob(glob, self.backbones):
            raise UnknownNameError(
                f"no entry matches {glob!r}, only ImageNet backbones do; `zoo list --backbones` shows them"
            )
        raise UnknownNameError(f"no entry matches {glob!r}{self._hint(glob)}")

    def _hint(self, name: str) -> str:
        close = suggestions(name, self.entries, self.backbones)
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        return f"{meant}; run `zoo list` for all names"


RegistryLike: TypeAlias = Registry | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A loaded registry, or registry files: one path or URL, or several."""


def load_registry(files: RegistryLike | None = None, parsed: Sequence[RegistryFile] = ()) -> Registry:
    """Loads the built-in registry, the files of `ZOO_REGISTRY` (separated as in `PATH`), `files`, `parsed`.

    What is `parsed` takes the place of the file that it calls itself after. A loaded registry is returned as
    it is.

    Raises:
        RegistryError: Files that do not follow the schema: a line for each problem, with file, line, key
            path, expected, found.
    """
    if isinstance(files, Registry):
        return files
    if isinstance(files, (str, os.PathLike)):
        files = [files]
    # The colon of a URL, and that of its port, separate nothing.
    separator = rf"{re.escape(os.pathsep)}(?!//|[0-9]+/)"
    listed = [path for path in re.split(separator, os.environ.get(ENVIRONMENT_VARIABLE, "")) if path]
    paths = {path_at(path).resolve(): path for path in (*listed, *(files or ()))}
    for file in parsed:
        paths.pop(path_at(file.label).resolve(), None)
    problems, read_files = Problems(), [_builtin_file()]
    for path in paths.values():
        with problems.collected():
            read_files.append(read(path))
    problems.check()
    return Registry(*Declarations([*read_files, *parsed]).validated())


def load_builtin_registry() -> Registry:
    """Loads the built-in registry alone, whatever files the user has."""
    return Registry(*Declarations([_builtin_file()]).validated())


def _builtin_file() -> RegistryFile:
    return parse(resources.files("zoo").joinpath("registry.yaml").read_text(encoding="utf-8"), BUILTIN)


def list_entries(
    *patterns: str,
    dataset: str | None = None,
    backbone: str | None = None,
    project: str | None = None,
    files: RegistryLike = (),
) -> list[Entry]:
    """Returns entries of the registry, with `ZOO_REGISTRY` and `files`; see `Registry.select`."""
    return load_registry(files).select(patterns, dataset=dataset, backbone=backbone, project=project)
