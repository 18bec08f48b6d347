"""What goes wrong on a cluster is one line each, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from zoo.errors import EvaluationError
from zoo.files.atomic import write_atomically
from zoo.repro.cluster import connection, crew
from zoo.repro.cluster.crew import deal
from zoo.repro.cluster.workers import Workers

resource = pytest.importorskip("resource")

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(os.name != "posix", reason="signals and limits"),
]


@pytest.fixture(autouse=True)
def by_value() -> Iterator[None]:
    """Sends the functions of this file to workers as they are, since they cannot import it."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


class Waits:
    """Returns numbers after a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, item: int) -> int:
        time.sleep(self.seconds)
        return -item


class Writes:
    """Writes a file that the first worker's disk has no room for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "first").touch(exist_ok=False)
        except FileExistsError:
            return
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))

    def __call__(self, item: int) -> int:
        write_atomically(self.folder / str(item), bytes(100_000))
        return -item


def test_a_node_that_is_lost_takes_nothing_with_it(
    three_nodes: Any, another_node: Callable[[Any], None]
) -> None:
    workers = Workers(three_nodes.address, actors=3, cpus_per_actor=1)
    dealt = deal(range(60), partial(Waits, 0.1), workers, at_once=2)
    found = [next(dealt) for _ in range(5)]
    three_nodes.remove_node(sorted(three_nodes.worker_nodes, key=id)[0], allow_graceful=False)
    try:
        found += list(dealt)
    finally:
        # Until Ray knows of it, it would put the next test's workers there.
        three_nodes.wait_for_nodes(timeout=300)
        another_node(three_nodes)
    assert sorted((each.item, each.result) for each in found) == [(i, -i) for i in range(60)]


def test_a_worker_without_room_on_its_disk(three_nodes: Any, tmp_path: Path) -> None:
    # Another one does its work.
    workers = Workers(three_nodes.address, actors=2, cpus_per_actor=1)
    dealt = list(deal(range(6), partial(Writes, tmp_path), workers))
    assert sorted((each.item, each.result) for each in dealt) == [(i, -i) for i in range(6)]

    # There is no other.
    (tmp_path / "first").unlink()
    alone = Workers(three_nodes.address, actors=1, cpus_per_actor=1)
    (failed,) = deal([7], partial(Writes, tmp_path), alone)
    assert str(failed.failure).startswith("7: failed 3 times, last on ")
    assert f": cannot write {tmp_path / '7'}: file too large; " in str(failed.failure)


def test_another_version_on_a_worker(three_nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = crew.software()
    alone = Workers(three_nodes.address, actors=1, cpus_per_actor=1, attempts=1)
    for name, line in (
        ("panoptic-zoo", "expected panoptic-zoo 9.9, as where `zoo` was called, found "),
        ("code", "expected the source of panoptic-zoo 9.9, as where `zoo` was called, found "),
        ("ray", "expected ray 9.9, as where `zoo` was called, found "),
    ):
        monkeypatch.setattr(crew, "software", lambda name=name: {**ours, name: "9.9"})
        with pytest.raises(EvaluationError, match=rf"^worker on \S+: {line}"):
            list(deal([1], partial(Waits, 0), alone))


def test_ray_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, zoo_call: Callable[..., Any], one_line: Callable[..., str]
) -> None:
    name = "minicity/mobilenet_v3_small_os16"
    assert one_line(zoo_call("reproduce", name, "--actors", 2), 2) == (
        "--actors 2: expected --ray too, e.g. --ray local"
    )
    assert one_line(zoo_call("reproduce", name, "--ray=head"), 2).startswith(
        "--ray head: expected local, auto"
    )
    device = one_line(zoo_call("reproduce", name, "--ray", "local", "--device", "gpu:1"), 2)
    assert device.startswith("--device gpu:1: expected auto, cpu or gpu with --ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    nobody = one_line(zoo_call("reproduce", "--ray", name), 3)
    assert nobody.startswith("--ray auto (RAY_ADDRESS is 127.0.0.1:9): no Ray cluster there: ")
    assert nobody.endswith("or --ray local for this machine")
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    assert one_line(zoo_call("reproduce", "--ray", "local", name), 2) == (
        "--ray: expected Ray, which is not installed; `pip install 'panoptic-zoo[ray]'` brings it"
    )


LOCAL = """
import os, sys, types

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from ray import cloudpickle

module = types.ModuleType("waiting")
exec("import time\\nclass Waits:\\n def __call__(self, item): time.sleep(0.2)\\n", module.__dict__)
sys.modules["waiting"] = module
cloudpickle.register_pickle_by_value(module)

from zoo.repro.cluster.crew import deal
from zoo.repro.cluster.workers import Workers

for dealt in deal(range(100_000), module.Waits, Workers("local", actors=2, cpus_per_actor=1)):
    print(dealt.item, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ray_started_here_ends_with_the_process_that_started_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOCAL],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for _ in range(3):
            assert process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        names = " ".join(word for child in children for word in child.cmdline()[:1])
        assert "raylet" in names
        assert "gcs_server" in names
        assert "ray::Worker" in names
        # Control-C reaches all processes of the terminal.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    finally:
        if sys.exc_info()[0] is not None:
            process.kill()
        process.communicate()
    _, running = psutil.wait_procs(children, timeout=120)
    assert not running


HEAD = """
import socket, threading, time
from zoo.repro.cluster import connection

connection._LOOK_AT_HEAD_S, connection._HEAD_ANSWERS_WITHIN_S = 0.05, 0.2
with socket.create_server(("127.0.0.1", 0)) as head:
    address = f"127.0.0.1:{head.getsockname()[1]}"
    arguments = address, "--ray auto", threading.Event()
    threading.Thread(target=connection._end_without, args=arguments, daemon=True).start()
    time.sleep(1)
    print("it answers", flush=True)
time.sleep(600)
"""


def test_a_run_does_not_wait_for_a_head_that_is_gone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HEAD], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stdout == "it answers\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("zoo: error: --ray auto: the head of the cluster, 127.0.0.1:")
    assert line.endswith("the same command resumes where it was")
