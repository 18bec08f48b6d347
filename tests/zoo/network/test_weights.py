"""Converted weights: written, loaded again to the bit, refused where they are not what was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import zoo
from zoo.errors import CheckpointError, UsageError

NAME = "minicity/mobilenet_v3_small_os16"
# Of how Keras hands its variables to NumPy where it saves them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

FORMS = ["safetensors", "weights.h5"]


@pytest.fixture(scope="module")
def network(zoo_cache: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(zoo_cache))
        return zoo.load(NAME, input_size=(65, 129))


@pytest.fixture(scope="module", params=FORMS)
def file(request: pytest.FixtureRequest, network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zoo.network.weights import write_weights

    path: Path = tmp_path_factory.mktemp("weights") / "new" / f"network.{request.param}"
    write_weights(network, path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path


def test_loaded_weights_give_the_same_maps(network: Any, file: Path) -> None:
    loaded = zoo.load(NAME, weights=file, input_size=(65, 129))

    image = np.random.default_rng(0).integers(0, 256, (1, 65, 129, 3)).astype(np.uint8)
    for name, values in loaded(image).items():
        np.testing.assert_array_equal(values, network(image)[name])
    assert loaded.receipt.ok
    assert loaded.receipt.prefix == str(file)
    assert loaded.receipt.sha256 == network.receipt.sha256
    assert loaded.receipt.restored == network.receipt.restored


def test_a_changed_file_is_refused(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    changed = tmp_path / file.name
    middle = len(content) // 2
    changed.write_bytes(
        content[:middle] + bytes(b ^ 1 for b in content[middle : middle + 64]) + content[middle + 64 :]
    )
    with pytest.raises(CheckpointError, match=r"it is corrupt; write it again with `zoo convert`$"):
        zoo.load(NAME, weights=changed, input_size=(65, 129))

    changed.write_bytes(content[:middle])
    with pytest.raises(CheckpointError, match=r"is corrupt, or not of `zoo convert` \("):
        zoo.load(NAME, weights=changed, input_size=(65, 129))


def test_a_file_without_a_part_is_one_error_and_no_warning(network: Any, tmp_path: Path) -> None:
    import h5py

    from zoo.network.weights import write_weights

    path = tmp_path / "network.weights.h5"
    write_weights(network, path)
    with h5py.File(path, "a") as stored:
        layers = stored["layers"]
        del layers[next(name for name, layer in layers.items() if len(layer["vars"]))]
    with pytest.raises(CheckpointError, match=r"is corrupt, or not of `zoo convert` \("):
        zoo.load(NAME, weights=path, input_size=(65, 129))


def test_what_cannot_be_loaded_is_said(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{file.name} holds the weights of {NAME}; load that"):
        zoo.load("minicoco/mobilenet_v3_small_os16", weights=file)
    with pytest.raises(
        UsageError, match=r"expected a file name that ends with \.safetensors or \.weights\.h5"
    ):
        zoo.load(NAME, weights=tmp_path / "network.npz")
    with pytest.raises(CheckpointError, match=f"no file {tmp_path / file.name}; `zoo convert` writes one"):
        zoo.load(NAME, weights=tmp_path / file.name)
    with pytest.raises(UsageError, match="weights: cannot be given with a checkpoint"):
        zoo.load(NAME, weights=file, checkpoint=tmp_path)


def test_variables_of_another_network_are_refused(network: Any, tmp_path: Path) -> None:
    from zoo.network.weights import write_weights

    path = tmp_path / "network.safetensors"
    write_weights(network, path)
    with safe_open(path, framework="numpy") as stored:
        metadata = stored.metadata()
    values = load_file(path)
    del values["semantic_last_layer/bias"]
    save_file(values, path, metadata)

    with pytest.raises(CheckpointError, match=r"semantic_last_layer/bias: expected \(19,\), found none"):
        zoo.load(NAME, weights=path, input_size=(65, 129))


def test_convert(zoo_call: Callable[..., Any], one_line: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"

    done = zoo_call("convert", NAME, path, "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["entry"], said["file"], said["receipt"]["ok"]) == (NAME, str(path), True)
    with safe_open(path, framework="numpy") as stored:
        about = json.loads(stored.metadata()["zoo"])
    assert about["receipt"] == said["receipt"]
    assert "expected a file name that ends with" in one_line(zoo_call("convert", NAME, tmp_path / "a.npz"), 2)


def test_a_run_restores_the_weights_that_it_is_given(network: Any, file: Path) -> None:
    from zoo.fetch.fetcher import Fetcher
    from zoo.repro.run.pipeline import find_weights
    from zoo.repro.run.settings import RunSettings

    found, model = find_weights(network.entry, RunSettings(model=file), Fetcher())

    assert model is None
    assert found.path == file
    assert found.sha256 == network.receipt.archive_sha256
