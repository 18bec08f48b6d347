"""Processes with limits: how they end, and that nothing of them stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from zoo.errors import InterruptedRunError
from zoo.repro.nights.exit_file import EXIT_FILE, write_exit_file
from zoo.repro.nights.limited import Call, Ended, _last_line, wait_for_one

NAME = "minicity/mobilenet_v3_small_os16"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups")


def call_zoo(words: list[str], output: Path, **limits: Any) -> Ended:
    with Call(words, output, **limits) as call:
        return wait_for_one({"": call})[1]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, zoo_cache: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(zoo_cache))
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)


def test_a_command_that_ends_by_itself(quiet: None, tmp_path: Path) -> None:
    ended = call_zoo(["list", "minicity/*"], tmp_path / "log.txt")
    assert (ended.exit_code, ended.limit) == (0, None)
    assert NAME in (tmp_path / "log.txt").read_text()
    # The next one adds to the file.
    failed = call_zoo(["show", "no/such_entry"], tmp_path / "log.txt")
    assert failed.exit_code == failed.note["exit_code"] == 2
    assert failed.error.startswith("no entry 'no/such_entry'")
    assert failed.last_line == f"zoo: error: {failed.error}"
    assert NAME in (tmp_path / "log.txt").read_text()
    assert ended.duration_s > 0


def test_it_runs_the_installed_package_wherever_it_starts(
    quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo.py").write_text("raise SystemExit('another zoo')\n")
    monkeypatch.chdir(tmp_path)
    assert call_zoo(["--version"], tmp_path / "log.txt").exit_code == 0


def test_a_limit_of_time(quiet: None, tmp_path: Path) -> None:
    ended = call_zoo(["reproduce", NAME, "--out", str(tmp_path)], tmp_path / "log.txt", timeout_s=0.6)
    assert ended.limit == ended.error == "ended after 0.01 minutes"
    assert not (tmp_path / NAME.replace("/", "__") / "record.json").exists()


def test_a_limit_of_memory(quiet: None, tmp_path: Path) -> None:
    words = ["reproduce", NAME, "--out", str(tmp_path)]
    ended = call_zoo(words, tmp_path / "log.txt", memory_bytes=100 * 2**20)
    assert ended.exit_code == -signal.SIGKILL
    assert ended.peak_memory_bytes > 100 * 2**20
    assert ended.limit is not None
    assert ended.limit.endswith("GiB of memory, limit 0.0976562 GiB")


@pytest.mark.parametrize(
    ("exit_code", "note", "last_line", "expected"),
    [
        (3, {"message": "a/b: no data"}, "zoo: 2 of 30", "a/b: no data"),
        (-signal.SIGSEGV, {}, "zoo: 2 of 30", "ended by SIGSEGV"),
        (-signal.SIGKILL, {}, "", "ended by SIGKILL; the machine may have run out of memory"),
        (1, {}, "ValueError: 7", "ended with exit code 1: ValueError: 7"),
        (9, {}, "", "ended with exit code 9"),
    ],
)
def test_an_error_is_one_line(exit_code: int, note: dict[str, Any], last_line: str, expected: str) -> None:
    assert Ended(exit_code, None, 1.0, 1, note, last_line).error == expected


@pytest.mark.parametrize(
    ("output", "expected"), [(b"", ""), (b"one\n", "one"), (b"one\n two\xff \r\n \n\n", "two\ufffd")]
)
def test_the_last_line_of_any_output(output: bytes, expected: str) -> None:
    assert _last_line(output) == expected


def test_an_exit_file_says_how_far_the_run_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "exit.json"
    write_exit_file("nobody asks", 3)
    monkeypatch.setenv(EXIT_FILE, str(path))
    write_exit_file("a/b: interrupted", 130, InterruptedRunError("a/b: interrupted", 12, 500))
    note = json.loads(path.read_text(encoding="utf-8"))
    assert note == {"message": "a/b: interrupted", "exit_code": 130, "images_done": 12, "images": 500}
    ended = Ended(130, "ended after 5 minutes", 301.0, 1, note)
    assert ended.error == "ended after 5 minutes with 12 of 500 images done"
    # A folder that is gone is no second error.
    monkeypatch.setenv(EXIT_FILE, str(path / "below a file"))
    write_exit_file("a/b: no data", 3)


CALLS = """
import sys
from pathlib import Path
from typing import Any
from zoo.repro.nights.limited import Call, wait_for_one

with Call(["reproduce", sys.argv[1], "--out", sys.argv[2]], Path(sys.argv[2]) / "log.txt") as call:
    wait_for_one({"": call})
"""


def test_it_ends_when_its_parent_is_killed(quiet: None, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CALLS, NAME, str(tmp_path)], cwd=tmp_path) as parent:
        while not (children := psutil.Process(parent.pid).children(recursive=True)):
            time.sleep(0.05)
        # Its watch starts with it, and before anything else that takes time.
        while not any(child.num_threads() > 1 for child in children):
            time.sleep(0.05)
        parent.kill()
    _, alive = psutil.wait_procs(children)
    assert alive == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_it_can_be_interrupted_where_the_shell_ignores_interrupts(quiet: None, tmp_path: Path) -> None:
    registry = tmp_path / "registry.yaml"
    os.mkfifo(registry)
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        call = threading.Thread(
            target=call_zoo, args=(["--registry", str(registry), "list"], tmp_path / "log.txt")
        )
        call.start()
        # Opens once the other side reads.
        with registry.open("w") as pipe:
            children = psutil.Process().children()
            (child,) = (child for child in children if str(registry) in child.cmdline())
            status = Path(f"/proc/{child.pid}/status").read_text()
            pipe.write("entries: {}")
        call.join()
    finally:
        signal.signal(signal.SIGINT, kept)
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    assert caught & 1 << (signal.SIGINT - 1)
