"""LiteRT (TensorFlow Lite) files: run by LiteRT, on the CPU."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from zoo.files.processes import available_cores
from zoo.model.postprocess.result import Maps
from zoo.runtimes.model_file import ABOUT, Session

_ABOUT_FILE = f"{ABOUT}.json"
"""In the archive that follows the model in its file, where TensorFlow Lite keeps associated files."""


def files_of(path: Path) -> list[Path]:
    """Returns the files that make up a model."""
    return [path]


def read_about(path: Path) -> str:
    """Returns what a file says of itself."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(_ABOUT_FILE).decode("utf-8")


def load(path: Path, precision: str) -> Session:
    """Returns a file as a function of one image, on all cores that this process may use."""
    signature = Interpreter(str(path), num_threads=available_cores()).get_signature_runner()
    (argument,) = signature.get_input_details()

    def run(image: np.ndarray) -> Maps:
        return signature(**{argument: image})

    return run
