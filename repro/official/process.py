"""The program of the separate processes in which the official scripts run.

Called as `python -m zoo.repro.official.process JOB.json`, in a working folder of its own. The scripts are
imported from the installed package and called through their `main`, with their own parameters. What is done
around them leaves their arithmetic alone:

- functions of NumPy that later versions removed or changed behave as the scripts expect;
- what they do image by image is shared among processes and machines, and added up in their own order (see
  `per_image`);
- the instance-level script's cache of ground truth goes to the working folder, not into its package;
- where a script divides by zero or indexes an empty array because there is nothing to score, the value that
  it gives in the neighbouring case is taken, and the event is written to `handled.json`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from zoo.files.processes import end_with_parent


def main(argv: list[str]) -> int:
    """Does the job that the JSON file `argv[1]` describes; results are files in the working folder.

    The job's `run` is the place (`<module>:<function>`) of a function that takes the job, calls the official
    script, and returns what had to be handled, one line each.
    """
    job = json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    end_with_parent(job["parent"])
    if job.get("nice") and hasattr(os, "nice"):
        os.nice(job["nice"])
    restore_numpy()
    # The scripts read the command line, and take everything from it if there are arguments.
    sys.argv = [job["script"]]
    module, _, function = job["run"].partition(":")
    handled = getattr(importlib.import_module(module), function)(job)
    Path("handled.json").write_text(json.dumps(handled), encoding="utf-8")
    return 0


def restore_numpy() -> None:
    """Gives NumPy back what the scripts rely on."""
    if not hasattr(np, "in1d"):
        # Removed in NumPy 2.4.
        def in1d(ar1: Any, ar2: Any, **options: Any) -> Any:
            return np.isin(np.ravel(ar1), ar2, **options)

        np.in1d = in1d  # type: ignore[attr-defined,assignment]  # noqa: NPY201
    if not isinstance(np.count_nonzero(np.zeros(1)), int):
        # NumPy 2.3 returns its own integers, which the instance-level script cannot write as JSON.
        count = np.count_nonzero

        def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
            found = count(a, axis, keepdims=keepdims)
            return int(found) if axis is None and not keepdims else found

        np.count_nonzero = count_nonzero


if __name__ == "__main__":
    sys.exit(main(sys.argv))
