"""SavedModels of the published signature: loaded, called, compared; written here from a network of ours."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.errors import ArchiveError, UsageError
from zoo.model.families import FAMILIES
from zoo.network.agreement import compare_with_saved_model, equal_segments
from zoo.network.network import Network
from zoo.network.saved_model import SavedModelRuntime
from zoo.registry import Registry, load_registry

NAME = "minicity/mobilenet_v3_small_os16"
MAPS = ("semantic_logits", "center_heatmap", "offset_map")
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def network() -> Any:
    # Folded, it has fewer variables to write.
    return zoo.load(NAME, optimize=True)


def export(network: Any, folder: Path) -> None:
    """Writes a network with its post-processing, as the published SavedModels hold it."""
    from zoo.runtimes.saved_model_folder import write_whole

    evaluation = network.entry.evaluation
    write_whole(network.keras_model, evaluation.crop_size, evaluation, network.options, "{}", folder)


def packed(folder: Path) -> Path:
    """Packs a SavedModel as the published ones are: everything in one folder of the archive's name."""
    archive = folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)
    return archive


@pytest.fixture(scope="module")
def folder(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "good_saved_model"
    export(network, folder)
    return folder


@pytest.fixture(scope="module")
def own(folder: Path) -> Path:
    """A registry file whose entries have SavedModels: a good one, and faulty ones."""
    file = folder.parent / "own.yaml"
    lines = ["entries:"]
    for name in ("good", "otherwise_normalized", "with_unknown_operation", "of_another_function", "damaged"):
        lines += [
            f"  mine/{name}_os16:",
            f"    extends: {NAME}",
            f"    title: {name}",
            "    checkpoint: package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz",
            f"    saved_model: ./{name}_saved_model.tar.gz",
        ]
        if name == "otherwise_normalized":
            lines[-1] = "    saved_model: ./good_saved_model.tar.gz"
            lines += ["    network: {batch_norm: {epsilon: 0.003}}"]
    file.write_text("\n".join(lines))
    packed(folder)
    return file


@pytest.fixture(scope="module")
def registry(own: Path) -> Registry:
    return load_registry([own])


@pytest.fixture(scope="module")
def saved_model(registry: Registry) -> Network:
    return zoo.load("mine/good_os16", source="saved_model", registry=registry)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    from zoo.fetch.fetcher import Fetcher
    from zoo.repro.datasets.opening import open_dataset

    image = open_dataset(load_registry().dataset("minicity"), None, Fetcher()).load(0).image
    assert image.shape == (256, 512, 3)
    return image


def test_every_output_has_its_documented_form(saved_model: Network, image: np.ndarray) -> None:
    (outputs,) = saved_model.maps([image])

    assert tuple(outputs) == FAMILIES["panoptic_deeplab"].published
    channels = {"semantic_probs": (19,), "semantic_logits": (19,), "offset_map": (2,)}
    for name, values in outputs.items():
        size = (257, 513) if name == "semantic_logits" else (256, 512)
        assert values.shape == (*size, *channels.get(name, ())), name
        assert values.dtype == (
            np.int32 if name in ("panoptic_pred", "semantic_pred", "instance_pred") else "f4"
        )


def test_maps_have_the_contract_of_the_built_network(
    saved_model: Network, network: Any, image: np.ndarray
) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (2, 257, 513, 3)).astype(np.uint8)
    expected, found = network(crop), saved_model(crop)

    assert saved_model.input_shape == network.input_shape
    assert saved_model.entry.name == "mine/good_os16"
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, atol=1e-4 * np.std(values))

    padded = np.full((1, 257, 513, 3), 127.5, np.float32)
    padded[0, :256, :512] = image
    expected, found = network(padded), saved_model(image[None].astype(np.float32))
    for name, values in expected.items():
        values = np.asarray(values)[:, :64, :128]
        np.testing.assert_allclose(found[name], values, atol=1e-4 * np.std(values))


