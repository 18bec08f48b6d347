"""Describes this installation, as `zoo doctor` shows it.

What is said names neither user nor machine, and shortens the home folder to `~`.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.files.cache import Cache
from zoo.files.contents import describe
from zoo.files.keras_backend import BACKENDS, chosen_backend
from zoo.files.progress import say
from zoo.files.words import counted, readable_size
from zoo.runtimes.choice import FILE_RUNTIMES, RUNTIMES, version_of

if TYPE_CHECKING:
    from zoo.registry import Registry
    from zoo.registry.schema import DatasetDeclaration

_BUNDLED = "minicity/mobilenet_v3_small_os16"
"""What `zoo doctor --run` reproduces."""

_OWN_VARIABLES = ("ZOO_CACHE", "ZOO_DATA_CACHE", "ZOO_LOCK", "ZOO_REGISTRY", "ZOO_TRACEBACK", "KERAS_BACKEND")
"""The environment variables that zoo reads for itself; `zoo doctor` shows no others."""

# A library that crashes as it is imported ends only this process.
_FIND_DEVICES = """
import json
from zoo.files.keras_backend import import_backend
from zoo.network.devices import describe, strategy_for
import_backend()
print(json.dumps(describe(strategy_for("auto"))))
"""

_ZOO = "import runpy; runpy.run_module('zoo', run_name='__main__', alter_sys=True)"

_LONGEST_IMPORT_S = 300


def describe_installation(
    registry: Registry, folders: Mapping[str, Path], *, reproduces: bool = False
) -> dict[str, Any]:
    """Returns versions, devices, runtimes, extras, cache, lock file and data sets, as JSON values.

    Args:
      folders: data set -> the folder to look for it in.
      reproduces: reproduces the bundled entry too, in a process of its own; takes a minute.
    """
    found = {
        **_software(),
        **_hardware(),
        "runtimes": _runtimes(),
        **_cache_and_data(registry, folders),
        "environment": {name: os.environ[name] for name in _OWN_VARIABLES if os.environ.get(name)},
    }
    if reproduces:
        say(f"reproducing {_BUNDLED}")
        found["run"] = _reproduced()
    impersonal: dict[str, Any] = _impersonal(found)
    return impersonal


def _software() -> dict[str, Any]:
    distribution = "panoptic-zoo"
    packages = sorted({name for name, _ in _required(distribution, None)})
    extras = metadata.metadata(distribution).get_all("Provides-Extra") or []
    return {
        "zoo": metadata.version(distribution),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "extras": {extra: _missing(distribution, extra) for extra in sorted(extras)},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _required(distribution: str, extra: str | None) -> Iterator[tuple[str, list[str]]]:
    """Yields what a distribution requires, or what one of its extras adds: names, and extras of these."""
    for requirement in metadata.requires(distribution) or []:
        wanted, _, marker = requirement.partition(";")
        of_extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        if (of_extra[1] if of_extra else None) == extra:
            name, extras = re.match(r"\s*([\w.-]+)(?:\[([^]]*)])?", wanted).groups()  # type: ignore[union-attr]
            yield name, re.findall(r"[\w-]+", extras or "")


def _missing(distribution: str, extra: str) -> list[str]:
    """Returns which distributions of an extra are not installed."""
    missing = []
    for name, extras in _required(distribution, extra):
        if _version(name) is None:
            missing.append(name)
        else:
            missing += [each for more in extras for each in _missing(name, more)]
    return sorted(set(missing))


def _hardware() -> dict[str, Any]:
    import psutil

    from zoo.network.devices import describe_processor

    return {
        "processor": (*describe_processor()["names"], platform.machine())[0],
        "memory_bytes": psutil.virtual_memory().total,
    }


def _runtimes() -> dict[str, Any]:
    """Returns for each runtime its version and devices, an error, or None where it is not installed."""
    with ThreadPoolExecutor() as threads:
        found = dict(zip(RUNTIMES, threads.map(_runtime, RUNTIMES), strict=True))
    default = chosen_backend()
    return {name: about and {**about, "default": name == default} for name, about in found.items()}


def _runtime(name: str) -> dict[str, Any] | None:
    package = FILE_RUNTIMES[name].package if name in FILE_RUNTIMES else name
    if find_spec(package) is None:
        return None
    found: dict[str, Any] = {"version": "of unknown version"}
    # A package may come from a distribution of another name, as that of `tensorflow-cpu`.
    with suppress(metadata.PackageNotFoundError):
        found["version"] = version_of(name)
    if name not in BACKENDS:
        # See `zoo.runtimes.choice.refuse_options`.
        return {**found, "devices": {"kind": "cpu", "replicas": 1}}
    try:
        done = _python(_FIND_DEVICES, timeout=_LONGEST_IMPORT_S, KERAS_BACKEND=name)
    except subprocess.TimeoutExpired:
        return {**found, "error": f"finds no device within {_LONGEST_IMPORT_S} s"}
    try:
        return {**found, "devices": json.loads(done.stdout.splitlines()[-1])}
    except (IndexError, ValueError):
        return {**found, "error": _last_line(done)}


def _python(
    program: str, *words: str, timeout: float | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    # Otherwise a folder `zoo` in the current folder, as of a checkout, would be found first.
    program = f"import sys; sys.path[:] = filter(None, sys.path)\n{program}"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"ended with exit code {done.returncode}"


def _cache_and_data(registry: Registry, folders: Mapping[str, Path]) -> dict[str, Any]:
    from zoo.fetch.pin import LockFile, choose_lock_path

    found: dict[str, Any] = {}
    cache = None
    try:
        cache = Cache()
        found["cache"] = _cache(cache)
        path = choose_lock_path(cache.root)
        found["lock"] = {"path": str(path), "files": len(LockFile(path, cache).entries())}
    except (ZooError, OSError) as error:
        found["lock" if "cache" in found else "cache"] = {"error": str(error)}
    datasets = {each.name: _dataset(each, folders.get(each.name), cache) for each in registry.datasets}
    return {**found, "datasets": datasets}


def _cache(cache: Cache) -> dict[str, Any]:
    described = describe(cache)
    parts = {kind: part["bytes"] for kind, part in described.to_json()["kinds"].items() if part["bytes"]}
    there = next(path for path in (cache.root, *cache.root.parents) if path.exists())
    return {
        "root": str(cache.root),
        "writable": there.is_dir() and os.access(there, os.W_OK),
        "bytes": described.bytes,
        "parts": {**parts, "runs": described.runs_bytes},
        "free_bytes": shutil.disk_usage(there).free,
    }


def _dataset(declared: DatasetDeclaration, folder: Path | None, cache: Cache | None) -> dict[str, Any]:
    """Returns where a data set is found, and how many images it has in a folder."""
    from zoo.fetch.locations import on_disk
    from zoo.repro.datasets.opening import open_dataset

    if folder is None and declared.path is None:
        return {"found": (declared.archive and cache and on_disk(declared.archive.url, cache)) or None}
    try:
        return {"found": str(folder or declared.path), "images": len(open_dataset(declared, folder))}
    except ZooError as error:
        return {"found": None, "error": str(error)}


def _reproduced() -> dict[str, Any]:
    """Reproduces the bundled entry as a user would, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        done = _python(_ZOO, "reproduce", _BUNDLED, "--json", "--out", folder)
        seconds = round(time.monotonic() - start, 1)
    result = {
        "entry": _BUNDLED,
        "exit_code": max(done.returncode, 0) or 3 * (done.returncode < 0),
        "seconds": seconds,
    }
    if done.returncode not in (0, 1):
        return {**result, "error": _last_line(done)}
    claims = json.loads(done.stdout)["claims"]
    return {
        **result,
        "verdicts": {f"{claim['evaluator']} {claim['metric']}": claim["verdict"] for claim in claims},
    }


