"""OpenVINO's own form, an XML file with a file of weights beside it: run by OpenVINO, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from zoo.files.processes import available_cores
from zoo.runtimes.model_file import ABOUT, Session

PRECISIONS = ("float32", "float16", "bfloat16")
"""What `write` takes; in float16, weights alone are stored, in bfloat16 the processor computes."""


def files_of(path: Path) -> list[Path]:
    """Returns the files that make up a model: the graph, and the weights beside it."""
    return [path, path.with_suffix(".bin")]


def read_about(path: Path) -> str:
    """Returns what a file says of itself."""
    return str(openvino.Core().read_model(path).get_rt_info([ABOUT]).value)


def load(path: Path, precision: str) -> Session:
    """Returns a file as a function of one image, on all cores that this process may use."""
    model = openvino.Core().read_model(path)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        # Else it chooses a lower one itself where the processor is faster in it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": available_cores(),
    }
    request = openvino.compile_model(model, "CPU", settings).create_infer_request()
    names = [each.any_name for each in model.outputs]

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        request.infer([image], share_inputs=True)
        # Copies: the next call writes over them, while this image is still being finished.
        return {name: request.get_tensor(name).data.copy() for name in names}

    return run


def write(network: Any, size: tuple[int, int], about: str, path: Path, precision: str) -> None:
    """Writes a Keras network."""
    from zoo.runtimes.tensorflow_graph import OneImageGraph

    graph = OneImageGraph.of_network(network, size)
    model = openvino.convert_model(graph.function, input=[("images", [1, *size, 3])])
    model.set_rt_info(about, [ABOUT])
    openvino.save_model(model, path, compress_to_fp16=precision == "float16")
