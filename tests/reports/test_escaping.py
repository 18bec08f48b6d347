"""Names from anywhere are shown as text: on the page, in Markdown, in a terminal, in CSV and in LaTeX."""

from __future__ import annotations

import csv
import io
import json
import shutil
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

HOSTILE = (
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "![x](http://x/y) [z](javascript:alert(1))",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m\u202egnp.exe\u2066",
    "=HYPERLINK(1)",
    "a|b\nc\u2028d",
    "]]><!--",
)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile_run(minicity_run: Path, tmp_path: Path) -> Path:
    """A run in which classes, the predictions, the image that was left out, and the device are so called."""
    folder = tmp_path / "runs" / "run"
    shutil.copytree(minicity_run, folder)
    record = json.loads((folder / "record.json").read_text())
    classes = list(record["per_class"]["internal"]["pq"])
    names = dict(zip(classes, HOSTILE, strict=False))
    for values in record["per_class"].values():
        for metric, by_class in values.items():
            values[metric] = {names.get(name, name): value for name, value in by_class.items()}
    record |= {"entry": None, "predictions": {"name": "".join(HOSTILE), "path": HOSTILE[0]}}
    record["device"] = {"kind": HOSTILE[1], "names": list(HOSTILE)}
    record["versions"] = {name: name for name in HOSTILE}
    for claim in record["claims"]:
        claim |= {"verdict": "not judged", "reason": "; ".join(HOSTILE)}
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def unsafe_in(text: str) -> set[str]:
    turns = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
    return {c for c in text if (unicodedata.category(c) in ("Cc", "Zl") and c not in "\n\t") or c in turns}


def test_names_are_text_in_every_report(
    zoo_call: Callable[..., Any], hostile_run: Path, minicity_run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(hostile_run, other)
    record = json.loads((other / "record.json").read_text())
    record["versions"]["numpy"] = HOSTILE[3]
    (other / "record.json").write_text(json.dumps(record))
    shown = {}
    for words in (
        *(
            ("report", "diff", hostile_run, "--format", form)
            for form in ("terminal", "markdown", "csv", "json")
        ),
        *(("report", "measured", hostile_run, "--format", form) for form in ("markdown", "csv", "latex")),
        *(("report", "compare", hostile_run, other, "--format", form) for form in ("terminal", "markdown")),
        *(("explain", hostile_run, "--per-class", "--format", f) for f in ("terminal", "markdown", "json")),
        ("report", "history", "".join(HOSTILE), "--records", hostile_run.parent),
    ):
        done = zoo_call(*words)
        assert done.returncode == 0, done.stderr
        assert not unsafe_in(done.stdout + done.stderr), words
        shown[words[0], words[1] if words[0] == "report" else "", words[-1]] = done.stdout
    for key, text in shown.items():
        if key[2] == "markdown":
            assert "<script" not in text
            assert "<svg" not in text
            assert "](" not in text
        if key[2] == "csv":
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            # Numbers may be negative; texts of a formula have an apostrophe before them.
            assert not [cell for cell in cells if cell[:1] in ("=", "+", "@") or cell[:2] == "-H"]
        if key[2] == "json":
            json.loads(text)


def test_names_are_text_on_the_page_and_in_pictures(
    zoo_call: Callable[..., Any], hostile_run: Path, tmp_path: Path
) -> None:
    words = (
        ("report", "html", hostile_run, "--out", tmp_path / "page.html"),
        ("explain", hostile_run, "--picture", tmp_path / "gap.svg"),
        ("report", "history", "".join(HOSTILE), "--records", hostile_run, "--picture", tmp_path / "h.svg"),
    )
    for command in words:
        done = zoo_call(*command)
        assert done.returncode == 0, done.stderr
    for name in ("page.html", "gap.svg", "h.svg"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        page = Page(text)
        assert "script" not in page.tags
        assert not [name for name in page.attributes if name.startswith("on")]
        assert not unsafe_in(text), name
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert HOSTILE[0] in page.text
    assert "\\u001b[2J" in page.text
    assert "default-src &#x27;none&#x27;" in (tmp_path / "page.html").read_text(encoding="utf-8")
