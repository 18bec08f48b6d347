from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from zoo.repro.cluster.connection import import_ray

# Before Ray is imported: its processes listen on this machine's loopback alone.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# A node of a busy machine is not lost because it answers late.
os.environ.setdefault("RAY_health_check_timeout_ms", "60000")


@pytest.fixture(scope="session", autouse=True)
def ray() -> Any:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    return import_ray()


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[Any]:
    """A cluster of three nodes with two CPUs each, on 127.0.0.1; this process is not connected to it."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    while len(cluster.list_all_nodes()) < 3:
        add_node(cluster)
    yield cluster
    cluster.shutdown()


def add_node(cluster: Any, attempts: int = 5) -> None:
    """Adds a node; Ray gives up after 30 s, which a busy machine exceeds."""
    for attempt in range(attempts):
        try:
            cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1", include_dashboard=False)
            return
        except Exception:
            if attempt == attempts - 1:
                raise


@pytest.fixture(scope="session")
def another_node() -> Callable[[Any], None]:
    """Returns a function that adds a node to a cluster."""
    return add_node
