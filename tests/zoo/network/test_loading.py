from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from zoo.errors import CheckpointError, UnknownNameError, ZooError
from zoo.network.loading import load

NAME = "minicity/mobilenet_v3_small_os16"
OTHER = "cityscapes/mobilenet_v3_small_os16"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_LOCK", str(tmp_path / "zoo.lock"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint archive of the published form for another entry."""
    import tensorflow as tf

    from zoo.model.checkpoint import variables

    folder = tmp_path_factory.mktemp("archive")
    root = tf.train.Checkpoint()
    for number, (key, variable) in enumerate(variables(zoo.build(OTHER, (33, 33))).items()):
        *parents, leaf = key.split("/")
        node: Any = root
        for name in parents:
            if not hasattr(node, name):
                setattr(node, name, tf.Module())
            node = getattr(node, name)
        setattr(node, leaf, tf.Variable(tf.fill(variable.shape, float(number))))
    root.write(str(folder / "model" / "ckpt-60000"))
    path = folder / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder / "model", "model")
    return path


def test_bundled_network_is_loaded_completely() -> None:
    network = zoo.load(NAME, input_size=(65, 129))

    assert network.entry.name == NAME
    receipt = network.receipt
    assert receipt.ok
    assert len(receipt.restored) == 362
    assert (receipt.missing, receipt.unused, receipt.different_shape) == ((), (), ())
    assert receipt.counters == ("save_counter",)
    assert receipt.bytes == sum(4 * int(np.prod(weight.shape)) for weight in network.keras_model.weights)
    assert len(receipt.archive_sha256) == 64
    maps = network(np.full((1, 65, 129, 3), 127, np.uint8))
    assert maps["semantic_logits"].shape == (1, 17, 33, 19)
    # A trained network is not indifferent between the classes.
    assert np.ptp(np.asarray(maps["semantic_logits"])) > 1


def test_input_size_is_the_published_crop() -> None:
    assert zoo.build(NAME).input_shape == (None, 257, 513, 3)
    assert zoo.build(NAME, input_size=(33, 65)).input_shape == (None, 33, 65, 3)


def test_optimized_network_gives_the_same_maps() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 65, 129, 3)).astype(np.uint8)
    network, optimized = (load(NAME, input_size=(65, 129), optimize=o) for o in (False, True))

    expected, found = network(image), optimized(image)

    assert len(optimized.keras_model.layers) < len(network.keras_model.layers)
    assert (optimized.entry.name, optimized.receipt) == (NAME, network.receipt)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4 * np.std(values))


def test_short_name_and_unknown_name() -> None:
    assert zoo.build("mobilenet_v3_large_os32", (33, 33)).entry.name == "cityscapes/mobilenet_v3_large_os32"
    with pytest.raises(UnknownNameError, match="did you mean"):
        zoo.build("mobilenet_v3_larg_os32")


@pytest.mark.parametrize("form", ["archive", "folder", "prefix", "index", "url"])
def test_checkpoint_of_the_users_own(archive: Path, form: str) -> None:
    given: str | Path = {
        "archive": archive,
        "folder": archive.parent / "model",
        "prefix": archive.parent / "model" / "ckpt-60000",
        "index": archive.parent / "model" / "ckpt-60000.index",
        "url": archive.as_uri(),
    }[form]

    receipt = load(OTHER, checkpoint=given).receipt

    assert receipt.ok
    assert receipt.unused == ()
    assert (receipt.archive_sha256 is None) == (form not in ("archive", "url"))


def test_checkpoint_of_another_entry_is_refused_by_name(archive: Path) -> None:
    with pytest.raises(CheckpointError, match=f"^{NAME}: checkpoint .* of another shape") as caught:
        load(NAME, checkpoint=archive)

    assert "\n" not in str(caught.value)


def test_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{NAME}: no checkpoint .*ckpt-7: expected ckpt-7.index"):
        load(NAME, checkpoint=tmp_path / "ckpt-7")
    with pytest.raises(ZooError, match="expected one checkpoint"):
        load(NAME, checkpoint=tmp_path)
