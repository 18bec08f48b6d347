from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from zoo.repro.cluster.connection import import_ray

# Before Ray is imported: its processes listen on this machine's loopback alone.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


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
    for _ in range(3):
        cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1", include_dashboard=False)
    yield cluster
    cluster.shutdown()
