from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# The files of this folder import each other; pytest's importlib mode knows no siblings.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_report_header() -> str:
    from driver import CASES, SEED

    return f"fuzz: FUZZ_SEED={SEED}, FUZZ_CASES={CASES or 'a short run'}"


@pytest.fixture(scope="session")
def table(zoo_cache: Path, minicity_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The kinds of input, over whole files."""
    import replies
    from kinds import Table
    from seeds import Seeds

    from zoo.fetch.fetcher import Fetcher
    from zoo.files.cache import Cache
    from zoo.registry import load_registry

    fetcher = Fetcher(Cache(zoo_cache))
    declared = {each.name: each for each in load_registry().datasets}
    minicity, minicoco = (fetcher.dataset(declared[name]) for name in ("minicity", "minicoco"))
    seeds = Seeds(tmp_path_factory.mktemp("seeds"), minicity, minicoco, minicity_run)
    server = replies.RawServer()
    yield Table(seeds, server)
    server.close()


@pytest.fixture(scope="session")
def networks() -> tuple[dict[str, Any], dict[str, Any]]:
    """The networks that were built, and those that were loaded."""
    return {}, {}


@pytest.fixture
def quick(
    monkeypatch: pytest.MonkeyPatch, zoo_cache: Path, networks: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """Builds networks once, and waits for no download.

    In the tests of this folder alone: damaged files change the values of the networks that are kept.
    """
    monkeypatch.setenv("ZOO_CACHE", str(zoo_cache))
    for name in ("ZOO_REGISTRY", "ZOO_LOCK", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.list_physical_devices()
    _build_once(monkeypatch, *networks)
    from zoo.fetch.download import DownloadOptions
    from zoo.fetch.fetcher import Fetcher

    waiting = DownloadOptions(attempts=3, sleep=lambda seconds: None, timeouts_s=(10, 5), show_progress=False)
    monkeypatch.setattr(Fetcher.__init__, "__defaults__", (None, None, waiting))


def _build_once(patched: pytest.MonkeyPatch, built: dict[str, Any], loaded: dict[str, Any]) -> None:
    from zoo.network import loading
    from zoo.network.building import build_keras_model

    def build(entry: Any, options: Any, **more: Any) -> Any:
        options = replace(options, model=None)
        key = f"{entry.name} {options!r}"
        if key not in built:
            built[key] = build_keras_model(entry, options, **more)
        return built[key]

    def load_once(entry: Any, checkpoint: Any, **options: Any) -> Any:
        key = f"{entry.name} {options!r}"
        if key not in loaded:
            loaded[key] = loading.load_entry(entry, checkpoint, **options)
        return loaded[key]

    patched.setattr("zoo.network.predicting.load_entry", load_once)
    # Folding consumes what was built; only checks of checkpoints restore again and again.
    original = loading._restored

    def restored(entry: Any, checkpoint: Any, options: Any, classes: Any = None) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if not options.optimize:
                patch.setattr(loading, "build_keras_model", build)
            return original(entry, checkpoint, options, classes)

    patched.setattr(loading, "_restored", restored)
