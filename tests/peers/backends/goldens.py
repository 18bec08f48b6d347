"""How far the networks on the Keras backend in use are from the reference implementation, as a table.

    KERAS_BACKEND=jax python tests/peers/backends/goldens.py [NAME ...]

prints a row for each network as soon as it is known: the largest difference of a map, in standard deviations.
"""

from __future__ import annotations

import gc
import runpy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import dtypes

from zoo.model.build import build_network
from zoo.model.checkpoint import variables
from zoo.model.folding import fold_batch_norm
from zoo.model.inference import at_size, compile_inference
from zoo.model.layers import NormalizeImage
from zoo.registry import load_registry

TESTS = Path(__file__).parents[2]
TOLERANCE = 1e-4  # Of each map's standard deviation, as on TensorFlow.
# Where float32 itself gives more, in the reference implementation as well: there our network in float64 must
# give the reference's maps in float64. See README.md beside the goldens.
ROUNDS = "cityscapes/swidernet_sac_1_1_4.5_os16", "289x577"
ROUNDING = 3e-4
SAME_IN_FLOAT64 = 1e-11
MAPS = ("semantic_logits", "center_heatmap", "offset_map")
NETWORKS = [
    *(f"cityscapes/mobilenet_v3_{size}_os{stride}" for size in ("small", "large") for stride in (32, 16)),
    "cityscapes/resnet50_os32",
    "cityscapes/resnet50_beta_os32",
    "coco/resnet50_os32",
    "coco/resnet50_os16",
    "coco/resnet50_beta_os32",
    "coco/resnet50_beta_os16",
    "cityscapes/wide_resnet41_os16",
    *(f"cityscapes/swidernet_sac_1_1_{scale}_os16" for scale in ("1", "3", "4.5")),
]

golden_values: Callable[..., np.ndarray] = runpy.run_path(str(TESTS / "model" / "golden_weights.py"))[
    "values"
]


def golden(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a golden file."""
    file = name.replace("cityscapes/mobilenet", "mobilenet").replace("/", "_")
    with np.load(TESTS / "data" / "networks" / f"{file}.npz") as arrays:
        return dict(arrays)


def fill(network: keras.Model) -> keras.Model:
    """Gives a network the values that the goldens were made with."""
    for key, variable in variables(network).items():
        variable.assign(golden_values(key, tuple(variable.shape)))
    return network


def filled_network(name: str) -> keras.Model:
    """Returns an entry's network for images of 65 x 129, filled."""
    settings = load_registry().resolve(name).network.model_copy(update={"train_crop_size": (65, 129)})
    return fill(build_network(settings, random_values=False))


def errors(maps: Mapping[str, Any], expected: Mapping[str, np.ndarray], step: int = 1) -> dict[str, float]:
    """Returns the largest difference of each map of one image, in standard deviations of the expected one."""
    found = {name: keras.ops.convert_to_numpy(maps[name])[0, ::step, ::step] for name in maps}
    for name, values in found.items():
        if values.shape[-1] == 134:  # The goldens hold every fourth class of COCO.
            found[name] = values[..., ::4]
    return {
        name: float(np.abs(v - expected[name].reshape(v.shape)).max() / expected[name].std())
        for name, v in found.items()
    }


def error_of(call: Callable[[np.ndarray], Mapping[str, Any]], name: str, size: str) -> float:
    """Returns the largest error of all maps of the golden image of one size."""
    image = golden(f"image_{size}")["image"][None].astype(np.float32)
    found = errors(call(image), golden(f"{name}_{size}"), step=4 if size == "289x577" else 1)
    assert set(found) == set(MAPS)
    return max(found.values())


def larger(network: keras.Model, name: str) -> keras.Model:
    """Returns a network for images of 289 x 577 with the same variables."""
    stride = load_registry().resolve(name).output_stride
    return at_size(network, (289, 577), (288 // stride + 1, 576 // stride + 1))


class ComputesInFloat64(keras.DTypePolicy):
    """Of layers whose float32 variables need no copy in float64."""

    variable_dtype = property(lambda _: "float32")
    compute_dtype = property(lambda _: "float64")


def in_float64(network: keras.Model) -> keras.Model:
    """Returns a copy that computes in float64 throughout, and lets Keras do so from now on.

    On JAX and PyTorch it takes float32 for float64 wherever it chooses a type itself, as in a mean.
    """
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"

    def convert(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings: dict[str, Any] = {"dtype": "float64", "name": layer.name}
        if isinstance(layer, NormalizeImage):
            return keras.layers.Rescaling(np.float64(1 / 127.5), np.float64(-1), **settings)
        if layer.weights:
            settings["dtype"] = ComputesInFloat64("float64")
        config = {**layer.get_config(), **settings}
        if "epsilon" in config:  # As the reference implementation's configuration holds it.
            config["epsilon"] = float(np.float32(config["epsilon"]))
        return type(layer).from_config(config)

    exact = keras.models.clone_model(network, clone_function=convert)
    for copy, variable in zip(exact.variables, network.variables, strict=True):
        copy.assign(variable.value)
    return exact


def row(name: str) -> dict[str, float]:
    """Returns the error of a network in each form and size."""
    network = filled_network(name)
    found = {"65 x 129": error_of(compile_inference(network, fold=False), name, "65x129")}
    if name == ROUNDS[0]:
        exact = in_float64(larger(network, name))
        found["289 x 577 in float64"] = error_of(compile_inference(exact, fold=False), *ROUNDS)
        del exact
    network = fold_batch_norm(network, consume=True)
    gc.collect()
    found["folded, 65 x 129"] = error_of(compile_inference(network, fold=False), name, "65x129")
    found["folded, 289 x 577"] = error_of(
        compile_inference(larger(network, name), fold=False), name, "289x577"
    )
    return found


def main() -> None:
    """Prints the table; exits with 1 where a network is too far."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    failed = False
    for name in sys.argv[1:] or NETWORKS:
        start = time.perf_counter()
        found = row(name)
        for form, error in found.items():
            bound = TOLERANCE
            if name == ROUNDS[0] and "289" in form:
                bound = SAME_IN_FLOAT64 if "float64" in form else ROUNDING
            failed |= not error < bound
        shown = " | ".join(f"{form}: {error:.1e}" for form, error in found.items())
        print(f"| {backend} | {name} | {shown} | {time.perf_counter() - start:.0f} s |", flush=True)
        gc.collect()
    sys.exit(failed)


if __name__ == "__main__":
    main()
