"""Reads one registry file: YAML with decimals as printed, no repeated key, and local paths as URLs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import RegistryError
from zoo.registry.messages import KeyPath, describe_value
from zoo.remote.path import is_url, path_at

# Keys whose value is a file; a relative path starts at the folder of the registry file.
FILE_KEYS = frozenset({"checkpoint", "saved_model", "archive"})
_FOLDER_KEY = "path"  # the same for a folder, which stays a path

BUILTIN = "zoo/registry.yaml"
"""How error messages call the built-in registry file."""

_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_MOST_DIGITS = 100


class _RegistryLoader(_SafeLoader):  # type: ignore[valid-type,misc]
    """Safe YAML, but numbers keep their printed decimals, dates stay text, and no key may repeat."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the name and type are PyYAML's)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_printed_number(self, node: yaml.ScalarNode) -> Decimal | float:
        try:
            return Decimal(node.value.replace("_", ""))
        except InvalidOperation:
            return self.construct_yaml_float(node)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        # Python refuses to read or to print much longer ones.
        if len(node.value) > _MOST_DIGITS:
            reason = f"a number of more than {_MOST_DIGITS} digits"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark)
        return int(self.construct_yaml_int(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in first_lines:
                reason = f"the key {key!r} appears twice in one mapping, first on line {first_lines[key]}"
                raise yaml.constructor.ConstructorError(None, None, reason, key_node.start_mark)
            first_lines[key] = line
        return super().construct_mapping(node, deep)


MOST_VALUES = 200_000
"""A registry file whose aliases expand to more values than this is refused: it would fill the memory."""


MOST_LEVELS = 1000
"""Values that nest more deeply are refused: PyYAML would overflow the stack of Python 3.10."""


def _nests_too_deeply(text: str) -> bool:
    # Each level takes a bracket, or a place in a line.
    if text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0) <= MOST_LEVELS:
        return False
    depth = 0
    for event in yaml.parse(text, Loader=_RegistryLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            return True
    return False


def _load(text: str) -> Any:
    """Parses YAML, and counts what its aliases expand to before constructing anything."""
    if _nests_too_deeply(text):
        raise RecursionError
    loader = _RegistryLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values_in(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"aliases that stand for more than {MOST_VALUES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values_in(node: yaml.Node, counted: dict[int, int]) -> int:
    if id(node) not in counted:
        parts: list[yaml.Node] = []
        if not isinstance(node, yaml.ScalarNode):
            parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        counted[id(node)] = 1  # an alias inside its own anchor
        counted[id(node)] = 1 + sum(_values_in(part, counted) for part in parts)
    return counted[id(node)]


_RegistryLoader.add_constructor("tag:yaml.org,2002:int", _RegistryLoader.construct_whole_number)
_RegistryLoader.add_constructor("tag:yaml.org,2002:float", _RegistryLoader.construct_printed_number)


@dataclass(frozen=True)
class RegistryFile:
    """One registry file, parsed but not yet checked against the schema."""

    label: str  # how error messages call the file
    text: str  # as it stands; lines are looked up in it only when there is an error to report
    content: dict[str, Any]

    def contains(self, path: KeyPath) -> bool:
        """Returns whether the file itself has a value at `path`."""
        value: Any = self.content
        for part in path:
            in_mapping = isinstance(value, dict) and part in value
            in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if not in_mapping and not in_list:
                return False
            value = value[part]
        return True

    def line(self, path: KeyPath) -> int:
        """Returns the line (from 1) of the key at `path`, or of the deepest part of it that the file has."""
        node = yaml.compose(self.text, Loader=_RegistryLoader)
        line = 1
        for part in path:
            step: tuple[yaml.Node, yaml.Node] | None = None
            if isinstance(node, yaml.MappingNode):
                step = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                step = (node.value[part], node.value[part])
            if step is None:
                break
            line, node = step[0].start_mark.line + 1, step[1]
        return line

    def error(self, path: KeyPath, message: str) -> RegistryError:
        """Returns the error `message` about the value at `path`, with file, line and key path."""
        where = f"{self.label}:{self.line(path)}"
        return RegistryError(": ".join(filter(None, (where, ".".join(map(str, path)), message))))


_KEYS = "entries, datasets or templates"


def parse(text: str, label: str, folder: Path | None = None, keys: str = _KEYS) -> RegistryFile:
    """Parses the YAML of a registry file, which error messages call `label`.

    Relative paths in it start at `folder`; without one, they stay as they are. `keys` says what it holds.

    Raises:
        RegistryError: The text is not YAML, a key is repeated, or there is no mapping at the top.
    """
    try:
        content = _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        reason = ", ".join(" ".join(part.split()) for part in (error.problem, error.context) if part)
        raise RegistryError(f"{label}:{line}: expected YAML, found a fault: {reason}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise RegistryError(f"{label}:1: expected YAML, found a fault: {reason}") from None
    except RecursionError:
        raise RegistryError(f"{label}:1: expected YAML, found values nested too deeply") from None
    if not isinstance(content, dict):
        found = describe_value(content)
        raise RegistryError(f"{label}:1: expected a mapping with {keys}, found {found}")
    if folder is None:
        return RegistryFile(label, text, content)
    try:
        return RegistryFile(label, text, _with_urls(content, folder))
    except RecursionError:
        raise RegistryError(f"{label}:1: expected YAML, found an alias inside its own anchor") from None


def read(path: str | os.PathLike[str], what: str = "a registry file", keys: str = _KEYS) -> RegistryFile:
    """Reads a registry file of the user, or another such file, which the error about one that is not there
    calls `what`; raises RegistryError where it cannot be read, or as `parse` does.
    """
    file = path_at(path)
    label = str(file)
    folder = file.parent if is_url(label) else Path(os.path.abspath(file)).parent
    return parse(read_text(file, what), label, folder, keys)


def read_text(file: Path, what: str) -> str:
    """Returns the text of a file, which the RegistryError about one that cannot be read calls `what`."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise RegistryError(f"{file}: expected {what}, found none to read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 text, found {error.reason} at byte {error.start}"
        raise RegistryError(f"{file}: {message}") from None


def _with_urls(value: Any, folder: Path, is_file: bool = False) -> Any:
    """Replaces local paths of files by `file://` URLs, and those of folders by absolute ones."""
    if isinstance(value, dict):
        return {
            key: _absolute(item, folder)
            if key == _FOLDER_KEY
            else _with_urls(item, folder, key in FILE_KEYS or (is_file and key == "url"))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_urls(item, folder) for item in value]
    if is_file and isinstance(value, str) and value and "://" not in value:
        found = _absolute(value, folder)
        return found if is_url(found) else Path(found).as_uri()
    return value


def _absolute(path: Any, folder: Path) -> Any:
    if not path or not isinstance(path, str) or is_url(path):
        return path
    found = folder / os.path.expanduser(path)
    return str(found) if is_url(str(found)) else os.path.abspath(found)