def _impersonal(value: Any) -> Any:
    """Returns JSON values without names of user and machine in them; the home folder becomes `~`."""
    if isinstance(value, Mapping):
        return {key: _impersonal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_impersonal(each) for each in value]
    if not isinstance(value, str):
        return value
    with suppress(RuntimeError):
        home = str(Path.home())
        value = re.sub(rf"{re.escape(home)}(?=$|[^\w.-])", "~", value) if len(home) > 1 else value
    # Of a URL neither who reads it nor with which signature.
    value = re.sub(r"(\w://)[^/\s@]*@", r"\1", re.sub(r"(\w://[^\s?]*)\?\S*", r"\1", value))
    with suppress(OSError, KeyError, ImportError):
        value = re.sub(rf"(?<=[/\\]){re.escape(getpass.getuser())}(?=$|[^\w.-])", "USER", value)
    host = platform.node()
    return re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", value) if host else value


def readable(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields what `describe_installation` returned as lines for people."""
    yield f"zoo {found['zoo']}, Python {found['python']}, {found['system']}"
    yield f"{found['processor']}, {readable_size(found['memory_bytes'])} of memory"
    yield "packages: " + ", ".join(
        f"{name} {version or 'MISSING'}" for name, version in found["packages"].items()
    )
    yield "extras: " + (", ".join(name for name, lack in found["extras"].items() if not lack) or "none")
    yield "runtimes:"
    for name, runtime in found["runtimes"].items():
        yield f"  {name:<12}{_runtime_words(runtime)}"
    if "root" in (cache := found["cache"]):
        size, free = readable_size(cache["bytes"]), readable_size(cache["free_bytes"])
        state = "writable" if cache["writable"] else "NOT WRITABLE"
        yield f"cache: {cache['root']}, {size}, {state}, {free} free"
        yield from (f"  {part:<22}{readable_size(size):>10}" for part, size in cache["parts"].items())
    for name in ("cache", "lock"):
        if "error" in found.get(name, {}):
            yield f"{name}: {found[name]['error']}"
    if "files" in found.get("lock", {}):
        yield f"lock: {found['lock']['path']}, {counted(found['lock']['files'], 'file')}"
    yield "data sets:"
    for name, dataset in found["datasets"].items():
        images = f", {counted(dataset['images'], 'image')}" if "images" in dataset else ""
        yield f"  {name:<12}{dataset.get('error') or (dataset['found'] or '-') + images}"
    for name, value in found["environment"].items():
        yield f"{name}={value}"
    if run := found.get("run"):
        said = run.get("error") or ", ".join(map(" ".join, run["verdicts"].items()))
        yield f"{run['entry']}: {said}; exit code {run['exit_code']}, {run['seconds']} s"


def _runtime_words(runtime: Mapping[str, Any] | None) -> str:
    if runtime is None:
        return "not installed"
    words = f"{runtime['version']}, " + (runtime.get("error") or _device_words(runtime["devices"]))
    return f"{words} (default)" if runtime["default"] else words


def _device_words(devices: Mapping[str, Any]) -> str:
    return ": ".join([devices["kind"], *dict.fromkeys(devices.get("names", []))])
