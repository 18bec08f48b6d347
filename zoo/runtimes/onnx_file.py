"""ONNX files: run by ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from zoo.errors import not_installed
from zoo.files.processes import available_cores
from zoo.runtimes.model_file import ABOUT, Session

PRECISIONS = ("float32", "float16")
"""What `write` takes; in float16, kernels alone are stored, and computed with in float32."""

_DATA_SUFFIX = ".data"
_LARGEST_IN_ONE_FILE = 1 << 30
"""Kernels of more bytes go into a file beside the graph: no file of Protocol Buffers may exceed 2 GiB."""


def files_of(path: Path) -> list[Path]:
    """Returns the files that make up a model: the graph, and the weights beside it where they are large."""
    data = path.with_name(path.name + _DATA_SUFFIX)
    return [path, data] if data.exists() else [path]


def read_about(path: Path) -> str:
    """Returns what a file says of itself."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    about: str = _session(path, options).get_modelmeta().custom_metadata_map[ABOUT]
    return about


def load(path: Path, precision: str) -> Session:
    """Returns a file as a function of one image, on all cores that this process may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    session = _session(path, options)
    names = [each.name for each in session.get_outputs()]
    (argument,) = (each.name for each in session.get_inputs())

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {argument: image}), strict=True))

    return run


def write(network: Any, size: tuple[int, int], about: str, path: Path, precision: str) -> None:
    """Writes a Keras network; raises a `UsageError` where a layer cannot be written."""
    try:
        import onnx

        from zoo.runtimes.onnx_graph import onnx_model
    except ImportError:
        raise not_installed("--to onnx", "the package onnx", "panoptic-zoo[onnx]") from None
    model = onnx_model(network, size, {ABOUT: about}, half_weights=precision == "float16")
    is_large = sum(len(each.raw_data) for each in model.graph.initializer) > _LARGEST_IN_ONE_FILE
    location = path.name + _DATA_SUFFIX if is_large else None
    onnx.save_model(model, path, save_as_external_data=is_large, location=location)
    onnx.checker.check_model(path, full_check=True)


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    # Only errors: its warnings are of what it optimizes.
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
