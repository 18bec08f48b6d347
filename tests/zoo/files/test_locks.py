from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from zoo.errors import InUseError, ZooError
from zoo.files.locks import holding, scratch_folder

TAKEN = "runs/a: another process is running there"


def test_the_second_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    with (
        holding(path, TAKEN),
        pytest.raises(InUseError, match=f"^{TAKEN}; wait for it, or give another --out$"),
        holding(path, TAKEN),
    ):
        pytest.fail("two have it")
    with holding(path, TAKEN):
        pass


def test_the_second_says_that_it_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order = []

    def second() -> None:
        with holding(tmp_path / "lock", TAKEN, wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    with caplog.at_level(logging.WARNING, "zoo"), holding(tmp_path / "lock", TAKEN, wait=True):
        thread.start()
        while not caplog.messages:
            thread.join(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == [f"{TAKEN}, waiting"]


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ZooError, match=r"^cannot write .* is a file, not a folder; choose another$"),
        holding(tmp_path / "file" / "lock", TAKEN, remedy="choose another"),
    ):
        pytest.fail("a lock in a file")


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As network file systems are whose lock service does not run."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(ZooError, match=r"^cannot write .*: no locks available; choose another$"),
        holding(tmp_path / "lock", TAKEN, wait=True, remedy="choose another"),
    ):
        pytest.fail("a lock without locks")


def test_a_scratch_folder_of_a_killed_process_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = """if True:
        from zoo.files.locks import scratch_folder
        with scratch_folder("work-") as folder:
            (folder / "picture.png").write_text("")
            print(folder, flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with scratch_folder("work-") as ours:
            assert {path for path in tmp_path.iterdir() if path.is_dir()} == {theirs, ours}
        other.kill()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [theirs]
    with scratch_folder("work-") as ours:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [ours]
    assert list(tmp_path.iterdir()) == []
