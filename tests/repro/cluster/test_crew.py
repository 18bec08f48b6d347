"""Items dealt to processes: each comes back once, whoever dies."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError, EvaluationError, UsageError
from zoo.repro.cluster.crew import Crew, deal
from zoo.repro.cluster.workers import Workers, is_address

pytestmark = pytest.mark.xdist_group("ray")


class Squares:
    """Squares numbers after a wait that a seed decides; writes down each call."""

    def __init__(self, calls: Path, together: int = 1, poison: int = -1, broken: int = -1) -> None:
        self.calls, self.together, self.poison, self.broken = calls, together, poison, broken
        self.about = {"threads": os.environ["TF_NUM_INTRAOP_THREADS"]}

    def __call__(self, item: int) -> tuple[int, int]:
        (self.calls / f"{item}-{os.getpid()}-{os.urandom(4).hex()}").touch()
        # Until so many processes take part.
        while len({path.name.split("-")[1] for path in self.calls.iterdir()}) < self.together:
            time.sleep(0.05)
        time.sleep(random.Random(item).random() / 20)
        if item == self.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        if item == self.broken:
            raise DataError(f"{item}: broken")
        return item * item, os.getpid()


def no_worker() -> Any:
    raise DataError("/nowhere: does not exist")


@pytest.fixture(autouse=True)
def by_value() -> Iterator[None]:
    """Sends the functions of this file to workers as they are, since they cannot import it."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


@pytest.mark.parametrize("actors", [1, 5])
def test_each_item_comes_back_once(three_nodes: Any, calls: Path, actors: int) -> None:
    workers = Workers(three_nodes.address, actors=actors, cpus_per_actor=1)
    with Crew(partial(Squares, calls, actors), workers, at_once=3) as crew:
        dealt = list(crew.deal(range(40)))
        assert crew.about == {"threads": "1"}
        found = crew.recorded()
    assert sorted((each.item, each.result[0]) for each in dealt) == [(i, i * i) for i in range(40)]
    assert len(list(calls.iterdir())) == 40
    assert (found["actors"], found["threads"]) == (actors, 1)
    assert 1 <= found["nodes"] <= 3
    if actors > 1:
        assert [each.item for each in dealt] != list(range(40))
        assert len({each.result[1] for each in dealt}) == actors


def test_an_item_that_kills_its_process_is_found(
    three_nodes: Any, calls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workers = Workers(three_nodes.address, actors=2, cpus_per_actor=2)
    dealt = list(deal(range(20), partial(Squares, calls, poison=7, broken=11), workers, at_once=3))
    failures = {each.item: str(each.failure) for each in dealt if each.failure}
    assert sorted(each.item for each in dealt) == list(range(20))
    assert failures[7].startswith("7: failed 3 times, last on ")
    assert failures[7].endswith(": the process that worked on it died")
    assert failures[11].endswith(": 11: broken")
    assert len(failures) == 2
    assert len(list(calls.glob("7-*"))) == 3
    shown = capfd.readouterr()
    assert shown.out == ""
    assert all(line.startswith("zoo: a worker on ") for line in shown.err.splitlines()), shown.err


def test_what_cannot_start_is_one_line(three_nodes: Any) -> None:
    with pytest.raises(EvaluationError, match=r"^worker on \S+: /nowhere: does not exist$"):
        list(deal(range(3), no_worker, Workers(three_nodes.address, actors=1, cpus_per_actor=1)))
    too_many = Workers(three_nodes.address, actors=1, cpus_per_actor=3, patience_s=1)
    with pytest.raises(
        EvaluationError, match=r"wanted 1 x 3 CPU, found 3 nodes with 6 CPU .6 free., room for 0"
    ):
        list(deal(range(3), no_worker, too_many))
    with pytest.raises(EvaluationError, match=r"--ray 127\.0\.0\.1:9: no Ray cluster there: "):
        list(deal(range(3), no_worker, Workers("127.0.0.1:9")))


def test_a_cluster_is_named_by_an_address() -> None:
    assert all(map(is_address, ["local", "auto", "ray://head:10001", "head:6379", "10.0.0.1:6379"]))
    assert not any(map(is_address, ["minicity/mobilenet_v3_small_os16", "head", "", "head:", "ray://"]))
    for wrong, line in (
        ({"address": "head"}, "--ray head: expected local, auto"),
        ({"actors": 0}, "--actors 0: expected at least 1"),
        ({"cpus_per_actor": 0.0}, "--cpus-per-actor 0: expected"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor 1.5: expected"),
    ):
        with pytest.raises(UsageError, match=line):
            Workers(**wrong)  # type: ignore[arg-type]
