"""Any value anywhere, by Hypothesis: in run records, registry files, configurations and archives."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from driver import CASES, call, fault_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import REGISTRY

from zoo.errors import ArchiveError, ZooError
from zoo.fetch.unpack import Limits, unpack
from zoo.registry.textproto import Name, Value, parse_textproto

# The same examples each time; a long run tries more of them.
FIXED = settings(
    derandomize=True,
    database=None,
    max_examples=max(40, CASES // 20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Returns every (container, key) in JSON-like values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in items for place in ((value, key), *places(part))]


def put(value: Any, data: st.DataObject) -> Any:
    """Puts any value at any place."""
    container, key = data.draw(st.sampled_from(places(value)))
    container[key] = data.draw(VALUES)
    return value


@FIXED
@given(data=st.data())
def test_run_records(minicity_run: Path, tmp_path: Path, data: st.DataObject) -> None:
    record = put(json.loads((minicity_run / "record.json").read_text()), data)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    form = data.draw(st.sampled_from(["terminal", "markdown", "csv", "json"]))
    done = call("report", "diff", path, "--format", form)
    assert fault_of(done) is None, fault_of(done)
    assert done.code in (0, 3)
    page = call("report", "html", path, "--out", tmp_path / "page.html")
    assert fault_of(page) is None, fault_of(page)
    assert page.code == done.code


@FIXED
@given(data=st.data())
def test_registry_files(tmp_path: Path, data: st.DataObject) -> None:
    declared = put(yaml.safe_load(REGISTRY.replace("URL", "https://example.org/net.tar.gz")), data)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(declared), encoding="utf-8")
    done = call("--registry", path, "show", "own/net")
    assert fault_of(done) is None, fault_of(done)
    assert done.code in (0, 2)


FIELDS = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)
WORDS = FIELDS.filter(lambda text: text.lower() not in ("true", "false", "t", "f", "inf", "nan", "infinity"))
NUMBERS = st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = NUMBERS | st.booleans() | st.text() | WORDS.map(Name)
MESSAGES = st.recursive(
    st.dictionaries(FIELDS, st.lists(LEAVES, min_size=1, max_size=3), max_size=3),
    lambda inner: st.dictionaries(FIELDS, st.lists(LEAVES | inner, min_size=1, max_size=2), max_size=3),
    max_leaves=6,
)


def written(message: dict[str, list[Any]], ends: str) -> str:
    """Returns a message as text."""
    lines = []
    for name, values in message.items():
        for value in values:
            if isinstance(value, dict):
                lines.append(f"{name} {{ {written(value, ends)} }}")
            elif isinstance(value, Name) or not isinstance(value, (str, bool)):
                lines.append(f"{name}: {value!s}")
            elif isinstance(value, bool):
                lines.append(f"{name}: {str(value).lower()}")
            else:
                quoted = "".join(f"\\{byte:03o}" for byte in value.encode())
                lines.append(f'{name}: "{quoted}"')
    return ends.join(lines)


def read(value: Value) -> Any:
    """Returns a parsed message as `written` takes it."""
    if isinstance(value.content, dict):
        return {name: [read(each) for each in values] for name, values in value.content.items()}
    return value.content


@FIXED
@given(message=MESSAGES, ends=st.sampled_from([" ", "\n", ";\n", " , # comment\n"]))
def test_configurations_are_read_as_they_were_written(message: dict[str, list[Any]], ends: str) -> None:
    assert read(parse_textproto(written(message, ends), "net.textproto")) == message


@FIXED
@given(text=st.text(st.sampled_from("ab:{}<>[],;\"'\\ \n#-.0x")))
def test_configurations_of_any_characters(text: str) -> None:
    try:
        parse_textproto(text, "net.textproto")
    except ZooError as error:
        assert str(error).startswith("net.textproto:")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


PARTS = st.sampled_from(["a", "b", "..", ".", "", "x y", "\u202e", "C:", "~"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)


@FIXED
@given(members=st.lists(st.tuples(PATHS, KINDS, PATHS, st.binary(max_size=4)), max_size=5))
def test_archives_write_regular_files_inside_their_folder(tmp_path: Path, members: list[Any]) -> None:
    shutil.rmtree(tmp_path / "ground", ignore_errors=True)
    folder = tmp_path / "ground" / "in" / "folder"
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path, kind, target, content in members:
            member = tarfile.TarInfo(path)
            member.type, member.linkname = kind, target
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    (tmp_path / "ground" / "net.tar.gz").write_bytes(buffer.getvalue())
    try:
        files = unpack(tmp_path / "ground" / "net.tar.gz", folder, Limits(members=4))
    except ArchiveError as error:
        assert "\n" not in str(error)  # noqa: PT017
        files = None
    found = [path for path in (tmp_path / "ground").rglob("*") if not path.is_dir()]
    assert not [path for path in found if path.is_symlink()]
    assert {path for path in found if folder not in path.parents} == {tmp_path / "ground" / "net.tar.gz"}
    if files is not None:
        written_files = {file.path: file.bytes for file in files}
        assert written_files == {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in found
            if folder in path.parents
        }


@pytest.fixture(autouse=True)
def _cache(zoo_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(zoo_cache))
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)
