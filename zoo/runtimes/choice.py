"""Which runtimes there are, and whether the chosen one is installed; imports none of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import UsageError, not_installed
from zoo.files.keras_backend import BACKENDS, require_backend

DEFAULT = BACKENDS[0]
"""The runtime that is taken where nothing is chosen, not even by `KERAS_BACKEND`."""

AUTO = "auto"
"""In the place of a runtime's name: the fastest, see `zoo.network.fastest`."""


class FileRuntime(NamedTuple):
    """A runtime of the files that `zoo export` writes.

    Attributes:
      module: in this folder; it has `read_about(path)` and `load(path)`, see `zoo.runtimes.model_file`.
      package: what it imports, and the name of its distribution.
      extra: what of `panoptic-zoo[...]` brings it; None for a dependency of all.
      suffix: how names of its files end; none where a model is a folder.
    """

    module: str
    package: str
    distribution: str
    extra: str | None
    suffix: str

    def require(self, name: str) -> None:
        """Raises a `UsageError` where the runtime is not installed."""
        if find_spec(self.package) is None:
            wanted = f"panoptic-zoo[{self.extra}]" if self.extra else self.distribution
            raise not_installed(f"--runtime {name}", self.distribution, wanted)

    def imported(self, name: str) -> Any:
        """Returns the module that runs its files; raises as `require`."""
        self.require(name)
        return import_module(f"zoo.runtimes.{self.module}")


FILE_RUNTIMES = {
    "onnx": FileRuntime("onnx_file", "onnxruntime", "onnxruntime", "onnx", ".onnx"),
    "openvino": FileRuntime("openvino_file", "openvino", "openvino", "openvino", ".xml"),
    "litert": FileRuntime("litert_file", "ai_edge_litert", "ai-edge-litert", "litert", ".tflite"),
    "saved_model": FileRuntime("saved_model_folder", "tensorflow", "tensorflow", None, ""),
}
"""The runtimes that need a file of `zoo export`, by name."""

WEIGHTS_SUFFIXES = (".safetensors", ".weights.h5")
"""How names of the files of `zoo convert` end, which Keras' runtimes load in place of a checkpoint."""

RUNTIMES = (*BACKENDS, *FILE_RUNTIMES)
"""The names of all runtimes, the default first; those of Keras build a network here and restore it."""


def check_runtime(name: str, model: str | os.PathLike[str] | None = None) -> None:
    """Checks a choice of runtime, and of a file that it loads, as far as that takes no time.

    Raises:
      UsageError: there is no such runtime, it is not installed, or it and the file do not go together.
    """
    if name not in RUNTIMES:
        raise UsageError(f"--runtime {name}: expected {', '.join(RUNTIMES[:-1])} or {RUNTIMES[-1]}")
    if name in BACKENDS:
        require_backend(name)
        if model is not None and not os.fspath(model).endswith(WEIGHTS_SUFFIXES):
            *others, last = FILE_RUNTIMES
            raise UsageError(
                f"--model {model}: expected a file of `zoo convert` with --runtime {name}, which ends with "
                f"{' or '.join(WEIGHTS_SUFFIXES)}; for one of `zoo export` give --runtime "
                f"{', '.join(others)} or {last}"
            )
        if model is not None and not Path(model).is_file():
            raise UsageError(f"--model {model}: no such file; `zoo convert NAME FILE` writes one")
        return
    if model is None:
        raise UsageError(
            f"--runtime {name}: expected --model FILE; `zoo export NAME --to {name} --out FILE` writes one"
        )
    FILE_RUNTIMES[name].require(name)
    if not Path(model).exists():
        raise UsageError(f"--model {model}: no such file; `zoo export NAME --to {name}` writes one")


def refuse_options(name: str, options: Sequence[str], device: str | None = None) -> None:
    """Refuses what a model file cannot follow: it has its own precision, and one scale, and runs on the CPU.

    Args:
      name: of the runtime; those of Keras are not asked.
      options: what was chosen, for the message.
      device: as for `zoo.load`.

    Raises:
      UsageError: anything was chosen, or a device other than the CPU.
    """
    if name not in (*FILE_RUNTIMES, AUTO):
        return
    if options:
        raise UsageError(
            f"{', '.join(options)}: expected none of these with --runtime {name}, whose model file is taken "
            f"as it is; leave them out, or take --runtime {DEFAULT}"
        )
    if device not in (None, "auto", "cpu"):
        raise UsageError(f"--device {device}: expected auto or cpu with --runtime {name}")


def version_of(name: str) -> str:
    """Returns the version of a runtime that is installed."""
    from importlib import metadata

    runtime = FILE_RUNTIMES.get(name)
    return metadata.version(runtime.distribution if runtime else name)