def test_panoptic_map_is_that_of_the_built_network(
    saved_model: Network, network: Any, image: np.ndarray
) -> None:
    expected, found = network.predict_panoptic(image), zoo.predict_panoptic(saved_model, image)

    assert np.mean(found.panoptic == expected.panoptic) > 0.9999
    assert found.panoptic.shape == (256, 512)
    assert (found.panoptic.dtype, found.semantic.dtype) == (np.int32, np.uint8)
    assert len(found.instances) > 3
    assert found.instances.label.tolist() == expected.instances.label.tolist()
    for ours, theirs in zip(expected.instances.itertuples(), found.instances.itertuples(), strict=True):
        assert theirs.class_name == ours.class_name
        assert theirs.area_px == np.count_nonzero(found.panoptic == theirs.label)
        assert theirs.score == pytest.approx(ours.score, abs=1e-3)


@pytest.mark.parametrize("form", ["too large", "no batch", "no image", "halves", "keras", "scales"])
def test_what_it_cannot_take_is_refused(saved_model: Network, image: np.ndarray, form: str) -> None:
    call, message = {
        "too large": (lambda: saved_model(np.zeros((1, 300, 513, 3), np.uint8)), "at most 257 x 513"),
        "no batch": (lambda: saved_model(image), r"\[batch, height, width, 3\]"),
        "no image": (lambda: saved_model.predict(image[..., 0]), r"one RGB image"),
        "halves": (lambda: saved_model.predict_panoptic(image + 0.5), "whole numbers"),
        "keras": (lambda: saved_model.keras_model, "has no Keras model"),
        "scales": (lambda: saved_model.predict_panoptic(image, scales=(0.5, 1)), "one scale"),
    }[form]
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_options_of_a_built_network_are_refused(registry: Registry) -> None:
    with pytest.raises(UsageError, match="input_size, precision, optimize: expected none"):
        zoo.load(
            "mine/good_os16",
            source="saved_model",
            registry=registry,
            input_size=(65, 65),
            precision="bfloat16",
            optimize=True,
        )
    with pytest.raises(UsageError, match="source: expected checkpoint or saved_model, found 'hub'"):
        zoo.load(NAME, source="hub")
    with pytest.raises(UsageError, match="imagenet/resnet50: source"):
        zoo.load("imagenet/resnet50", source="saved_model")


def test_an_entry_without_a_saved_model_says_so() -> None:
    with pytest.raises(ArchiveError, match=f"^{NAME}: no SavedModel of this entry was published"):
        zoo.load(NAME, source="saved_model")


# ---- faulty SavedModels ----


def test_an_unknown_operation_is_named(folder: Path, registry: Registry) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    faulty = folder.with_name("with_unknown_operation_saved_model")
    copy_tree(folder, faulty)
    content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    changed = 0
    for meta_graph in content.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Softmax":
                    node.op = "MergeSemanticAndInstanceMaps"
                    changed += 1
    assert changed
    (faulty / "saved_model.pb").write_bytes(content.SerializeToString())
    packed(faulty)

    with pytest.raises(
        ArchiveError, match="needs the operation MergeSemanticAndInstanceMaps, which"
    ) as caught:
        zoo.load("mine/with_unknown_operation_os16", source="saved_model", registry=registry)

    assert "\n" not in str(caught.value)
    assert "use the checkpoint" in str(caught.value)


def test_another_function_is_refused(folder: Path, registry: Registry) -> None:
    import tensorflow as tf

    other = folder.with_name("of_another_function_saved_model")
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(other), signatures=module.double.get_concrete_function())
    packed(other)

    with pytest.raises(ArchiveError, match="expected the SavedModel of a function of one uint8") as caught:
        zoo.load("mine/of_another_function_os16", source="saved_model", registry=registry)

    assert "without panoptic_pred" in str(caught.value)


def test_a_damaged_saved_model_is_one_line(folder: Path, registry: Registry) -> None:
    damaged = folder.with_name("damaged_saved_model")
    copy_tree(folder, damaged)
    (damaged / "saved_model.pb").write_bytes(b"this is none")
    packed(damaged)

    with pytest.raises(ArchiveError, match=r"mine/damaged_os16: .*expected a SavedModel that") as caught:
        zoo.load("mine/damaged_os16", source="saved_model", registry=registry)

    assert "\n" not in str(caught.value)


