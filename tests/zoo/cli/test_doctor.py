"""`zoo doctor`: what it finds, what it keeps to itself, and that it needs neither TensorFlow nor a cache."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

NAME = "minicity/mobilenet_v3_small_os16"


def test_the_description_is_right_and_names_nobody(zoo_command: Command, tmp_path: Path) -> None:
    home = tmp_path / "home" / "grete"
    (home / "pictures").mkdir(parents=True)
    scratch = tmp_path / "scratch" / "grete"
    scratch.mkdir(parents=True)
    personal = {
        "HOME": str(home),
        "LOGNAME": "grete",
        "USER": "grete",
        "ZOO_CACHE": str(home / "cache"),
        "ZOO_LOCK": str(scratch / "zoo.lock"),
        "KERAS_BACKEND": "tensorflow",
        "A_TOKEN": "hush",
    }
    data = ("--data", f"cityscapes={home / 'pictures'}")
    done = zoo_command("doctor", *data, "--json", environment=personal)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("grete", "hush", str(tmp_path / "home"), platform.node()):
        assert word not in done.stdout
    found = json.loads(done.stdout)
    assert found["zoo"] == metadata.version("panoptic-zoo")
    assert found["packages"]["tensorflow"] == metadata.version("tensorflow")
    assert found["extras"]["test"] == []
    tensorflow = found["runtimes"]["tensorflow"]
    assert (tensorflow["default"], tensorflow["devices"]["kind"] in ("cpu", "gpu")) == (True, True)
    cache = found["cache"]
    assert (cache["root"], cache["writable"], cache["bytes"]) == ("~/cache", True, 0)
    assert found["lock"] == {"path": f"{scratch.parent}/USER/zoo.lock", "files": 0}
    assert found["datasets"]["minicity"] == {"found": "bundled"}
    assert "~/pictures" in found["datasets"]["cityscapes"]["error"]
    shown = {"ZOO_CACHE": "~/cache", "ZOO_LOCK": found["lock"]["path"], "KERAS_BACKEND": "tensorflow"}
    assert found["environment"] == shown
    assert not (home / "cache").exists()


def doctor_without_tensorflow(tmp_path: Path, *words: str, **variables: str) -> Any:
    program = "import sys; sys.modules['tensorflow'] = None; from zoo.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "doctor", *words],
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path), **variables},
        capture_output=True,
        text=True,
    )


def test_without_tensorflow_and_without_a_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = doctor_without_tensorflow(tmp_path, ZOO_CACHE=str(tmp_path / "file" / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "tensorflow not installed" in lines
    assert any(line.startswith("cache: ~/file/cache, 0 B, NOT WRITABLE") for line in lines)
    assert "minicity bundled" in lines


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "cache")
    done = doctor_without_tensorflow(tmp_path, "--run", "--json", ZOO_CACHE=cache)
    assert done.returncode == 3
    run = json.loads(done.stdout)["run"]
    assert (run["entry"], run["exit_code"]) == (NAME, 3)
    assert "set ZOO_CACHE" in run["error"]


@pytest.mark.parametrize("value", ["cityscapes", "nowhere=."])
def test_refused_data(zoo_call: Command, one_line: Command, value: str) -> None:
    one_line(zoo_call("doctor", "--data", value), 2)
