"""Adding a data set to a registry file: its lines, and those that are there already."""

from __future__ import annotations

import pytest

from zoo.errors import RegistryError
from zoo.registry.registry_text import with_dataset
from zoo.registry.yaml_file import parse


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# first\nversion: 1\ndatasets:\n",
        "datasets: {}\nversion: 1",
        "datasets:\n    # of old\n    old: {title: o, format: coco, split: v, images: 1}  # tail\n\n# end\n",
        "datasets:\n  new:\n    title: before\n  # about old\n  old:\n    title: o\nversion: 1\n",
        "entries:\n  a/b: {title: x}\n",
    ],
)
def test_a_declaration_is_added_and_every_other_line_kept(text: str) -> None:
    body = {
        "title": "12e3",
        "split": "2017",
        "images": 3,
        "classes": [{"name": "on", "id": 1, "colour": [1, 2, 3]}],
    }
    changed = with_dataset(text, "own.yaml", "new", body)
    assert parse(changed, "own.yaml").content["datasets"]["new"] == body
    gone = {"datasets: {}", "    title: before"}
    kept = [line for line in text.splitlines() if line.strip() and line not in gone]
    assert [line for line in changed.splitlines() if line in kept] == kept
    assert with_dataset(changed, "own.yaml", "new", body) == changed


def test_lines_that_cannot_be_added_are_refused() -> None:
    with pytest.raises(RegistryError, match="expected `datasets:` with each data set on lines of its own"):
        with_dataset("{version: 1}", "own.yaml", "new", {"title": "x"})
    with pytest.raises(RegistryError, match="expected `datasets:` with each data set on lines of its own"):
        with_dataset("datasets: {old: {title: o}}\n", "own.yaml", "new", {"title": "x"})
