"""Shares among processes and machines what the scripts do image by image.

A script's own function is called for one image at a time, and what it would add to a running total is kept
apart (`Addends`). The script then goes on with what was found, and adds in its own order: its sums are the
same to the last bit, whoever looked at the images.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.repro.official.process import restore_numpy

FOUND = "found.pickle"
"""The file in which a job keeps what was found in its images, where it is asked to (`keeps`)."""


class Addends:
    """What was added to a number that began at zero, in order."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def __iadd__(self, value: Any) -> Addends:
        self.values.append(value)
        return self


def found_in_images(
    job: Mapping[str, Any], look: Callable[..., Any], images: Mapping[Any, tuple[Any, ...]]
) -> dict[Any, Any]:
    """Returns what `look` finds in each image, by the image's key.

    What the files `job["found"]` hold is taken from there, the rest is found by `job["processes"]` processes.

    Args:
      job: the job of `zoo.repro.official.process`.
      look: a function of a module, called with one of the values of `images`.
      images: arguments of `look`; a key is the same on any machine.
    """
    found: dict[Any, Any] = {}
    for path in job.get("found", ()):
        # Written by this module, by a worker of the same run.
        found |= pickle.loads(Path(path).read_bytes())
    waiting = [key for key in images if key not in found]
    tasks = [(look, *images[key]) for key in waiting]
    processes = min(job["processes"], len(tasks))
    if processes > 1:
        with multiprocessing.Pool(processes, initializer=restore_numpy) as pool:
            results: Iterable[Any] = pool.starmap(_looked, tasks, chunksize=-(-len(tasks) // (4 * processes)))
    else:
        results = [_looked(*task) for task in tasks]
    found.update(zip(waiting, results, strict=True))
    if job.get("keeps"):
        Path(FOUND).write_bytes(pickle.dumps({key: found[key] for key in images}))
    return found


def _looked(look: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return look(*arguments)
    except SystemExit as error:
        # A process that ends would leave the pool waiting for its result for ever.
        raise RuntimeError(f"the script gave up, with {error.code!r}") from error


def raise_message(message: str) -> None:
    """Takes the place of the scripts' `printError`, so that the message is the last line, whoever prints."""
    raise RuntimeError(message)
