"""Finds the installed runtime that runs an entry's network fastest here; measured once, kept in the cache.

The backends of Keras besides TensorFlow are left out: a process has one of them.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo.errors import ZooError
from zoo.fetch.fetcher import Fetcher
from zoo.files.cache import SET_CACHE, Cache, remove
from zoo.files.json_files import read_json, write_json
from zoo.files.processes import available_cores
from zoo.files.progress import say
from zoo.network.devices import describe_processor
from zoo.runtimes.choice import DEFAULT, FILE_RUNTIMES, version_of

if TYPE_CHECKING:
    import numpy as np

    from zoo.network.network import Network
    from zoo.registry import Entry, Registry

_KIND = "fastest"
_MEASURED = "measured.json"
_TURNS = 5
_WORTH_SAYING = 1.3
"""A runtime that is so many times as fast as the one in use is named."""


class Fastest(NamedTuple):
    """A runtime, the file of `zoo export` that it runs, and how many times as fast as TensorFlow it is."""

    runtime: str
    model: Path | None
    times: float


def find_fastest(entry: Entry, registry: Registry, fetcher: Fetcher | None = None) -> Fastest:
    """Returns the fastest runtime whose file computes the network's maps, `DEFAULT` where none is faster.

    The first call for an entry, with the runtimes that are installed and the cores that there are, writes a
    file for each and measures them in turn.

    Raises:
      ZooError: the checkpoint cannot be restored, or the cache not be written.
    """
    fetcher = fetcher or Fetcher()
    folder = _folder(entry, fetcher.checkpoint(entry).sha256, fetcher.cache)
    taken = f"{folder}: another process measures the runtimes of {entry.name}"
    with fetcher.cache.holding(_KIND, folder.name, taken):
        found = _known(folder)
        if found is None:
            fetcher.cache.folder(_KIND)
            found = _measure(entry, registry, fetcher, folder)
            measured = {"entry": entry.name, "runtime": found.runtime, "times": found.times}
            write_json(folder / _MEASURED, measured, remedy=SET_CACHE)
    return found


def say_what_is_faster(entry: Entry, checkpoint_sha256: str, cache: Cache) -> None:
    """Says in a line that a runtime was found to be much faster than TensorFlow, where one was."""
    found = _known(_folder(entry, checkpoint_sha256, cache))
    if found is not None and found.times > _WORTH_SAYING:
        say(
            f"{entry.name}: its network runs {found.times:.1f} times as fast on {found.runtime} here; "
            "--runtime auto takes it"
        )


def _installed() -> list[str]:
    return [
        name
        for name, runtime in FILE_RUNTIMES.items()
        if runtime.package != DEFAULT and find_spec(runtime.package) is not None
    ]


def _folder(entry: Entry, checkpoint_sha256: str, cache: Cache) -> Path:
    """Returns where it is kept what is measured of a network, on this machine with these versions."""
    identity = {
        "entry": entry.digest(),
        "checkpoint": checkpoint_sha256,
        "processor": describe_processor()["names"],
        "cores": available_cores(),
        "versions": {name: version_of(name) for name in (DEFAULT, *_installed())},
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return cache.root / _KIND / f"{entry.name.replace('/', '__')}__{digest[:16]}"


def _known(folder: Path) -> Fastest | None:
    match read_json(folder / _MEASURED):
        case {"runtime": str(runtime), "times": float(times)} if runtime == DEFAULT:
            return Fastest(runtime, None, times)
        case {"runtime": str(runtime), "times": float(times)} if runtime in FILE_RUNTIMES:
            model = _model(folder, runtime)
            return Fastest(runtime, model, times) if model.exists() else None
    return None


def _model(folder: Path, runtime: str) -> Path:
    return folder / runtime / f"network{FILE_RUNTIMES[runtime].suffix}"


def _measure(entry: Entry, registry: Registry, fetcher: Fetcher, folder: Path) -> Fastest:
    import numpy as np

    from zoo.network.exporting import ExportOptions, export_entry
    from zoo.network.loading import load_entry

    remove(folder)
    say(f"{entry.name}: measuring {DEFAULT}, {', '.join(_installed())}, once on this machine")
    checkpoint = fetcher.checkpoint(entry)
    image = np.random.default_rng(0).integers(0, 256, (*entry.evaluation.crop_size, 3), np.uint8)
    own = load_entry(entry, checkpoint, optimize=True)
    best = Fastest(DEFAULT, None, 1.0)
    for runtime in _installed():
        model = _model(folder, runtime)
        try:
            export_entry(entry, registry, model, ExportOptions(runtime))
            other = load_entry(entry, checkpoint, runtime=runtime, model=model)
            times = _ratio(own, other, image)
        except ZooError as error:
            say(f"{entry.name}: left out {runtime}: {error}")
            continue
        if times > best.times:
            best = Fastest(runtime, model, times)
    for runtime in _installed():
        if runtime != best.runtime:
            remove(folder / runtime)
    return best


def _ratio(first: Network, second: Network, image: np.ndarray) -> float:
    """Returns the seconds that one network takes over those of another, the median over turns."""
    ratios = []
    for _ in range(_TURNS + 1):
        seconds = []
        for network in (first, second):
            start = time.perf_counter()
            network.maps([image])
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    # The first calls trace and compile.
    return statistics.median(ratios[1:])
