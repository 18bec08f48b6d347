"""ImageNet backbones: as feature extractors, and as the start of a network."""

from __future__ import annotations

import gzip
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.errors import CheckpointError, UnknownNameError, UsageError
from zoo.model.checkpoint import variables
from zoo.network.building import LoadOptions, build_keras_model
from zoo.registry import load_registry

NETWORKS = Path(__file__).parents[2] / "data" / "networks"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
BACKBONE = "imagenet/resnet50_beta"
ENTRY = "cityscapes/resnet50_beta_os32"
SAC = "swidernet_sac_1_1_1"
HEAD = {
    "classification_head/_conv/kernel": np.ones((1, 1, 2048, 1000), np.float32),
    "classification_head/_conv/bias": np.ones(1000, np.float32),
}
Values = dict[str, np.ndarray]

golden_checkpoint = runpy.run_path(str(Path(__file__).parents[2] / "model" / "golden_checkpoint.py"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_LOCK", str(tmp_path / "zoo.lock"))


def write(prefix: Path, values: Mapping[str, np.ndarray]) -> Path:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    stored = {
        "_CHECKPOINTABLE_OBJECT_GRAPH": b"",
        **{f"{k}{SUFFIX}": v for k, v in values.items()},
        f"save_counter{SUFFIX}": np.int64(1),
        f"optimizer/iter{SUFFIX}": np.int64(60000),
    }
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(stored),
        shape_and_slices=[""] * len(stored),
        tensors=[tf.constant(value) for value in stored.values()],
    )
    return prefix


def values_of(name: str) -> Values:
    """Values for every variable of a backbone, by key."""
    rng = np.random.default_rng(0)
    values = {}
    backbone = load_registry().find(name)
    model = build_keras_model(backbone, LoadOptions((65, 65)).checked(backbone), random_values=False)
    for key, variable in variables(model).items():
        shape = tuple(variable.shape)
        if key.endswith("/kernel"):
            values[key] = rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[:-1]), dtype="f")
        else:
            values[key] = rng.random(shape, np.float32) + np.float32(0.5)
    return values


@pytest.fixture(scope="module")
def values() -> Values:
    return values_of(BACKBONE)


@pytest.fixture(scope="module")
def sac_values() -> Values:
    return values_of(f"imagenet/{SAC}")


