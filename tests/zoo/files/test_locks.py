from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from zoo.errors import InUseError, ZooError
from zoo.files.locks import holding

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
