"""Connects to a Ray cluster, or starts one on this machine, and says what it can hold."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.errors import EvaluationError, not_installed
from zoo.files.processes import available_cores, environment
from zoo.files.progress import say
from zoo.files.words import counted
from zoo.repro.cluster.workers import AUTO, LOCAL, Share, Workers

# Results wait there for the driver, which takes them at once.
_OBJECT_STORE_BYTES = 512 << 20
_LISTENS_WITHIN_S = 10.0
# After 60 s, Ray would end this process with exit code 1.
_HEAD_ANSWERS_WITHIN_S = 30.0
_LOOK_AT_HEAD_S = 2.0
# Ray gives up after 30 s, which a busy machine exceeds.
_STARTS = 3
# Where `ray://` means no other.
_CLIENT_PORT = 10001
# A network gains little from more threads than that.
_CPUS_PER_ACTOR = 4

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray announces what a later version will do, on standard error,
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # and which processes died, on standard output.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # Attempts to connect, of about 40 s each; by default there are 20.
    "RAY_gcs_server_port_wait_time_s": "1",
}
# Despite its name: without clusters, Ray's processes talk to each other on 127.0.0.1 alone.
_LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def import_ray() -> Any:
    """Imports Ray; raises a UsageError where it is not installed."""
    if find_spec("ray") is None:
        raise not_installed("--ray", "Ray", "panoptic-zoo[ray]")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    return ray


@contextmanager
def connected(workers: Workers) -> Iterator[None]:
    """Connects this process to a cluster while the block runs; an inner block uses the outer one's.

    Ray that is started here ends with the block, and with this process however that ends.

    Raises:
      UsageError: Ray is not installed.
      EvaluationError: there is no cluster at the address, or one of another version.
    """
    if workers.address == LOCAL:
        os.environ.update(_LOOPBACK_ONLY)
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _temporary_folder() as folder:
        if workers.address == LOCAL:
            quiet |= _local_options(folder)
        yield from _until_shut_down(ray, workers, folder, **quiet)


def _local_options(folder: Path) -> dict[str, Any]:
    return {
        "num_cpus": available_cores(),
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": str(folder),
    }


def _until_shut_down(ray: Any, workers: Workers, folder: Path, **options: Any) -> Iterator[None]:
    is_local = workers.address == LOCAL
    address, where = workers.address, f"--ray {workers.address}"
    if address == AUTO and (named := os.environ.get("RAY_ADDRESS")):
        address, where = named, f"{where} (RAY_ADDRESS is {named})"
    for attempt in range(_STARTS):
        try:
            if address not in (LOCAL, AUTO):
                _require_listener(ray, address)
            # What is started there removes its temporary files with the folder.
            with _current(folder), environment(TMPDIR=str(folder)) if is_local else nullcontext():
                ray.init(address=address, **options)
            break
        except Exception as error:
            if not is_local or attempt == _STARTS - 1:
                raise EvaluationError(f"{where}: {_why_not(error, is_local=is_local)}") from None
    head, over = "" if is_local else ray.get_runtime_context().gcs_address, threading.Event()
    # A client is told by Ray.
    if head and not address.startswith("ray://"):
        threading.Thread(target=_end_without, args=(head, where, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        ray.shutdown()


def _end_without(head: str, where: str, over: threading.Event) -> None:
    """Ends this process where the head of the cluster is gone for long: nothing that Ray does would return.

    Args:
      head: its address.
      where: what the user calls it.
      over: is set once it is not needed any more.
    """
    answered = time.monotonic()
    while not over.wait(_LOOK_AT_HEAD_S):
        try:
            _connect(head)
            answered = time.monotonic()
        except OSError as error:
            if time.monotonic() - answered > _HEAD_ANSWERS_WITHIN_S:
                say(
                    f"error: {where}: the head of the cluster, {head}, does not answer ({error}); what "
                    "was computed is kept, and the same command resumes where it was"
                )
                os._exit(EvaluationError.exit_code)


@contextmanager
def _current(folder: Path) -> Iterator[None]:
    """Makes an empty folder the current one.

    Ray's workers look for modules in the one where it was connected first: in a checkout, they would find the
    folder `zoo` there instead of the package.
    """
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _require_listener(ray: Any, address: str) -> None:
    """Raises an OSError where nothing listens at an address: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        host, port = port, str(_CLIENT_PORT)
    if host.strip("[]") in ("localhost", "127.0.0.1", "::1"):
        # As Ray understands it.
        host = ray.util.get_node_ip_address()
    _connect(f"{host}:{port}")