@pytest.fixture(scope="module")
def sac_checkpoint(sac_values: Values, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sac") / "ckpt", sac_values)


@pytest.fixture(scope="module")
def checkpoints(values: Values, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns where a checkpoint lies whose keys start with `encoder/` or `backbone/_encoder/`."""
    folder = tmp_path_factory.mktemp("imagenet")
    paths = {
        root: write(
            folder / root / "ckpt-60000",
            {key.replace("encoder/", root, 1): v for key, v in values.items()} | HEAD,
        )
        for root in ("encoder/", "backbone/_encoder/")
    }
    return paths.__getitem__


@pytest.mark.parametrize("root", ["encoder/", "backbone/_encoder/"])
def test_feature_extractor(values: Values, checkpoints: Callable[[str], Path], root: str) -> None:
    network = zoo.load(BACKBONE, checkpoint=checkpoints(root), input_size=(65, 97))

    receipt = network.receipt
    assert receipt.ok
    assert receipt.restored == tuple(sorted(values))
    assert receipt.unused == tuple(sorted(HEAD))
    assert (receipt.optimizer, receipt.counters) == (("optimizer/iter",), ("save_counter",))
    assert network.entry.name == BACKBONE
    for key, variable in variables(network).items():
        np.testing.assert_array_equal(variable, values[key])
    endpoints = network(np.zeros((2, 65, 97, 3), np.uint8))
    assert {name: tuple(features.shape) for name, features in endpoints.items()} == {
        "res1": (2, 33, 49, 128),
        "res2": (2, 17, 25, 256),
        "res3": (2, 9, 13, 512),
        "res4": (2, 5, 7, 1024),
        "res5": (2, 3, 4, 2048),
    }


def test_optimized_feature_extractor(checkpoints: Callable[[str], Path]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 97, 3)).astype(np.uint8)
    network, optimized = (
        zoo.load(BACKBONE, checkpoint=checkpoints("encoder/"), input_size=(65, 97), optimize=optimize)
        for optimize in (False, True)
    )

    expected = network(image)

    assert not any("batch_norm" in layer.name for layer in optimized.keras_model.layers)
    for name, features in optimized(image).items():
        np.testing.assert_allclose(features, expected[name], atol=1e-4 * np.std(expected[name]))


@pytest.mark.parametrize(("stride", "size"), [(None, 3), (32, 3), (16, 5), (8, 9)])
def test_output_stride(stride: int | None, size: int) -> None:
    network = zoo.build("imagenet/resnet50", (65, 65), output_stride=stride)
    assert network.keras_model.output["res5"].shape[1] == size


def test_size_of_images_without_any_asked_for() -> None:
    network = zoo.build("imagenet/mobilenet_v3_small")
    assert network.input_shape == (None, 225, 225, 3)
    with pytest.raises(UsageError, match=r"_small: expected a panoptic network") as caught:
        network.predict(np.zeros((20, 20, 3), np.uint8))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"expected RGB images \[B, 225, 225, 3\]") as caught:
        network(np.zeros((1, 20, 20, 3), np.uint8))
    assert "predict_panoptic" not in str(caught.value)


def test_output_strides_that_are_refused() -> None:
    with pytest.raises(UsageError, match="imagenet/resnet50: output_stride: expected 8, 16 or 32, found 4"):
        zoo.build("imagenet/resnet50", output_stride=4)
    with pytest.raises(UsageError, match=f"{ENTRY}: output_stride: expected 32, found 16"):
        zoo.build(ENTRY, (65, 65), output_stride=16)


@pytest.mark.parametrize("given", ["name", "path", "url"])
def test_network_that_starts_from_a_backbone(
    values: Values,
    checkpoints: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    prefix = checkpoints("backbone/_encoder/")
    archive = tmp_path / "backbone.tar.gz"
    if given != "path":
        import tarfile

        with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
            tar.add(prefix.parent, "resnet50_beta")
    if given == "name":
        registry = tmp_path / "mine.yaml"
        registry.write_text(
            "version: 1\n"
            "backbones:\n"
            "  mine/resnet50_beta:\n"
            "    extends: [resnet50_beta, imagenet_strong]\n"
            "    title: mine\n"
            "    source: here\n"
            f"    checkpoint: {archive.as_uri()}\n"
        )
        monkeypatch.setenv("ZOO_REGISTRY", str(registry))
    weights = {"name": "mine/resnet50_beta", "path": prefix, "url": archive.as_uri()}[given]

    network = zoo.build(ENTRY, (65, 65), backbone_weights=weights)

    receipt = network.backbone_receipt
    assert receipt.ok
    assert receipt.restored == tuple(sorted(values))
    assert (receipt.archive_sha256 is None) == (given == "path")
    assert network.receipt is None  # It is not a trained network.
    found = variables(network)
    for key, value in values.items():
        np.testing.assert_array_equal(found[key], value)
    kernel = np.asarray(found["semantic_decoder/_aspp/_conv_bn_act/_conv/kernel"])
    assert np.std(kernel) > 0.01  # The rest is random.


def test_backbone_of_another_network_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"resnet50_beta_os32: .*imagenet/resnet50: name: expected"
    ) as caught:
        zoo.build(ENTRY, (65, 65), backbone_weights="imagenet/resnet50")
    assert "expected resnet50_beta, found resnet50;" in str(caught.value)
    with pytest.raises(UsageError, match=r"backbone_layer_multiplier: expected 1.0, found 3.0"):
        zoo.build(SAC, (65, 65), backbone_weights="imagenet/swidernet_sac_1_1_3")
    with pytest.raises(UnknownNameError, match="did you mean imagenet/resnet50_beta"):
        zoo.build(ENTRY, (65, 65), backbone_weights="imagenet/resnet50_bet")


def test_checkpoint_of_another_backbone_is_refused(checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(CheckpointError, match=r"^imagenet/resnet50: checkpoint .*missing") as caught:
        zoo.load("imagenet/resnet50", checkpoint=checkpoints("encoder/"), input_size=(65, 65))
    assert "\n" not in str(caught.value)


def test_backbone_checkpoint_is_no_whole_network(checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(CheckpointError, match="as ImageNet checkpoints do"):
        zoo.load(ENTRY, checkpoint=checkpoints("encoder/"), input_size=(65, 65))


def test_weights_of_an_encoder_that_stands_alone(tmp_path: Path) -> None:
    """Upstream reads ConvNeXt's ImageNet weights with `load_weights` of the encoder: no key has its name."""
    with gzip.open(NETWORKS / "variables" / "cityscapes_kmax_convnext_tiny.tsv.gz", "rt") as lines:
        shapes = {
            key.removeprefix("encoder/"): tuple(map(int, shape.split("x")))
            for key, shape in (line.rstrip("\n").split("\t") for line in lines)
            if key.startswith("encoder/")
        }
    archive = golden_checkpoint["write_archive"](tmp_path, "ckpt", shapes)

    network = zoo.load("imagenet/convnext_tiny", checkpoint=archive.as_uri(), input_size=(65, 65))

    assert network.receipt.ok
    assert network.receipt.restored == tuple(sorted(f"encoder/{key}" for key in shapes))
    assert (network.receipt.unused, network.receipt.missing) == ((), ())
    for key, variable in variables(network).items():
        stored = key.removeprefix("encoder/")
        np.testing.assert_array_equal(variable, golden_checkpoint["golden_values"](stored, shapes[stored]))
    assert network(np.zeros((1, 65, 65, 3), np.uint8))["res5"].shape == (1, 3, 3, 768)


def test_switches_that_an_output_stride_of_32_lacks(
    sac_values: Values, sac_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At stride 32, as classifiers are trained, the first switchable convolution has a stride instead."""
    network = zoo.build(SAC, (65, 65), backbone_weights=sac_checkpoint)

    place = "encoder/_stage5/_block1/_conv2_bn_act/_conv/_switch"
    receipt = network.backbone_receipt
    assert receipt.ok
    assert receipt.initial == (f"{place}/bias", f"{place}/kernel")
    assert receipt.restored == tuple(sorted(sac_values))
    for key in receipt.initial:
        assert not np.any(variables(network)[key])  # The plain convolution, as it was trained.

    lacking = {
        k: v for k, v in sac_values.items() if not k.endswith("_block2/_conv2_bn_act/_conv/_switch/bias")
    }
    # To draw values for a network that is refused takes longer than to look for them.
    zeros = partial(build_keras_model, random_values=False)
    monkeypatch.setattr("zoo.network.loading.build_keras_model", zeros)
    with pytest.raises(CheckpointError, match=r"1 missing \(encoder/_stage5/_block2"):
        zoo.build(SAC, (65, 65), backbone_weights=write(tmp_path / "other", lacking))


def test_a_stacked_decoder_of_another_output_stride(tmp_path: Path) -> None:
    """The decoder of MaX-DeepLab-L has other stages at another stride; no end point depends on it."""
    name = "imagenet/max_deeplab_l_backbone"
    backbone = load_registry().find(name)
    options = {"input_size": (65, 65), "output_stride": 16}
    model = build_keras_model(backbone, LoadOptions(**options).checked(backbone), random_values=False)
    zeros = {key: np.zeros(variable.shape, np.float32) for key, variable in variables(model).items()}
    prefix = write(tmp_path / "ckpt", zeros)
    decoder = tuple(sorted(key for key in zeros if key.startswith("encoder/_decoder_stage")))

    same, other = (
        zoo.load(name, checkpoint=prefix, input_size=(65, 65), output_stride=stride).receipt
        for stride in (16, 32)
    )

    assert same.ok
    assert (same.restored, same.initial) == (tuple(sorted(zeros)), ())
    assert other.ok
    assert other.restored == tuple(key for key in sorted(zeros) if key not in decoder)
    assert all(key.startswith("encoder/_decoder_stage") for key in other.initial)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the system's own measure")
def test_memory_holds_the_variables_once(
    checkpoints: Callable[[str], Path], sac_checkpoint: Path, tmp_path: Path
) -> None:
    """The peak, as the system saw it, grows by the size of the variables from a small network to a large."""
    code = (
        "import sys, zoo\n"
        "network = zoo.load(sys.argv[1], checkpoint=sys.argv[2], input_size=(65, 65))\n"
        "peak, = (line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(1024 * int(peak.split()[1]), network.receipt.bytes)\n"
    )
    peaks, sizes = [], []
    for name, prefix in ((BACKBONE, checkpoints("encoder/")), (f"imagenet/{SAC}", sac_checkpoint)):
        command = [sys.executable, "-c", code, name, str(prefix)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
        peak, size = map(int, done.stdout.split())
        peaks.append(peak)
        sizes.append(size)

    growth = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])

    assert sizes[1] > 4 * sizes[0]
    assert growth < 1.15, f"peaks {peaks} for variables of {sizes} bytes"
