from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.fetch.fetcher import Fetcher
from zoo.registry import load_registry
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.datasets.predictions import write_predictions


def files_of(folder: Path, image_id: str) -> dict[str, bytes]:
    paths = [path for path in folder.rglob(f"{image_id}*") if path.is_file()]
    paths += [path for path in folder.rglob(f"{image_id}/*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def predicts_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], int]:
    """Returns a function that predicts every image of an entry by `network.predict` as users do.

    What is written of each prediction must equal the files of a run, byte for byte: panoptic and semantic
    maps, masks and scores of instances. Returns the number of images.
    """

    def check(name: str, run: Path) -> int:
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("ZOO_LOCK", str(tmp_path / "zoo.lock"))
        registry = load_registry()
        network = zoo.load(name, optimize=True)
        dataset = open_dataset(registry.dataset(network.entry.dataset), None, Fetcher())
        images = (dataset.load(index).image for index in range(len(dataset)))
        for image_id, found in zip(dataset.image_ids, network.predict_each(images), strict=True):
            maps = {"panoptic": found.panoptic, "semantic": found.semantic, "instances": found.scored}
            write_predictions(tmp_path / "written", image_id, **maps, info=dataset.info)
            written = files_of(run / "predictions", image_id)
            assert len(written) >= 4
            assert files_of(tmp_path / "written", image_id) == written, image_id
        return len(dataset)

    return check


@dataclass(frozen=True)
class Whole:
    """An undisturbed run over all images."""

    done: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.done.stdout)
        return record

    @property
    def without_timings(self) -> dict[str, Any]:
        return {key: value for key, value in self.record.items() if key not in ("timings", "efficiency")}


@pytest.fixture(scope="session")
def whole(zoo_command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return _run_whole("minicity", zoo_command, tmp_path_factory)


@pytest.fixture(scope="session")
def whole_coco(zoo_command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return _run_whole("minicoco", zoo_command, tmp_path_factory)


def _run_whole(dataset: str, zoo_command: Callable[..., Any], temporary: pytest.TempPathFactory) -> Whole:
    out = temporary.mktemp(dataset)
    done = zoo_command("reproduce", f"{dataset}/mobilenet_v3_small_os16", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return Whole(done, out / f"{dataset}__mobilenet_v3_small_os16")


@pytest.fixture(autouse=True)
def nothing_beside(zoo_folder: Path) -> Any:
    """Runs leave nothing in the folder they are started in."""
    yield
    assert list(zoo_folder.iterdir()) == []
