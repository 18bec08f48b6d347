"""What the documentation shows: commands and Python of the site's blocks run, all others are parsed.

Blocks of a page run in their order, in one folder, with the names and folders of published data replaced by
those of the bundled data. What measures an image set again that another page has measured is not repeated.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.fetch.fetcher import Fetcher
from zoo.files.cache import Cache
from zoo.registry import load_registry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs a checkout")

PAGES = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Published data, whose files are nowhere in a test -> the bundled data of the same form.
REPLACED = {
    "cityscapes/mobilenet_v3_large_os16": "minicity/mobilenet_v3_small_os16",
    "cityscapes__mobilenet_v3_large_os16": "minicity__mobilenet_v3_small_os16",
    "data check cityscapes": "data check minicity",
    "~/cityscapes": "{minicity}",
    "~/mine": "{mine}",
}
# Commands whose 30 images are measured by another page's command too take fewer here.
SHORTENED = ("zoo reproduce minicity/mobilenet_v3_small_os16 --runtime onnx", "zoo nightly")

Call = Callable[..., Any]


def lines_of(block: str) -> list[list[str]]:
    words = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [each for each in words if each]


# ---- what runs ----


@pytest.fixture(scope="module")
def minicity(zoo_cache: Path) -> Path:
    return Path(Fetcher(cache=Cache(zoo_cache)).dataset(load_registry().dataset("minicity")))


@pytest.fixture(scope="module")
def mine(zoo_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the user's own, in the COCO format."""
    minicoco = Path(Fetcher(cache=Cache(zoo_cache)).dataset(load_registry().dataset("minicoco")))
    make = runpy.run_path(str(ROOT / "tests/repro/own_data.py"))["make_own_coco"]
    return Path(make(tmp_path_factory.mktemp("own") / "mine", minicoco))


@pytest.fixture(scope="module")
def measured() -> dict[str, Path]:
    """The `--out` folders of the runs so far, by command."""
    return {}


@pytest.fixture
def folder(tmp_path: Path, minicity: Path, mine: Path) -> Path:
    """A folder like that of a reader: with pictures, and predictions of all images of `mine`."""
    folder = tmp_path / "reader"
    (folder / "pictures").mkdir(parents=True)
    scenes = sorted(minicity.rglob("leftImg8bit/val/*/*.png"))
    for picture in scenes[:2]:
        shutil.copy(picture, folder / "pictures")
    shutil.copy(scenes[2], folder / "street.jpg")
    truth = mine / "annotations"
    shutil.copytree(truth / "panoptic_val", folder / "predictions" / "panoptic_val")
    # Predictions are never crowds.
    listed = (truth / "panoptic_val.json").read_text().replace('"iscrowd": 1', '"iscrowd": 0')
    (folder / "predictions" / "panoptic_val.json").write_text(listed)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search((DOCS / page).read_text())], ids=str)
def test_the_blocks_of_a_page_run(
    page: Path,
    folder: Path,
    minicity: Path,
    mine: Path,
    measured: dict[str, Path],
    zoo_call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    for language, block in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        for published, bundled in REPLACED.items():
            block = block.replace(published, bundled.format(minicity=minicity, mine=mine))
        if language == "python":
            exec(compile(block, str(page), "exec"), {})
            continue
        for program, *words in lines_of(block):
            if program == "pip":
                require_pip_install(words)
            else:
                assert program == "zoo"
                run_zoo(words, measured, zoo_call)


def require_pip_install(words: list[str]) -> None:
    assert words[0] == "install"
    assert (ROOT / words[1].partition("[")[0] / "pyproject.toml").is_file()


def run_zoo(words: list[str], measured: dict[str, Path], zoo_call: Call) -> None:
    command = " ".join(["zoo", *words])
    if command.startswith(SHORTENED):
        words = [*words, "--limit", "2"]
    # Bundled data are the same with `--data` and without.
    key = re.sub(r" --data \S+", "", command)
    if words[0] == "reproduce" and key in measured:
        shutil.copytree(measured[key], "runs", dirs_exist_ok=True)
        return
    done = zoo_call(*words)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    if words[0] == "reproduce":
        measured[key] = Path("runs").absolute()


# ---- what is parsed ----


def mentioned() -> Iterator[tuple[str, list[str]]]:
    """Yields where a command stands, and its words: indented and fenced lines, and examples of the help."""
    for path in (ROOT / "README.md", *(DOCS / page for page in PAGES)):
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"^(?:    )?(zoo [a-z-].*)$", text, re.MULTILINE):
            yield path.name, shlex.split(line, comments=True)[1:]
    for name, command in each_command():
        for example in re.findall(r"`(zoo [^`]+)`", command.help.partition("Example")[2]):
            yield f"zoo {name} --help", shlex.split(example)[1:]


def each_command() -> Iterator[tuple[str, Any]]:
    import typer

    from zoo.cli.app import app

    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        yield name, command
        for inner, each in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", each


def test_every_command_that_is_shown_is_one() -> None:
    commands = dict(each_command())
    registry, count = load_registry(), 0
    for place, words in mentioned():
        while words[0] == "--registry":
            words = words[2:]
        depth = 2 if " ".join(words[:2]) in commands else 1
        name, arguments = " ".join(words[:depth]), words[depth:]
        assert name in commands, f"{place}: {words}"
        with commands[name].make_context(name, list(arguments)) as context:
            given = context.params
        names = [given.get("name"), *(given.get("names") or [])]
        for entry in filter(None, names):
            # Those of a reader's own registry file are not here.
            if name not in ("score", "data add", "registry new") and not entry.startswith(("own/", "NAME")):
                assert registry.find_all([entry]), f"{place}: {entry}"
        count += 1
    assert count > 80


def test_options_that_are_mentioned_are_options() -> None:
    known = {option for _, command in each_command() for each in command.params for option in each.opts}
    known |= {
        option for _, command in each_command() for each in command.params for option in each.secondary_opts
    }
    for page in (ROOT / "README.md", *(DOCS / page for page in PAGES)):
        for fragment in re.findall(r"`(zoo [^`\n]*|--[^`\n]*)`", page.read_text(encoding="utf-8")):
            for option in re.findall(r"(?<!\S)--[a-z][\w-]*", fragment.partition(" -- ")[2] or fragment):
                assert option in known | {"--registry", "--version", "--help"}, f"{page.name}: {fragment}"


def test_every_family_has_a_page() -> None:
    pages = "".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    for project in {entry.project for entry in load_registry().entries}:
        assert f"<!-- zoo:models {project} -->" in pages
