"""Adds a data set to the text of a registry file, and leaves all other lines as they are."""

from __future__ import annotations

from typing import Any

import yaml

from zoo.errors import RegistryError
from zoo.registry.yaml_file import parse


def with_dataset(text: str, label: str, name: str, body: dict[str, Any]) -> str:
    """Returns the text of a registry file with the declaration of a data set, in place of one of its name.

    Args:
      text: of the file as it is; may be empty.
      label: how messages call the file.
      name, body: of the data set; what the file declares.

    Raises:
      RegistryError: the text is not a registry file's, or is written so that lines cannot be added.
    """
    if not text.strip():
        text = "version: 1\n"
    before = parse(text, label).content
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    section, datasets = _child(root, "datasets")
    if section is None or datasets is None:
        lines += ["\ndatasets:\n", *_declaration(name, body, 2)]
    elif isinstance(datasets, yaml.MappingNode) and datasets.value and not datasets.flow_style:
        indent = datasets.value[0][0].start_mark.column
        start = end = section.start_mark.line + 1
        old, value = _child(datasets, name)
        if old is not None and value is not None:
            start, end = old.start_mark.line, _end(value, lines)
        lines[start:end] = _declaration(name, body, indent)
    elif not datasets.value:
        # `datasets:` or `datasets: {}`
        lines[section.start_mark.line : datasets.end_mark.line + 1] = [
            "datasets:\n",
            *_declaration(name, body, 2),
        ]
    changed = "".join(lines)
    expected = {**before, "datasets": {**(before.get("datasets") or {}), name: body}}
    try:
        is_as_expected = parse(changed, label).content == expected
    except RegistryError:
        is_as_expected = False
    if not is_as_expected:
        raise RegistryError(
            f"{label}: expected `datasets:` with each data set on lines of its own, found another style; add "
            "the lines by hand: without --out they are printed"
        )
    return changed


def _child(node: Any, name: str) -> tuple[yaml.Node | None, yaml.Node | None]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((key, value) for key, value in pairs if key.value == name), (None, None))


def _end(value: yaml.Node, lines: list[str]) -> int:
    """Returns the line after a value; the comments and blank lines that follow are not part of it."""
    is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    # A block ends where the next token begins.
    end = value.end_mark.line + (not is_block)
    while end > value.start_mark.line + 1 and lines[end - 1].strip()[:1] in ("", "#"):
        end -= 1
    return end


def _declaration(name: str, body: dict[str, Any], indent: int) -> list[str]:
    lines = [f"{_dumped({name: 0})[:-2]}"]
    for key, value in body.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"  {key}:", *(f"    - {_dumped(row, flow=True)}" for row in value)]
        elif isinstance(value, list):
            lines.append(f"  {key}: {_dumped(value, flow=True)}")
        else:
            lines.append(f"  {_dumped({key: value})}")
    return [" " * indent + line + "\n" for line in lines]


def _dumped(value: dict[str, Any] | list[Any], *, flow: bool = False) -> str:
    """Returns a value on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=flow, width=10_000, sort_keys=False, allow_unicode=True
    )
    return text.strip()
