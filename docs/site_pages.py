"""Fills the generated parts of the site's pages, as a hook of MkDocs.

A line `<!-- zoo:PART ARGUMENT -->` of a page stands for what the function `PART` here returns for `ARGUMENT`.
Nothing that is generated is committed.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]

_MARKER = re.compile(r"^<!-- zoo:(\w+) ?(.*?) -->$", re.MULTILINE)
_COMMENT = re.compile(r"\s{2,}# (.*)$")

# A checkout keeps the package's parts side by side; see `package-dir` in pyproject.toml.
_PARTS_BESIDE = ("metrics", "model", "reports", "repro")

_package = tempfile.TemporaryDirectory()


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Shows mkdocstrings the checkout as the one package that is installed."""
    zoo = Path(_package.name) / "zoo"
    if not zoo.exists():
        zoo.mkdir()
        for path in (*(ROOT / "zoo").iterdir(), *(ROOT / part for part in _PARTS_BESIDE)):
            (zoo / path.name).symlink_to(path)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [_package.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the JSON Schemas."""
    from zoo.repro.records.schema import NightSummary, RunRecord

    for name, model in (("record", RunRecord), ("night", NightSummary)):
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        content = json.dumps(schema, indent=1)
        files.append(File.generated(config, f"reference/{name}.schema.json", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replaces the markers of a page."""
    return _MARKER.sub(lambda marker: PARTS[marker[1]](marker[2]), markdown)


def models(project: str) -> str:
    """Returns a table for each data set on which a project's models were measured."""
    from zoo.cli.entries import entries_columns
    from zoo.registry import load_registry

    registry = load_registry()
    parts = []
    for dataset in registry.datasets:
        entries = [
            each for each in registry.entries if (each.dataset, each.project) == (dataset.name, project)
        ]
        if entries:
            parts += [f"## {dataset.title}", "", _table(entries_columns(entries)), ""]
    if not parts:
        raise ValueError(f"no entry belongs to the project {project}")
    return "\n".join(parts)


def backbones(_: str) -> str:
    """Returns a table of the ImageNet backbones."""
    from zoo.cli.entries import backbones_columns
    from zoo.registry import load_registry

    return _table(backbones_columns(load_registry().backbones))


def _table(columns: dict[str, Any]) -> str:
    # All columns would be wider than a page; `zoo show` has the rest.
    shown = {name: column for name, column in columns.items() if name not in ("On disk", "Stride")}
    return _rows(list(shown), list(zip(*shown.values(), strict=True)))


def _rows(titles: list[str], rows: list[tuple[Any, ...]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def commands(_: str) -> str:
    """Returns what `--help` says of every command."""
    import typer

    from zoo.cli.app import app

    return "\n\n".join(_described("zoo", typer.main.get_command(app)))


def _described(name: str, command: Any) -> Iterator[str]:
    options = [option for option in command.params if "--help" not in option.opts]
    if not hasattr(command, "commands"):
        arguments = [option for option in options if option.param_type_name == "argument"]
        words = [_argument(each) + (" ..." if each.nargs < 0 else "") for each in arguments]
        yield f"## {name}"
        yield f"`{' '.join([name, '[OPTIONS]', *words])}`"
    yield inspect.cleandoc(command.help or "")
    if options:
        yield _rows(["Option", "Meaning"], [_option(each) for each in options])
    for each, inner in getattr(command, "commands", {}).items():
        yield from _described(f"{name} {each}", inner)


def _argument(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option(option: Any) -> tuple[str, str]:
    """Returns the names of an option or an argument, and its meaning."""
    default = option.default
    if option.param_type_name == "argument":
        return f"`{_argument(option)}`", option.help or ""
    value = "" if option.is_flag else f" {option.metavar or 'VALUE'}"
    note = "Required." if option.required else ""
    if isinstance(default, Enum):
        note = (
            f"One of {', '.join(f'`{each.value}`' for each in type(default))}; `{default.value}` by default."
        )
    elif isinstance(default, (str, int, float)) and not option.is_flag:
        note = f"`{default}` by default."
    names = [f"`{each}{value}`" for each in (*option.opts, *option.secondary_opts)]
    return ", ".join(names), f"{option.help or ''} {note}".strip()


def registry(_: str) -> str:
    """Returns the keys of a registry file, with what the schema's source says of them."""
    from zoo.registry.schema import Backbone, DatasetDeclaration, EntryRow

    sections = (("entries", EntryRow), ("backbones", Backbone), ("datasets", DatasetDeclaration))
    parts: list[str] = []
    shown: set[type] = set()
    for section, model in sections:
        parts += [f"## A row of `{section}`", *_keys(model, shown)]
    return "\n\n".join(parts)


def _keys(model: type[BaseModel], shown: set[type]) -> Iterator[str]:
    """Yields a table of a model's keys, then the models that they hold, each once."""
    from zoo.registry.schema import Named

    shown.add(model)
    comments = {name: text for each in reversed(model.__mro__) for name, text in _comments(each).items()}
    rows = []
    for name, field in model.model_fields.items():
        # Names are the keys of a file's mappings, and kinds its sections.
        if name in ("name", "kind") and issubclass(model, Named):
            continue
        default = "required" if field.is_required() else f"`{_default(field.default)}`"
        rows.append((f"`{name}`", f"`{_type_words(field.annotation)}`", default, comments.get(name, "")))
    yield inspect.cleandoc(model.__doc__ or "")
    yield _rows(["Key", "Type", "Default", "Meaning"], rows)
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            if inner not in shown:
                yield f"### {inner.__name__}"
                yield from _keys(inner, shown)


def _comments(model: type) -> dict[str, str]:
    """Returns what the comments in a class's source say of its attributes."""
    if not issubclass(model, BaseModel) or model is BaseModel:
        return {}
    found: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if line.strip().startswith("# "):
            above.append(line.strip()[2:])
            continue
        beside = _COMMENT.search(line)
        meaning = " ".join([*above, *([beside[1]] if beside else [])])
        if (name := re.match(r"    (\w+): ", line)) and meaning:
            found[name[1]] = meaning
        above = []
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def _type_words(annotation: Any) -> str:
    """Returns an annotation without modules, constraints, and the None that stands for an absent key."""
    if hasattr(annotation, "__metadata__"):
        return _type_words(annotation.__origin__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    inner = [_type_words(each) for each in arguments if each not in (Ellipsis, type(None))]
    if isinstance(origin, type) and issubclass(origin, (list, tuple, dict)):
        return f"{origin.__name__}[{', '.join(inner)}]"
    if inner:
        return " | ".join(inner)
    return getattr(annotation, "__name__", repr(annotation))


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json"))
    return {None: "none", (): "[]"}.get(value, str(value))


def text(name: str) -> str:
    """Returns a Markdown file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def notebook(name: str) -> str:
    """Returns a notebook's cells, with outputs where `NAME_executed.ipynb` beside it holds them."""
    executed = ROOT / "docs" / f"{name}_executed.ipynb"
    source = executed if executed.is_file() else ROOT / "docs" / f"{name}.ipynb"
    parts = []
    for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]:
        content = "".join(cell["source"])
        parts.append(content if cell["cell_type"] == "markdown" else f"```python\n{content}\n```")
        parts += map(_output, cell.get("outputs", []))
    return "\n\n".join(filter(None, parts))


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![Output of the cell above](data:image/png;base64,{data['image/png'].strip()})"
    if "text/html" in data:
        # A DataFrame, without its own looks: the theme's tables scroll where they are wide.
        table = re.sub(r"<style.*?</style>|</?div.*?>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return re.sub(r"<table .*?>", "<table>", table.replace("<th></th>", "<td></td>")).strip()
    if "text/markdown" in data:
        # Headings of an output are none of the page's; a column for marks has a title here.
        shown = re.sub(r"^#+ (.+)$", r"**\1**", "".join(data["text/markdown"]), flags=re.MULTILINE)
        return re.sub(r"\|  \|(?=\n\| -)", "| Mark |", shown)
    plain = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{plain.rstrip()}\n```" if plain and output.get("name") != "stderr" else ""


PARTS = {part.__name__: part for part in (backbones, commands, models, notebook, registry, text)}