def copy_tree(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


# ---- agreement ----


def test_network_and_saved_model_of_the_same_weights_agree(registry: Registry) -> None:
    report = compare_with_saved_model(registry.resolve("mine/good_os16"), registry=registry)

    assert report.ok
    assert set(report.maps) == set(MAPS)
    assert all(each.relative < 1e-4 for each in report.maps.values())
    assert all(each.standard_deviation > 0 for each in report.maps.values())
    assert report.image_size == (256, 512)
    assert report.equal_panoptic > 0.9999
    assert report.equal_panoptic <= report.equal_segments
    assert report.equal_semantic > 0.9999
    assert str(report).startswith("mine/good_os16: agrees with its SavedModel on frankfurt_000000_")
    assert json.loads(json.dumps(report.to_json()))["agrees"] is True


def test_verify_prints_how_far_they_agree(
    own: Path, image: np.ndarray, zoo_call: Call, one_line: Call, tmp_path: Path
) -> None:
    """Two networks that differ in the constants of their normalisation: exit code 1."""
    import tensorflow as tf

    file = tmp_path / "street.png"
    file.write_bytes(tf.io.encode_png(image[:200, :300]).numpy())
    words = ("verify", "mine/otherwise_normalized_os16", "--against", "saved_model", "--image", file)
    untrusted = one_line(zoo_call("--registry", own, *words), 2)
    assert "expected a SavedModel of the built-in registry, found another; it is a program" in untrusted
    done = zoo_call("--registry", own, *words, "--trust")

    assert done.returncode == 1, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == (f"mine/otherwise_normalized_os16: DIFFERS from its SavedModel on {file} (200 x 300 px)")
    assert [line.split()[0] for line in lines] == [*MAPS, "semantic", "panoptic"]
    for line in lines[:3]:
        assert float(line.split("largest difference ")[1].split()[0]) > 1e-3


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--against", "saved_model"], 3, "no SavedModel of this entry was published"),
        (["--against", "checkpoint"], 2, "expected saved_model"),
        (["--image", "x.png"], 2, "needs --against"),
        (["--against", "saved_model", "--accept"], 2, "cannot be given with --against"),
    ],
)
def test_verify_against_refuses_in_one_line(
    zoo_call: Call, one_line: Call, words: list[str], code: int, expected: str
) -> None:
    assert expected in one_line(zoo_call("verify", NAME, *words), code)


def test_segments_are_matched_whatever_their_numbers() -> None:
    first = np.array([[11001, 11001, 11002, 11002, 0, 0, 13001, 255000]], np.int32)
    renumbered = np.array([[11002, 11002, 11001, 11001, 0, 0, 13007, 255000]], np.int32)
    merged = np.array([[11001, 11001, 11001, 11001, 0, 7, 14001, 255000]], np.int32)

    assert equal_segments(first, first, 1000) == 1
    assert equal_segments(first, renumbered, 1000) == 1
    # One of the two persons, one pixel of class 0, and the void pixel.
    assert equal_segments(first, merged, 1000) == 4 / 8


def test_the_saved_model_of_masks_is_read(tmp_path: Path) -> None:
    case = dict(np.load(Path(__file__).parents[2] / "data" / "postprocess_masks" / "case1.npz"))
    names = {"panoptic": "panoptic_pred", "semantic": "semantic_pred", "mask_id": "instance_pred"}
    names |= {"instance_scores": "instance_scores", "semantic_scores": "semantic_scores"}
    values = {output: case[name] for name, output in names.items()}
    values["pixel_space_mask_logits"] = case["mask_logits_x16"] / np.float32(16)
    values["transformer_class_logits"] = case["class_logits_x16"] / np.float32(16)

    class Constant(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
        def __call__(self, input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
            return {name: tf.constant(each[None]) for name, each in values.items()}

    module = Constant()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__.get_concrete_function())
    entry = load_registry().resolve("cityscapes/kmax_resnet50")
    network = Network(entry, SavedModelRuntime(entry, tmp_path))
    image = np.zeros((*case["panoptic"].shape, 3), np.uint8)
    found = network.predict(image)
    np.testing.assert_array_equal(found.panoptic, case["panoptic"])
    np.testing.assert_array_equal(found.semantic, case["semantic"])
    is_thing = np.isin(case["segment_ids"] // 1000, found.classes.thing_class_ids)
    assert found.instances.label.tolist() == case["segment_ids"][is_thing].tolist()
    np.testing.assert_allclose(found.instances.score, case["segment_scores"][is_thing], rtol=1e-6)
    maps = network(image[None])
    assert {name: each.shape for name, each in maps.items()} == {
        "mask_logits": (1, 33, 41, 256),
        "class_logits": (1, 256, 20),
    }
