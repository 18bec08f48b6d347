"""A machine without TensorFlow: from the files of `zoo convert` to predictions, verdicts and training.

For an environment that has JAX or PyTorch, which `KERAS_BACKEND` names, and for a folder `ZOO_WEIGHTS` with
`minicity.safetensors` and `minicoco.weights.h5`: see `.ci/backends`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.errors import EvaluationError, UsageError
from zoo.fetch.fetcher import Fetcher
from zoo.registry import load_registry
from zoo.repro.datasets.opening import open_dataset

BACKEND = keras.backend.backend()
OTHER = {"jax": "torch", "torch": "jax"}[BACKEND]
CITY, COCO = "minicity/mobilenet_v3_small_os16", "minicoco/mobilenet_v3_small_os16"
WEIGHTS = {
    CITY: Path(os.environ["ZOO_WEIGHTS"]) / "minicity.safetensors",
    COCO: Path(os.environ["ZOO_WEIGHTS"]) / "minicoco.weights.h5",
}
# Of all pictures of minicoco, which are JPEG files, as TensorFlow decodes them.
MINICOCO_PIXELS = "b9ffc7f42bc7e6beeeceb3bb10440d9eb0a4fdecdecf5037e3bfd6b18cfec3a7"

# Of how PyTorch hands its tensors to NumPy.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


def call_zoo(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zoo", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def dataset_of(name: str) -> Any:
    return open_dataset(load_registry().dataset(name), None, Fetcher())


def test_jpeg_files_have_tensorflow_s_pixels() -> None:
    dataset, digest = dataset_of("minicoco"), hashlib.sha256()
    for index in range(len(dataset)):
        digest.update(dataset.load(index).image.tobytes())

    assert digest.hexdigest() == MINICOCO_PIXELS


# Both would take minutes on each backend: one layout of files and one form of weights on each.
@pytest.mark.parametrize("name", [{"jax": CITY, "torch": COCO}[BACKEND]])
def test_every_claim_of_a_bundled_entry_holds(name: str, tmp_path: Path) -> None:
    done = call_zoo(tmp_path, "reproduce", name, "--weights", WEIGHTS[name], "--json", "--out", "runs")

    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert {claim["verdict"] for claim in record["claims"]} == {"match"}
    assert record["runtime"]["name"] == BACKEND
    assert record["runtime"]["version"][0].isdigit()
    assert record["device"]["kind"] in ("cpu", "gpu")
    assert record["checkpoint"]["receipt"]["ok"]
    assert record["checkpoint"]["sha256"] == record["checkpoint"]["receipt"]["archive_sha256"]


def test_pictures_are_predicted_in_every_form(tmp_path: Path) -> None:
    Image.fromarray(dataset_of("minicity").load(0).image).save(tmp_path / "street.png")
    Image.fromarray(dataset_of("minicoco").load(0).image).save(tmp_path / "photo.jpg")
    forms = "overlay,coco,cityscapes,table"

    done = call_zoo(
        tmp_path,
        *("predict", CITY, "street.png", "photo.jpg", "--weights", WEIGHTS[CITY], "--out", "seen"),
        *("--write", forms, "--device", "cpu", "--runtime", BACKEND, "--json"),
    )

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["written"] == 2
    assert summary["device"]["kind"] == "cpu"
    written = {path.name for path in (tmp_path / "seen").rglob("*") if path.is_file()}
    assert {"street_overlay.jpg", "photo_overlay.jpg", "panoptic.json", "instances.csv"} <= written, written


def test_what_needs_tensorflow_or_the_other_backend_is_said(tmp_path: Path) -> None:
    listed = call_zoo(tmp_path, "list")
    assert listed.returncode == 0
    assert CITY in listed.stdout
    assert call_zoo(tmp_path, "--version").stdout.startswith("zoo ")
    receipt = call_zoo(tmp_path, "load-check", CITY, "--weights", WEIGHTS[CITY], "--json")
    assert json.loads(receipt.stdout)["ok"], receipt.stderr

    refused = {
        ("load-check", CITY): "run `zoo convert NAME FILE` where it is",
        ("convert", CITY, "x.safetensors"): "TensorFlow is not installed",
        ("reproduce", CITY, "--runtime", OTHER): f"expected {OTHER}, which is not installed",
        ("reproduce", COCO, "--weights", str(WEIGHTS[CITY])): "holds the weights of",
        ("reproduce", CITY, "--weights", "x.onnx"): "expected a file of `zoo convert`",
    }
    for words, reason in refused.items():
        done = call_zoo(tmp_path, *words)
        assert done.returncode in (2, 3), words
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) <= 2, done.stderr
    with pytest.raises(UsageError, match="found Keras on"):
        zoo.load(CITY, runtime="tensorflow")
    for device in ("gpu:99", "cpu:1"):
        with pytest.raises(EvaluationError, match=f"--device {device}: {BACKEND} finds no such device here"):
            zoo.load(CITY, weights=WEIGHTS[CITY], device=device)
    with pytest.raises(UsageError, match="--device tpu:x: expected auto, cpu, gpu or gpu:N"):
        zoo.load(CITY, weights=WEIGHTS[CITY], device="tpu:x")


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch")
def test_torch_module_learns_from_a_bundled_image(tmp_path: Path) -> None:
    import torch

    keras.utils.set_random_seed(3)
    network = zoo.load(CITY, weights=WEIGHTS[CITY], device="cpu").keras_model
    assert isinstance(network, torch.nn.Module)
    sample = dataset_of("minicity").load(0)
    height, width = network.input_shape[1:3]
    image = np.full((1, height, width, 3), 127.5, np.float32)
    image[0, : sample.image.shape[0], : sample.image.shape[1]] = sample.image
    labels = torch.from_numpy(sample.semantic[::4, ::4].astype(np.int64))[None]
    ignored = labels >= network.output["semantic_logits"].shape[-1]
    labels[ignored] = -100
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def loss() -> torch.Tensor:
        logits = network(torch.from_numpy(image), training=False)["semantic_logits"]
        logits = logits.permute(0, 3, 1, 2)[:, :, : labels.shape[1], : labels.shape[2]]
        return torch.nn.functional.cross_entropy(logits, labels)

    before = loss()
    before.backward()
    optimizer.step()
    after = loss().detach()
    assert after < before

    torch.save(network.state_dict(), tmp_path / "network.pt")
    other = zoo.build(CITY).keras_model
    other.load_state_dict(torch.load(tmp_path / "network.pt"))
    with torch.no_grad():
        expected, found = network(image), other(image)
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=0)


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_jax_compiles_a_network_once_for_images_of_every_size() -> None:
    import jax

    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: (
            compiled.append(seconds) if event.endswith("backend_compile_duration") else None
        )
    )
    network = zoo.load(CITY, weights=WEIGHTS[CITY], input_size=(65, 129), optimize=True)
    image = np.zeros((65, 129, 3), np.uint8)
    network.maps([image])
    counts = []
    for size in ((65, 129), (40, 129), (40, 129), (200, 300), (200, 300)):
        del compiled[:]
        network.maps([np.zeros((*size, 3), np.uint8)])
        counts.append(len(compiled))

    # The network is compiled for the first image; a new size costs what resizes it, once.
    assert [counts[i] for i in (0, 2, 4)] == [0, 0, 0]
    assert max(counts) <= 2, counts
