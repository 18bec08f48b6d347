"""OpenVINO's own form, an XML file with a file of weights beside it: run by OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino

from zoo.files.processes import available_cores
from zoo.runtimes.model_file import ABOUT, Session

PRECISIONS = ("float32", "float16", "bfloat16")
"""What `write` takes; in float16, weights alone are stored, in bfloat16 the processor computes."""

# An operation becomes one of bfloat16 unless its conversion to float16 is disabled.
_STAYS_IN_FLOAT32 = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}


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


def write(
    network: Any,
    size: tuple[int, int],
    about: str,
    path: Path,
    precision: str,
    bfloat16_layers: Collection[str] = (),
) -> None:
    """Writes a Keras network; where layers are named, only their convolutions may compute in bfloat16."""
    from zoo.runtimes.tensorflow_graph import OneImageGraph

    graph = OneImageGraph.of_network(network, size)
    model = openvino.convert_model(graph.function, input=[("images", [1, *size, 3])])
    model.set_rt_info(about, [ABOUT])
    openvino.save_model(model, path, compress_to_fp16=precision == "float16")
    if bfloat16_layers:
        from zoo.model.backend import values_of

        kernels = [network.get_layer(name).kernel for name in bfloat16_layers]
        _keep_in_float32(path, {_bytes(np.transpose(values_of(kernel), (3, 2, 0, 1))) for kernel in kernels})


def _keep_in_float32(path: Path, kernels: Collection[bytes]) -> None:
    """Marks all operations of a file but the convolutions with one of `kernels` to stay in float32."""
    found = set()
    for operation in openvino.Core().read_model(path).get_ops():
        if operation.get_type_name() == "Convolution":
            kernel = operation.input_value(1).get_node()
            if kernel.get_type_name() == "Constant" and _bytes(kernel.data) in kernels:
                found.add(operation.get_friendly_name())
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("layers/layer"):
        if layer.get("type") in ("Const", "Parameter", "Result") or layer.get("name") in found:
            continue
        notes = layer.find("rt_info")
        if notes is None:
            notes = ElementTree.Element("rt_info")
            layer.insert(1 if layer.find("data") is not None else 0, notes)
        ElementTree.SubElement(notes, "attribute", _STAYS_IN_FLOAT32)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _bytes(kernel: np.ndarray) -> bytes:
    return np.ascontiguousarray(kernel).tobytes()
