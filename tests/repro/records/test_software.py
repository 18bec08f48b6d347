"""Which changes of the software end an unfinished run, and which let it go on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import EvaluationError
from zoo.repro.records.run_destination import RunDestination
from zoo.repro.records.software import code_digest, versions

PACKAGE = "copied_zoo"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the whole package, as a wheel would install it."""
    target = tmp_path / PACKAGE
    for name in ("", ".model", ".metrics", ".repro", ".reports"):
        source = import_module(f"zoo{name}").__path__[0]
        ignored = shutil.ignore_patterns("__pycache__", "assets")
        shutil.copytree(source, target / name.removeprefix("."), dirs_exist_ok=True, ignore=ignored)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield target
    sys.modules.pop(PACKAGE, None)


def begin_run(folder: Path) -> RunDestination:
    destination = RunDestination(folder)
    destination.open({"code": code_digest(PACKAGE)}).write_statistics("first", {"pq/tp": np.arange(3)})
    return destination


def test_a_copy_of_the_package_has_the_same_digest(copy: Path) -> None:
    assert code_digest(PACKAGE) == code_digest()


@pytest.mark.parametrize("file", ["cli/app.py", "reports/page/page.css", "reports/page/html.py", "errors.py"])
def test_an_edit_of_what_only_shows_numbers_lets_a_run_go_on(copy: Path, tmp_path: Path, file: str) -> None:
    destination = begin_run(tmp_path / "run")
    with (copy / file).open("a") as stream:
        stream.write("\n")
    destination.check({"code": code_digest(PACKAGE)})


@pytest.mark.parametrize(
    "file",
    [
        "model/layers.py",
        "model/postprocess/scoring.py",
        "metrics/panoptic_quality.py",
        "repro/datasets/dataset.py",
        "registry/schema.py",
        "network/loading.py",
        "metrics/deep/in/it.py",
    ],
)
def test_an_edit_of_what_measures_ends_a_run(copy: Path, tmp_path: Path, file: str) -> None:
    destination = begin_run(tmp_path / "run")
    (copy / file).parent.mkdir(parents=True, exist_ok=True)
    with (copy / file).open("a") as stream:
        stream.write("\n")
    with pytest.raises(EvaluationError, match="another code of zoo"):
        destination.check({"code": code_digest(PACKAGE)})


def test_a_file_that_moves_changes_the_digest(copy: Path) -> None:
    before = code_digest(PACKAGE)
    (copy / "model" / "layers.py").rename(copy / "model" / "backbones" / "layers.py")
    assert code_digest(PACKAGE) != before


def test_versions_name_what_measures() -> None:
    found = versions()
    assert {"python", "panoptic-zoo", "tensorflow", "numpy", "pycocotools", "cityscapesscripts"} <= set(found)
    assert "not installed" not in found.values()
