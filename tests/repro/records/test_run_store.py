"""A run in a bucket: what a process that dies leaves there, and what one on another machine makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import DownloadError, EvaluationError, InUseError, UsageError
from zoo.remote import retries
from zoo.remote.stores import BucketStore
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.records.run_store import LEASE, StoredDestination

fsspec = pytest.importorskip("fsspec")

ARRAYS = {"a": np.arange(3)}
ONE, OTHER = {"entry": "one"}, {"entry": "other"}
RECORD = '{"timings": {"started": "2026-01-02T03:04:05+00:00"}}'
URL = "memory://runs/net"

Place = Callable[[str], StoredDestination]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Returns a function that opens the destination on a machine of that name."""
    monkeypatch.setattr(retries, "FIRST_DELAY_S", 0.001)
    yield lambda machine: StoredDestination(tmp_path / machine / "net", URL)
    fsspec.filesystem("memory").store.clear()


def there(url: str = "memory://runs") -> list[str]:
    return sorted(BucketStore(url).files(url))


def evaluate(folder: RunFolder, send: Callable[[list[Path]], None], image_id: str) -> None:
    prediction = folder.predictions / "panoptic" / f"{image_id}.png"
    prediction.parent.mkdir(parents=True, exist_ok=True)
    prediction.write_bytes(image_id.encode())
    folder.write_statistics(image_id, ARRAYS)
    send([prediction, folder.statistics_path(image_id)])


def whole_run(destination: StoredDestination, identity: dict[str, Any], images: str) -> Path | None:
    with destination.in_use():
        folder = destination.open(identity)
        with destination.sending() as send:
            for image_id in images:
                evaluate(folder, send, image_id)
        (folder.root / "record.json").write_text(RECORD)
        return destination.finish()


def test_a_run_goes_on_on_another_machine(place: Place) -> None:
    destination = place("first")
    with destination.in_use():
        folder = destination.open(ONE)
        with destination.sending() as send:
            evaluate(folder, send, "a")
            evaluate(folder, send, "b")
    assert there("memory://runs/net.unfinished") == [
        "images/a.npz",
        "images/b.npz",
        "predictions/panoptic/a.png",
        "predictions/panoptic/b.png",
        "run.json",
    ]
    # Statistics that were cut short are made again, as on disk.
    store = BucketStore(URL)
    cut = store.read(f"{URL}.unfinished/images/b.npz")
    assert cut is not None
    store.write(f"{URL}.unfinished/images/b.npz", cut[:-1])
    destination = place("second")
    with destination.in_use():
        folder = destination.open(ONE)
        assert folder.done("abc") == {"a"}
        assert (folder.predictions / "panoptic" / "a.png").read_bytes() == b"a"
        with destination.sending() as send:
            evaluate(folder, send, "b")
            evaluate(folder, send, "c")
        (folder.root / "record.json").write_text(RECORD)
        assert destination.finish() is None
    assert [name for name in there() if name.startswith("net.unfinished")] == []
    assert [name for name in there() if name.endswith(".npz")] == [f"net/images/{name}.npz" for name in "abc"]
    assert store.read(f"{URL}/record.json") == RECORD.encode()


def test_a_later_run_replaces_the_results_or_keeps_those_of_something_else(place: Place) -> None:
    whole_run(place("first"), ONE, "abc")
    assert whole_run(place("second"), ONE, "ab") is None
    assert [name for name in there() if name.endswith(".npz")] == ["net/images/a.npz", "net/images/b.npz"]
    kept = whole_run(place("third"), OTHER, "a")
    assert kept is not None
    assert kept.name.startswith("net__20")
    store = BucketStore(URL)
    assert json.loads(store.read(f"{URL}/run.json") or "") == OTHER
    assert json.loads(store.read(f"memory://runs/{kept.name}/run.json") or "") == ONE
    assert f"{kept.name}/images/b.npz" in there()


def test_an_unfinished_run_of_something_else_is_kept_or_discarded(place: Place) -> None:
    destination = place("first")
    with destination.in_use(), destination.sending() as send:
        evaluate(destination.open(ONE), send, "a")
    with place("second").in_use(), pytest.raises(EvaluationError, match="--restart discards it"):
        place("second").open(OTHER)
    destination = place("second")
    with destination.in_use():
        destination.open(OTHER, restart=True)
    assert there("memory://runs/net.unfinished") == ["run.json"]
    destination.discard()
    assert there() == []


def test_a_second_run_is_told_of_the_first_in_one_line(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        place("first").in_use(),
        pytest.raises(
            InUseError, match=f"^{URL}: process {os.getpid()} on .* is running there, seen 0 s ago"
        ),
    ):
        place("second").in_use().__enter__()
    with place("second").in_use():
        pass
    assert there() == []
    # One that died is forgotten: on this machine at once, of another one after some minutes.
    dead = subprocess.Popen([sys.executable, "-c", ""], cwd=tmp_path)
    dead.wait()
    import socket
    import time

    lease = {"id": "x", "host": socket.gethostname(), "pid": dead.pid, "at_s": time.time()}
    for changed, refused in (
        ({}, False),
        ({"host": "another"}, True),
        ({"host": "another", "at_s": 0}, False),
    ):
        BucketStore(URL).write(f"{URL}.unfinished/{LEASE}", json.dumps({**lease, **changed}).encode())
        if refused:
            with pytest.raises(InUseError):
                place("second").in_use().__enter__()
        else:
            with place("second").in_use():
                pass


def test_a_run_whose_files_cannot_be_sent_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = place("first")
    with destination.in_use():
        folder = destination.open(ONE)

        def full(url: str, contents: bytes) -> None:
            raise DownloadError(f"{url}: no")

        monkeypatch.setattr(destination._store, "write", full)
        with (
            pytest.raises(DownloadError, match=r"images/a\.npz: no|a\.png: no"),
            destination.sending() as send,
        ):
            evaluate(folder, send, "a")
        monkeypatch.undo()
    assert folder.done("a") == {"a"}


def test_a_web_server_takes_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a path or a bucket \(s3://, gs://\), found a web server"):
        StoredDestination(tmp_path, "https://host/runs/net")
