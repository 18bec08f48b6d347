from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

_MAKE = runpy.run_path(str(Path(__file__).parents[1] / "own_data.py"))


@pytest.fixture(scope="session")
def own_coco(minicoco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of `own_data.py` in the COCO format; tests only read it."""
    return Path(_MAKE["make_own_coco"](tmp_path_factory.mktemp("own") / "coco", minicoco))


@pytest.fixture(scope="session")
def own_city(minicity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the Cityscapes layout, with the file of its classes."""
    root = _MAKE["make_own_city"](tmp_path_factory.mktemp("own") / "city", minicity)
    (root / "classes.json").write_text(json.dumps(_MAKE["CLASSES"]))
    return Path(root)
