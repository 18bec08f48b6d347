"""The process on a cluster that works on items, one or a few at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zoo.errors import EvaluationError, ZooError
from zoo.files.processes import use_cores
from zoo.repro.records.software import code_digest, versions


class Started(NamedTuple):
    """What a worker says when it is ready."""

    node: str  # the machine's name
    node_id: str  # Ray's
    pid: int
    about: Any  # the worker's own `about`, if it has one


def software() -> dict[str, str]:
    """Returns the software that has to be the same on the driver and on all workers."""
    import ray

    return {**versions(), "ray": ray.__version__, "code": code_digest()}


class Worker:
    """Holds what `make_worker` returned, and calls it for each item. Methods are called by Ray."""

    def __init__(self, threads: int, gpus: float) -> None:
        # Before anything is imported that asks for it.
        use_cores(threads)
        if gpus:
            os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        self._node = socket.gethostname()
        self._work: Callable[[Any], Any] | None = None

    def start(self, expected: Mapping[str, str], make_worker: Callable[[], Callable[[Any], Any]]) -> Started:
        """Checks the software here, and makes the worker.

        Raises:
          EvaluationError: the software differs, or the worker cannot be made here.
        """
        found = software()
        for name, version in expected.items():
            if found.get(name) != version:
                what = "the source of panoptic-zoo" if name == "code" else name
                raise EvaluationError(
                    f"worker on {self._node}: expected {what} {version[:12]}, as where `zoo` was called, "
                    f"found {found.get(name, 'none')[:12]}; install the same version there"
                )
        try:
            self._work = make_worker()
        except (ZooError, OSError) as error:
            raise EvaluationError(f"worker on {self._node}: {error}") from None
        import ray

        node_id = ray.get_runtime_context().get_node_id()
        return Started(self._node, node_id, os.getpid(), getattr(self._work, "about", None))

    def work(self, item: Any) -> Any:
        """Returns what the worker makes of an item; may run in several threads."""
        assert self._work is not None
        return self._work(item)

    def stop(self) -> None:
        """Ends this process, and what the worker holds with its `close`, if it has one."""
        import ray

        getattr(self._work, "close", lambda: None)()
        ray.actor.exit_actor()
