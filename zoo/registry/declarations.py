"""Merges the declarations of all registry files into validated objects, and places the errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, Literal, TypeVar, get_args

from pydantic import ValidationError

from zoo.errors import RegistryError
from zoo.registry.messages import KeyPath, Problems, describe_value, did_you_mean, explain_error
from zoo.registry.schema import Backbone, DatasetDeclaration, Entry, EntryRow, KMaxRow
from zoo.registry.yaml_file import BUILTIN, FILE_KEYS, RegistryFile

Section = Literal["datasets", "templates", "entries", "backbones"]
SECTIONS: tuple[Section, ...] = get_args(Section)

# A value of these keys is one statement: a later layer replaces it whole.
REPLACED_KEYS = FILE_KEYS | {"published", "related", "quirks"}

# What an entry says about its own row of a table; an entry that extends it never takes it over.
OWN_KEYS = frozenset({"published", "related", "quirks", "note"})

# What is inherited only as long as nothing changes that it is a statement about: a key that an heir writes
# -> the keys that it does not inherit then.
_SIZES = frozenset({"config", "parameters", "multiply_adds"})
OUTDATED_KEYS = {
    "checkpoint": _SIZES | {"saved_model", "training"},
    "network": _SIZES,
    "evaluation": _SIZES,
}

_FULL_NAME = re.compile(r"[\w.+-]+/[\w.+-]+")
_PLAIN_NAME = re.compile(r"[\w.+-]+")

AnySchema = TypeVar("AnySchema", EntryRow, Backbone, DatasetDeclaration)
AnyDeclared = TypeVar("AnyDeclared", Entry, Backbone, DatasetDeclaration)


@dataclass(frozen=True)
class _Declaration:
    """One named mapping of a file: a row, a template, a data set."""

    file: RegistryFile
    section: Section
    name: str

    @property
    def path(self) -> KeyPath:
        return (self.section, self.name)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = self.file.content[self.section][self.name]
        return body


class Declarations:
    """The declarations of all files, before their templates are merged in.

    Raises:
        RegistryError: Files break the layout of a registry: a line for each problem.
    """

    def __init__(self, files: Iterable[RegistryFile]) -> None:
        self._by_section: dict[Section, dict[str, _Declaration]] = {section: {} for section in SECTIONS}
        problems = Problems()
        for file in files:
            errors = list(_layout_errors(file))
            problems.add(*errors)
            for section in SECTIONS if not errors else ():
                for name in file.content.get(section, {}):
                    with problems.collected():
                        self._add(_Declaration(file, section, name))
        problems.check()

    def validated(
        self,
    ) -> tuple[tuple[Entry, ...], tuple[Backbone, ...], tuple[DatasetDeclaration, ...]]:
        """Returns all entries, ImageNet backbones and data sets, each in the order of their files.

        Raises:
            RegistryError: Some do not follow the schema: a line for each problem.
        """
        problems = Problems()
        backbones = partial(self._validate, Backbone)
        found = (
            self._each("entries", self._entry, problems),
            self._each("backbones", backbones, problems),
            self._each("datasets", self._dataset, problems),
        )
        problems.check()
        return found

    def _each(
        self, section: Section, make: Callable[[_Declaration], AnyDeclared], problems: Problems
    ) -> tuple[AnyDeclared, ...]:
        made = []
        for declaration in self._by_section[section].values():
            with problems.collected():
                made.append(make(declaration))
        return tuple(made)

    def _dataset(self, declaration: _Declaration) -> DatasetDeclaration:
        dataset, file = self._validate(DatasetDeclaration, declaration), declaration.file
        if file.label != BUILTIN:
            dataset._own_place = f"{file.label}:{file.line((*declaration.path, 'images'))}"
        return dataset

    def _entry(self, declaration: _Declaration) -> Entry:
        row = self._validate(EntryRow, declaration)
        known = self._by_section["datasets"]
        if row.dataset not in known:
            message = f"expected one of the data sets {', '.join(known)}, found {row.dataset!r}"
            raise self._error(declaration, ("dataset",), message + did_you_mean(row.dataset, known))
        return row.entry()

    def _add(self, new: _Declaration) -> None:
        shared: tuple[Section, ...] = ("entries", "backbones")
        for section in shared if new.section in shared else (new.section,):
            if old := self._by_section[section].get(new.name):
                first = f"{old.file.label}:{old.file.line(old.path)}"
                raise new.file.error(new.path, f"expected a new name, found one that is defined in {first}")
        self._by_section[new.section][new.name] = new

    def _validate(self, model: type[AnySchema], declaration: _Declaration) -> AnySchema:
        # Before anything is merged: what it extends is there, and never extends itself.
        list(self._layers(declaration))
        merged = self._merged(declaration)
        merged.pop("extends", None)
        model = _row_schema(merged) if model is EntryRow else model  # type: ignore[assignment]
        if "name" in merged:
            message = "expected no such key, the name being the key of the whole mapping"
            raise self._error(declaration, ("name",), f"{message}; found {describe_value(merged['name'])}")
        try:
            return model.model_validate({**merged, "name": declaration.name})
        except ValidationError as error:
            # A misspelled key explains a missing one, not the other way round.
            details = error.errors(include_url=False)
            details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
            problems = Problems()
            for path, message in (explain_error(model, detail) for detail in details):
                problems.add(self._error(declaration, path, message))
            problems.check()
            raise

    def _bases(self, declaration: _Declaration) -> Iterator[_Declaration]:
        """Yields what a declaration itself extends, weakest first."""
        extends = declaration.body.get("extends", [])
        for name in [extends] if isinstance(extends, str) else extends:
            section: Section = "entries" if "/" in name and declaration.section == "entries" else "templates"
            base = self._by_section[section].get(name)
            if base is None:
                known = [*self._by_section["templates"], *self._by_section["entries"]]
                message = f"expected a template or an entry, found {name!r}{did_you_mean(name, known)}"
                raise declaration.file.error((*declaration.path, "extends"), message)
            yield base

    def _merged(self, declaration: _Declaration) -> dict[str, Any]:
        """Returns what a declaration says together with all that it extends."""
        merged: dict[str, Any] = {}
        from_entries: set[str] = set()
        for base in (*self._bases(declaration), declaration):
            body, is_heir = (declaration.body, True) if base is declaration else (self._merged(base), False)
            is_inherited = not is_heir and base.section == "entries"
            if is_inherited:
                body = {key: value for key, value in body.items() if key not in OWN_KEYS}
            outdated = {it for key, keys in OUTDATED_KEYS.items() if key in body for it in keys}
            for key in outdated & from_entries:
                merged.pop(key, None)
            merged = _merge(merged, body)
            from_entries |= body.keys() if is_inherited else set()
        return merged

    def _layers(
        self, declaration: _Declaration, trail: tuple[_Declaration, ...] = ()
    ) -> Iterator[tuple[_Declaration, bool]]:
        """Yields what `declaration` extends, weakest first, then itself; with each, if it is inherited."""
        trail = (*trail, declaration)
        for base in self._bases(declaration):
            if base in trail:
                cycle = " -> ".join(item.name for item in (*trail, base))
                message = f"entries extend each other in a cycle: {cycle}"
                raise declaration.file.error((*declaration.path, "extends"), message)
            for layer, _ in self._layers(base, trail):
                yield layer, True
        yield declaration, False

    def _error(self, declaration: _Declaration, path: KeyPath, message: str) -> RegistryError:
        """Returns the error at the layer that wrote the value at `path`; else at the declaration itself."""
        # A list is written whole, by one layer: its items belong to that layer, those that are missing too.
        written = tuple(takewhile(lambda part: isinstance(part, str), path))
        for layer, is_inherited in reversed(list(self._layers(declaration))):
            if is_inherited and layer.section == "entries" and path[0] in OWN_KEYS:
                continue
            if layer.file.contains((*layer.path, *written)):
                through = f" (extended by {declaration.section}.{declaration.name})" if is_inherited else ""
                return layer.file.error((*layer.path, *path), message + through)
        return declaration.file.error((*declaration.path, *path), message)


def _row_schema(merged: dict[str, Any]) -> type[EntryRow]:
    """Returns the schema of a row: a network with a head for the classes of its masks is a kMaX-DeepLab."""
    network = merged.get("network")
    return KMaxRow if isinstance(network, dict) and "transformer_class_head" in network else EntryRow


def _layout_errors(file: RegistryFile) -> Iterator[RegistryError]:
    """Yields what is wrong with the sections and names of a file."""
    known = ("version", *SECTIONS)
    for key in file.content:
        if key not in known:
            hint = did_you_mean(str(key), known)
            yield file.error((key,), f"expected one of the keys {', '.join(known)}, found {key!r}{hint}")
    if file.content.get("version", 1) != 1:
        yield file.error(("version",), f"expected 1, found {describe_value(file.content['version'])}")
    for section in SECTIONS:
        declared = file.content.get(section, {})
        if not isinstance(declared, dict):
            yield file.error((section,), f"expected a mapping of names, found {describe_value(declared)}")
            continue
        pattern, form = _PLAIN_NAME, "a name without '/' and spaces"
        if section in ("entries", "backbones"):
            pattern, form = _FULL_NAME, "a name like 'cityscapes/resnet50_os32'"
        for name, body in declared.items():
            if not isinstance(name, str) or not pattern.fullmatch(name):
                yield file.error((section, name), f"expected {form}, found {name!r}")
            if not isinstance(body, dict):
                yield file.error((section, name), f"expected a mapping, found {describe_value(body)}")
                continue
            extends = body.get("extends", [])
            if not isinstance(extends, (str, list)) or not all(isinstance(item, str) for item in extends):
                message = f"expected a name or a list of names, found {describe_value(extends)}"
                yield file.error((section, name, "extends"), message)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with the values of `over`, mapping by mapping; changes neither."""
    merged = dict(base)
    for key, value in over.items():
        if key not in REPLACED_KEYS and isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged
