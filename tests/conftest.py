"""What the tests of the command line share: the installed program, called as users call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How fast an example runs is the machine's affair; a test that hangs meets the limit in pyproject.toml.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# A shell starts background jobs with SIGINT ignored, and what they start inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a user's shell may have set, and what would change what the program prints.
_NOT_INHERITED = ("TF_CPP_MIN_LOG_LEVEL", "ZOO_REGISTRY", "ZOO_LOCK", "COLUMNS", "FORCE_COLOR")

# Machine code of the pixel loops outlives a test session, whose cache is new.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "numba"))

ZooCommand = Callable[..., "subprocess.CompletedProcess[str]"]
ZooStart = Callable[..., "subprocess.Popen[str]"]


# ---- several workers ----

_WORKER_BYTES = 7 << 30
"""Memory for each worker: the largest network takes more, and the others less than that meanwhile."""

# What takes longest starts first, so that no worker is left waiting for another's last file.
_LONGEST = (
    "model/test_residual_goldens.py",
    "repro/run/test_reproduce_kmax.py",
    "repro/run/test_reproduce.py",
    "repro/nights/test_nightly.py",
    "docs/test_commands.py",
    "zoo/network/test_loading_backbones.py",
    "zoo/network/test_network.py",
    "zoo/network/test_saved_model.py",
    "zoo/network/test_python_use.py",
    "zoo/cli/test_predict.py",
    "zoo/cli/test_reproduce_options.py",
    "repro/run/test_reproduce_coco.py",
    "repro/run/test_reproduce_errors.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Runs folders of tests in one worker per core; files alone, and all with `-n 0`, in this process."""
    option = config.option
    if hasattr(config, "workerinput") or getattr(option, "numprocesses", 0) is not None or option.usepdb:
        return
    if all(Path(argument.partition("::")[0]).suffix == ".py" for argument in config.args):
        return
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, psutil.virtual_memory().total // _WORKER_BYTES)
    if workers > 1:
        option.numprocesses, option.dist, option.loadscopereorder = workers, "loadgroup", False
        # Threads that share a core with another worker's mostly wait for each other.
        for name in ("TF_NUM_INTRAOP_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, str(max(1, cores // workers)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives whole files to a worker, which makes once what their tests share, or what is an `xdist_group`."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class GroupOrFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group: str = super()._split_scope(nodeid)
            return nodeid.partition("::")[0] if group == nodeid else group

    return GroupOrFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the longest files first where there are several workers."""
    if hasattr(config, "workerinput"):
        places = {Path(__file__).parent / name: place for place, name in enumerate(_LONGEST)}
        items.sort(key=lambda item: places.get(item.path, len(places)))


# ---- the program ----


@pytest.fixture(scope="session")
def zoo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all tests of the command line share; nothing in it is the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the program runs, outside any checkout; it has to stay empty."""
    return tmp_path_factory.mktemp("working_folder")


@pytest.fixture(scope="session")
def zoo_environment(zoo_cache: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return {**inherited, "ZOO_CACHE": str(zoo_cache), "NO_COLOR": "1"}


@pytest.fixture(scope="session")
def zoo_command(zoo_environment: dict[str, str], zoo_folder: Path) -> ZooCommand:
    """Returns a function that runs `zoo` with arguments, in a process of its own, to its end."""

    def run(*arguments: object, environment: dict[str, str] | None = None, **options: Any) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "zoo", *map(str, arguments)],
            env={**zoo_environment, **(environment or {})},
            cwd=zoo_folder,
            stdin=subprocess.DEVNULL,
            **{"capture_output": True, "text": True, **options},
        )

    return run


@pytest.fixture(scope="session")
def zoo_start(zoo_environment: dict[str, str], zoo_folder: Path) -> ZooStart:
    """Returns a function that starts `zoo` with arguments, as the head of a process group of its own."""

    def start(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "zoo", *map(str, arguments)],
            env={**zoo_environment, **(environment or {})},
            cwd=zoo_folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


_networks: dict[tuple[str, ...], Any] = {}


def _load_once(entry: Any, checkpoint: Any, **options: Any) -> Any:
    """Loads a network as `load_entry` does, but one of a checkpoint once: runs do not change it."""
    from zoo.fetch.fetcher import Fetched
    from zoo.network.loading import load_entry

    if not isinstance(checkpoint, Fetched):
        return load_entry(entry, checkpoint, **options)
    key = entry.model_dump_json(), str(checkpoint.path), checkpoint.sha256, repr(options)
    if key not in _networks:
        _networks[key] = load_entry(entry, checkpoint, **options)
    return _networks[key]


@pytest.fixture
def zoo_call(
    zoo_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> ZooCommand:
    """Returns a function that runs `zoo` like `zoo_command`, but in this process: no time to start.

    `zoo reproduce` and `zoo predict` take a network that an earlier test has loaded.
    """
    for name in _NOT_INHERITED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    monkeypatch.setenv("ZOO_CACHE", str(zoo_cache))
    # TensorFlow's own messages, once, before anything is looked at.
    import tensorflow as tf

    tf.config.list_physical_devices()
    monkeypatch.setattr("zoo.repro.run.pipeline.load_entry", _load_once)
    monkeypatch.setattr("zoo.network.predicting.load_entry", _load_once)
    folder = tmp_path / "working_folder"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Any:
        from zoo.cli import app as cli

        words = ["zoo", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        capfd.readouterr()
        try:
            cli.main()
            code: Any = 0
        except SystemExit as exit_:
            code = exit_.code or 0
        shown = capfd.readouterr()
        assert list(folder.iterdir()) == []
        return subprocess.CompletedProcess(words, code, shown.out, shown.err)

    return run


@pytest.fixture
def one_line() -> Callable[..., str]:
    """Returns a function that checks how a call failed: its exit code, and one line on stderr."""

    def check(done: subprocess.CompletedProcess[str], code: int, *, after_progress: bool = False) -> str:
        lines = done.stderr.splitlines()
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert lines[-1].startswith("zoo: error: "), done.stderr
        if after_progress:
            assert all(line.startswith("zoo: ") for line in lines), done.stderr
        else:
            assert len(lines) == 1, done.stderr
        return lines[-1].removeprefix("zoo: error: ")

    return check


RUN_DATA = Path(__file__).parent / "data" / "run"


@pytest.fixture(scope="session")
def minicity_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run over the bundled Cityscapes-like entry; tests only read it."""
    return _unpack_run("minicity", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def minicoco_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run over the bundled COCO-like entry; tests only read it."""
    return _unpack_run("minicoco", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def minicity_statistics(minicity_run: Path) -> list[dict[str, Any]]:
    """The statistics of each of the 30 images of `minicity_run`, in the order of the run."""
    return _statistics(minicity_run)


@pytest.fixture(scope="session")
def minicoco_statistics(minicoco_run: Path) -> list[dict[str, Any]]:
    """The statistics of each of the 30 images of `minicoco_run`, in the order of the run."""
    return _statistics(minicoco_run)


def _unpack_run(name: str, parent: Path) -> Path:
    """Returns the folder of a run, without predictions; see `data/run/pack_run.py` for how it was made."""
    import numpy as np

    from zoo.files.json_files import write_json
    from zoo.repro.records.run_folder import RunFolder

    folder = RunFolder(parent / f"{name}__mobilenet_v3_small_os16")
    folder.images.mkdir(parents=True)
    with np.load(RUN_DATA / f"{name}.npz") as packed:
        names = sorted({key.rpartition(":")[0] for key in packed.files} - {""})
        split = {
            key: np.split(packed[f"{key}:joined"], np.cumsum(packed[f"{key}:lengths"])[:-1]) for key in names
        }
        is_number = {key: packed[f"{key}:ndim"] == 0 for key in names}
        for position, image_id in enumerate(packed["image_ids"].tolist()):
            arrays = {key: split[key][position] for key in names}
            folder.write_statistics(
                image_id,
                {key: array.reshape(()) if is_number[key] else array for key, array in arrays.items()},
            )
    record = json.loads((RUN_DATA / f"{name}.json").read_text(encoding="utf-8"))
    write_json(folder.root / "record.json", record)
    return folder.root


def _statistics(run: Path) -> list[dict[str, Any]]:
    from zoo.repro.records.run_folder import RunFolder

    folder = RunFolder(run)
    return list(folder.read_statistics(sorted(path.stem for path in folder.images.glob("*.npz"))))
