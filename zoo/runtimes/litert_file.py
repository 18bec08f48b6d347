"""LiteRT (TensorFlow Lite) files: run by LiteRT, on the CPU."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from zoo.files.processes import available_cores
from zoo.files.tensorflow import held_back_stderr, import_tensorflow
from zoo.runtimes.model_file import ABOUT, Session

_ABOUT_FILE = f"{ABOUT}.json"
"""In the archive that follows the model in its file, where TensorFlow Lite keeps associated files."""


PRECISIONS = ("float32", "float16")
"""What `write` takes; in float16, weights alone are stored, and computed with in float32."""


def files_of(path: Path) -> list[Path]:
    """Returns the files that make up a model."""
    return [path]


def read_about(path: Path) -> str:
    """Returns what a file says of itself."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(_ABOUT_FILE).decode("utf-8")


def load(path: Path, precision: str) -> Session:
    """Returns a file as a function of one image, on all cores that this process may use."""
    with held_back_stderr():
        interpreter = Interpreter(str(path), num_threads=available_cores())
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner()
    (argument,) = signature.get_input_details()

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return signature(**{argument: image})

    return run


def write(network: Any, size: tuple[int, int], about: str, path: Path, precision: str) -> None:
    """Writes a Keras network."""
    tf = import_tensorflow()
    from zoo.runtimes.tensorflow_graph import OneImageGraph

    # The converter leaves variables of Keras without their values.
    graph = OneImageGraph.of_network(network, size).frozen()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.function], graph)
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_ABOUT_FILE, about)
