"""The networks on JAX or PyTorch, without TensorFlow, equal the reference implementation.

For an environment that has one of the two, which `KERAS_BACKEND` names: see `.ci/backends`.
"""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.model.build import build_network
from zoo.model.checkpoint import Receipt, restore, values_digest, variables
from zoo.model.folding import fold_batch_norm
from zoo.model.inference import at_size, compile_inference
from zoo.model.multiscale import MultiScaleNetwork
from zoo.model.preprocess import network_input
from zoo.model.summary import summarize_network
from zoo.network.keras_runtime import KerasRuntime
from zoo.network.network import Network
from zoo.network.weights import write_weights
from zoo.registry import load_registry

SMALL = "cityscapes/mobilenet_v3_small_os32"
# One of each family; `goldens.py` itself tries all.
NETWORKS = [
    SMALL,
    "cityscapes/resnet50_os32",
    "coco/resnet50_beta_os16",
    "cityscapes/wide_resnet41_os16",
    "cityscapes/swidernet_sac_1_1_1_os16",
    "cityscapes/max_deeplab_s_backbone_os16",
]

# Of how PyTorch hands its tensors to NumPy.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

goldens = runpy.run_path(str(Path(__file__).with_name("goldens.py")))
kmax_golden = Path(__file__).parents[2] / "model" / "kmax_golden.py"
shares_of_tolerance = runpy.run_path(str(kmax_golden))["shares_of_tolerance"]
golden, errors = goldens["golden"], goldens["errors"]
filled_network: Callable[[str], keras.Model] = lru_cache(maxsize=2)(goldens["filled_network"])


def assert_close(maps: Mapping[str, Any], expected: Mapping[str, np.ndarray], step: int = 1) -> None:
    found = errors(maps, expected, step)
    print({name: f"{error:.1e}" for name, error in found.items()})
    assert len(found) == 3
    assert max(found.values()) < goldens["TOLERANCE"], found


def test_there_is_no_tensorflow() -> None:
    assert keras.backend.backend() in ("jax", "torch")
    assert importlib.util.find_spec("tensorflow") is None


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_at_65x129(name: str) -> None:
    network, image = filled_network(name), golden("image_65x129")["image"][None]
    expected = golden(f"{name}_65x129")

    assert_close(compile_inference(network, fold=False)(image), expected)
    assert_close(compile_inference(network)(image), expected)


@pytest.mark.parametrize("name", ["coco/kmax_resnet50_65x65", "cityscapes/kmax_convnext_tiny_65x129"])
def test_maps_of_kmax(name: str) -> None:
    expected = golden(name)
    network = at_size(filled_network(name.rpartition("_")[0]), expected["image"].shape[:2], (1, 1))

    maps = compile_inference(network)(expected["image"][None])

    found = {name: keras.ops.convert_to_numpy(values)[0] for name, values in maps.items()}
    shares = shares_of_tolerance(found, expected)
    print({name: f"{share:.2f}" for name, share in shares.items()})
    assert max(shares.values()) < 1, shares


def test_maps_at_289x577() -> None:
    network = at_size(fold_batch_norm(filled_network(SMALL)), (289, 577), (10, 19))

    maps = compile_inference(network, fold=False)(golden("image_289x577")["image"][None])

    assert_close(maps, golden(f"{SMALL}_289x577"), step=4)


def test_scales_and_mirroring() -> None:
    expected = golden("mobilenet_v3_small_os32_multiscale")
    network = fold_batch_norm(filled_network(SMALL))

    maps = MultiScaleNetwork(network, scales=(0.75, 1.0, 1.25), flip=True)(expected["image"][None])

    assert_close(maps, expected)


def test_folded_kernels_may_replace_the_network_s() -> None:
    expected, network = golden(f"{SMALL}_65x129"), filled_network(SMALL)
    image = golden("image_65x129")["image"][None]

    assert_close(compile_inference(fold_batch_norm(network, consume=True), fold=False)(image), expected)
    filled_network.cache_clear()


def test_images_are_resized_and_padded() -> None:
    ramp = np.linspace(0, 255, 5, dtype=np.float32)[:, None, None] * np.ones((1, 3, 3), np.float32)

    found = keras.ops.convert_to_numpy(network_input(ramp, (9, 3), (11, 4)))

    assert found.shape == (11, 4, 3)
    np.testing.assert_allclose(found[:9, 0, 0], np.linspace(0, 255, 9), atol=1e-4)
    assert (found[9:] == 127.5).all()
    assert (found[:, 3] == 127.5).all()


def test_bfloat16_computes_in_it_and_returns_float32() -> None:
    expected = golden(f"{SMALL}_65x129")
    half = build_network(
        load_registry().resolve(SMALL).network.model_copy(update={"train_crop_size": (65, 129)}),
        precision="bfloat16",
        random_values=False,
    )
    half.set_weights(filled_network(SMALL).get_weights())

    found = errors(compile_inference(half)(expected["image"][None]), expected)

    assert 1e-3 < max(found.values()) < 1


def test_summary_computes_nothing() -> None:
    options = load_registry().resolve("cityscapes/swidernet_sac_1_1_1_os16").network

    assert summarize_network(options, (65, 129)).parameters > 100_000_000


@pytest.mark.parametrize("form", ["safetensors", "weights.h5"])
def test_weights_are_loaded_and_an_image_predicted(form: str, tmp_path: Path) -> None:
    model, entry = filled_network(SMALL), load_registry().resolve(SMALL)
    keys = tuple(sorted(variables(model)))
    receipt = Receipt("golden", restored=keys, sha256=values_digest(model, keys))
    write_weights(Network(entry, KerasRuntime(model, entry), receipt=receipt), tmp_path / f"network.{form}")

    network = zoo.load(SMALL, weights=tmp_path / f"network.{form}", input_size=(65, 129), optimize=True)

    image = golden("image_65x129")["image"]
    assert network.receipt.sha256 == receipt.sha256
    prediction = network.predict(image)
    assert prediction.panoptic.shape == (65, 129)
    expected = golden(f"{SMALL}_65x129")["semantic_logits"].argmax(axis=-1)
    assert (prediction.semantic[::4, ::4] == expected).mean() > 0.99


def test_what_needs_tensorflow_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_LOCK", str(tmp_path / "zoo.lock"))
    with pytest.raises(UsageError, match="TensorFlow is not installed, and alone reads checkpoints"):
        zoo.load("minicity/mobilenet_v3_small_os16")
    with pytest.raises(UsageError, match="TensorFlow is not installed, and alone reads checkpoints"):
        restore(filled_network(SMALL), str(tmp_path / "ckpt"))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of JAX")
def test_jax_compiles_a_network_once() -> None:
    import jax

    network, image = filled_network(SMALL), golden("image_65x129")["image"][None].astype(np.float32)
    traced = []

    @jax.jit
    def call(trainable: Any, other: Any, images: Any) -> Any:
        traced.append(1)
        return network.stateless_call(trainable, other, images, training=False)[0]

    state = [
        [v.value for v in group] for group in (network.trainable_variables, network.non_trainable_variables)
    ]
    for _ in range(3):
        maps = call(*state, image)

    assert traced == [1]
    assert_close(maps, golden(f"{SMALL}_65x129"))