def _connect(address: str) -> None:
    """Raises an OSError where nothing listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENS_WITHIN_S).close()


def _why_not(error: Exception, *, is_local: bool) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if is_local:
        return f"Ray could not be started {_STARTS} times: {lines[0]}; is this machine too busy?"
    if "ersion mismatch" in str(error):
        return f"the cluster has another version of Ray or Python: {'; '.join(lines[:5])}"
    return f"no Ray cluster there: {lines[0]}; `ray start --head` makes one, or --ray local for this machine"


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Makes a folder for Ray's logs and sockets, whose paths must be short."""
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="zoo-ray-", dir=parent if len(parent) < 30 else "/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _nodes() -> list[Mapping[str, float]]:
    """Returns the resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def choose_share(workers: Workers, most: int | None = None) -> Share:
    """Returns what each worker gets: as asked, else from the resources of the nodes.

    Args:
      workers: what the user asks for.
      most: more workers would have nothing to do; None for no such limit.
    """
    nodes = _nodes()
    gpus = workers.gpus_per_actor
    if gpus is None:
        gpus = float(any(node.get("GPU", 0) >= 1 for node in nodes))
    cpus = workers.cpus_per_actor
    if cpus is None:
        of_each = max((_cpus_of_each(node, gpus) for node in nodes), default=1.0)
        cpus = max(1.0, float(int(min(_CPUS_PER_ACTOR, of_each))))
        # As many workers as are asked for share what there is.
        while workers.actors and cpus > 1 and capacity(nodes, cpus, gpus) < workers.actors:
            cpus -= 1
    found = capacity(nodes, cpus, gpus)
    actors = workers.actors or max(1, min(found, most or found))
    return Share(actors, cpus, gpus)


def _cpus_of_each(node: Mapping[str, float], gpus: float) -> float:
    """Returns the CPUs that each of as many workers has as the GPUs of a node, or one, serve."""
    return node.get("CPU", 0.0) / max(1.0, node.get("GPU", 0.0) / gpus if gpus else 1.0)


def capacity(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """Returns how many workers the nodes can hold."""
    held = 0
    for node in nodes:
        of_cpus = int(node.get("CPU", 0) / cpus + 1e-6)
        held += min(of_cpus, int(node.get("GPU", 0) / gpus + 1e-6)) if gpus else of_cpus
    return held


def describe_room(share: Share) -> str:
    """Returns what the cluster holds and what of it is free, and how many workers that makes."""
    import ray

    nodes, free, held = _nodes(), ray.available_resources(), room_for(share)
    parts = [
        f"{sum(node.get(kind, 0) for node in nodes):g} {kind} ({free.get(kind, 0):g} free)"
        for kind in ("CPU", "GPU")
        if kind == "CPU" or share.gpus
    ]
    return f"{counted(len(nodes), 'node')} with {', '.join(parts)}, room for {counted(held, 'such worker')}"


def room_for(share: Share) -> int:
    """Returns how many such workers the cluster can hold now, where nobody else uses it."""
    return capacity(_nodes(), share.cpus, share.gpus)


def no_room(share: Share) -> str:
    """Returns the message about workers that do not fit."""
    return (
        f"--ray: wanted {share}, found {describe_room(share)}; "
        "ask for fewer with --actors, or less for each with --cpus-per-actor and --gpus-per-actor"
    )
