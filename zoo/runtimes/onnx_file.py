"""ONNX files: run by ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from zoo.files.processes import available_cores
from zoo.model.postprocess.result import Maps
from zoo.runtimes.model_file import ABOUT, Session


def files_of(path: Path) -> list[Path]:
    """Returns the files that make up a model."""
    return [path]


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

    def run(image: np.ndarray) -> Maps:
        return dict(zip(names, session.run(names, {argument: image}), strict=True))

    return run


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    # Only errors: its warnings are of what it optimizes.
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
