"""Which of its backends Keras computes with: chosen before Keras is imported, and for the whole process."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from zoo.errors import UsageError, not_installed
from zoo.files.tensorflow import import_tensorflow

BACKENDS = ("tensorflow", "jax", "torch")
"""The names of the backends, and of the packages that they import, the default first."""


def chosen_backend() -> str:
    """Returns the backend that Keras computes with, or that it will: the one that `KERAS_BACKEND` names."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    return os.environ.get("KERAS_BACKEND") or BACKENDS[0]


def require_backend(name: str) -> None:
    """Raises a `UsageError` where Keras cannot compute with one of `BACKENDS` in this process.

    It is not installed, or Keras computes with another one already.
    """
    if "keras" in sys.modules and chosen_backend() != name:
        raise UsageError(
            f"--runtime {name}: expected a process that has not imported Keras yet, found Keras on "
            f"{chosen_backend()}; start another with KERAS_BACKEND={name}"
        )
    if name != BACKENDS[0] and find_spec(name) is None:
        raise not_installed(f"--runtime {name}", name, f"panoptic-zoo[{name}]")


def choose_backend(name: str) -> None:
    """Makes Keras compute with one of `BACKENDS` in this process and in those that it starts.

    Raises:
      UsageError: as `require_backend`.
    """
    require_backend(name)
    os.environ["KERAS_BACKEND"] = name


def import_backend() -> None:
    """Imports what Keras computes with: TensorFlow, or what `KERAS_BACKEND` names.

    Raises:
      UsageError: that is not installed.
    """
    backend = chosen_backend()
    if backend == "tensorflow":
        import_tensorflow()
    elif backend not in BACKENDS or find_spec(backend) is None:
        raise UsageError(
            f"KERAS_BACKEND: expected tensorflow, jax or torch, whichever is installed, found {backend}, "
            "which is not"
        )
