"""One way from an image to its panoptic map: `Network`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image

import zoo
from zoo.errors import DataError, UsageError
from zoo.fetch.fetcher import Fetcher
from zoo.model.inference import aspp_window
from zoo.model.postprocess.center_offset import postprocess
from zoo.model.preprocess import padded_size
from zoo.network.keras_runtime import KerasRuntime
from zoo.network.network import Network, classes_of
from zoo.prediction.prediction import Prediction
from zoo.registry import load_registry
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.datasets.opening import open_dataset

NAME = "minicity/mobilenet_v3_small_os16"
COCO_NAME = "minicoco/mobilenet_v3_small_os16"


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    dataset = open_dataset(load_registry().dataset("minicity"), None, Fetcher())
    return [dataset.load(index).image for index in range(len(dataset))]


@pytest.fixture(scope="module")
def network() -> Any:
    return zoo.load(NAME, optimize=True)


@pytest.fixture(scope="module")
def small() -> Any:
    """The same network for another input size."""
    return zoo.load(NAME, optimize=True, input_size=(65, 129))


def assert_same(found: Prediction, expected: Prediction) -> None:
    np.testing.assert_array_equal(found.panoptic, expected.panoptic)
    np.testing.assert_array_equal(found.semantic, expected.semantic)
    assert_frame_equal(found.instances, expected.instances)


# ---- what is scored; tests/repro/run compares it with the files of whole runs ----


def test_scales_and_mirroring_are_those_that_were_loaded(network: Any, images: list[np.ndarray]) -> None:
    image = images[0]
    averaged = zoo.load(NAME, optimize=True, scales=(0.75,), flip=True)
    expected = averaged.predict(image)
    assert_same(network.predict_panoptic(image, scales=(0.75,), flip=True), expected)
    assert (expected.panoptic != network.predict(image).panoptic).any()
    (maps,) = averaged.maps([image])
    assert maps["semantic_probs"].shape == (257, 513, 19)
    # Of one scale, whatever the network was loaded with.
    assert_same(averaged.predict_panoptic(image), network.predict(image))


def test_images_of_any_size_are_resized_for_coco() -> None:
    dataset = open_dataset(load_registry().dataset("minicoco"), None, Fetcher())
    network = zoo.load(COCO_NAME, optimize=True)
    sizes = set()
    for index in range(0, len(dataset), 6):
        image = dataset.load(index).image
        sizes.add(image.shape)
        found = network.predict(image)
        assert found.panoptic.shape == image.shape[:2]
        assert_same(network.predict_panoptic(image), found)
        assert found.class_name(found.void_label) == "void"
    assert len(sizes) > 2


def test_only_predict_shrinks_what_is_larger_than_the_input(network: Any, images: list[np.ndarray]) -> None:
    image = images[0].repeat(2, axis=0).repeat(2, axis=1)
    shrunk, kept = network.predict(image), network.predict_panoptic(image)
    assert shrunk.panoptic.shape == kept.panoptic.shape == (512, 1024)
    # Every pixel was doubled, so that the shrunk image is nearly the first.
    expected = network.predict(images[0]).semantic.repeat(2, axis=0).repeat(2, axis=1)
    assert np.mean(shrunk.semantic == expected) > 0.97
    assert np.mean(kept.semantic == expected) < np.mean(shrunk.semantic == expected)


def test_result_is_complete(network: Any, images: list[np.ndarray]) -> None:
    found = network.predict(images[0])
    assert_same(zoo.predict_panoptic(network, images[0]), found)

    assert (found.panoptic.dtype, found.semantic.dtype) == (np.int32, np.uint8)
    assert found.panoptic.shape == found.semantic.shape == images[0].shape[:2]
    assert (found.class_names, found.label_divisor, found.void_label) == (
        CITYSCAPES.class_names,
        1000,
        255_000,
    )
    assert len(found.instances) > 3
    labels, areas = np.unique(found.panoptic, return_counts=True)
    things = np.isin(labels // 1000, CITYSCAPES.thing_class_ids)
    assert dict(zip(found.instances.label, found.instances.area_px, strict=True)) == dict(
        zip(labels[things].tolist(), areas[things].tolist(), strict=True)
    )
    for instance in found.instances.itertuples():
        assert instance.class_id == instance.label // 1000
        assert instance.class_name == CITYSCAPES.class_names[instance.class_id]
        assert found.class_name(instance.label) == instance.class_name
        assert 0 < instance.score < 1.5
        # The class of an instance is that of most of its pixels.
        votes = np.bincount(found.semantic[found.panoptic == instance.label], minlength=19)
        assert votes.argmax() == instance.class_id
    assert (found.class_name(0), found.class_name(255_000)) == ("road", "void")


def test_lists_batches_and_streams_are_predicted_in_order(network: Any, images: list[np.ndarray]) -> None:
    several = [images[0], images[1][:200, :300], images[2].astype(np.float32), *images[3:9]]
    expected = [network.predict(image) for image in several]
    for found in (
        network.predict(several),
        network.predict(tuple(several)),
        list(network.predict_each(several)),
    ):
        assert isinstance(found, list)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    batch = np.stack(several[3:5])
    for found in (network.predict(batch), network.predict(keras.ops.convert_to_tensor(batch))):
        assert [each.panoptic.shape for each in found] == [(256, 512)] * 2
        assert_same(found[1], expected[4])
    assert network.predict([]) == []


def test_pictures_are_predicted_by_their_paths(small: Any, images: list[np.ndarray], tmp_path: Path) -> None:
    paths = [tmp_path / "a street.png", tmp_path / "b.v2.png"]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image[:65, :129]).save(path)
    one = small.predict(str(paths[0]))
    assert one.name == "a street"
    assert_same(one, small.predict(images[0][:65, :129]))
    np.testing.assert_array_equal(one.image, images[0][:65, :129])
    several = small.predict([paths[1], images[0][:65, :129], paths[0]])
    assert [each.name for each in several] == ["b.v2", None, "a street"]
    assert_same(several[1], several[2])
    assert_same(small.predict_panoptic(paths[0]), one)
    (tmp_path / "text.png").write_text("not a picture")
    for wrong in (tmp_path / "none.png", tmp_path / "text.png"):
        for call in (small.predict, small.predict_panoptic, lambda path: small.predict([paths[0], path])):
            with pytest.raises(DataError, match=wrong.name) as caught:
                call(wrong)
            assert "\n" not in str(caught.value)


def test_an_endless_stream_is_read_a_little_ahead_and_stops(small: Any, images: list[np.ndarray]) -> None:
    taken: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        for index in itertools.count():
            taken.append(index)
            yield images[index % len(images)][:65, :129]

    found = small.predict_each(endless())
    assert_same(next(found), small.predict(images[0][:65, :129]))
    assert_same(next(found), small.predict(images[1][:65, :129]))
    found.close()
    assert len(taken) < 10
    running = {thread.name.partition("_")[0] for thread in threading.enumerate()}
    assert not running & {"read", "finish"}


def test_an_error_comes_at_its_image(small: Any, images: list[np.ndarray]) -> None:
    good = images[0][:65, :129]
    found = small.predict_each([good, good, good[..., 0], good])
    assert len([next(found), next(found)]) == 2
    with pytest.raises(UsageError, match=r"^predict_each: expected one RGB image") as caught:
        next(found)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="expected one RGB image"):
        small.predict([good, good[..., 0]])


def test_image_may_be_float_and_a_tensor(network: Any, images: list[np.ndarray]) -> None:
    expected = network.predict_panoptic(images[1]).panoptic
    for image in (images[1].astype(np.float64), keras.ops.convert_to_tensor(images[1])):
        np.testing.assert_array_equal(network.predict_panoptic(image).panoptic, expected)


def test_unfolded_network_and_bfloat16(network: Any, images: list[np.ndarray]) -> None:
    expected = network.predict_panoptic(images[0]).panoptic
    plain = zoo.load(NAME).predict_panoptic(images[0]).panoptic
    narrow = zoo.load(NAME, precision="bfloat16", optimize=True).predict_panoptic(images[0]).panoptic
    # Folding moves the maps by rounding alone, bfloat16 by more.
    assert np.mean(plain == expected) > 0.999
    assert 0.95 < np.mean(narrow == expected) < 1


# ---- sizes ----


@pytest.mark.parametrize(
    ("image_size", "padded"),
    [
        ((256, 512), (257, 513)),
        ((257, 513), (257, 513)),
        ((10, 10), (257, 513)),
        ((258, 512), (273, 513)),
        ((273, 514), (273, 529)),
        ((1024, 529), (1025, 529)),
    ],
)
def test_padded_size(image_size: tuple[int, int], padded: tuple[int, int]) -> None:
    assert padded_size(image_size, (257, 513), 16) == padded
    assert all((side - 1) % 16 == 0 for side in padded)


@pytest.mark.parametrize("size", [(100, 77), (256, 600), (300, 512)])
def test_any_image_size(network: Any, images: list[np.ndarray], size: tuple[int, int]) -> None:
    image = np.tile(images[2], (2, 2, 1))[: size[0], : size[1]]
    found = network.predict_panoptic(image)
    assert found.panoptic.shape == found.semantic.shape == size
    assert len(np.unique(found.panoptic)) > 3


def test_padding_is_the_mean_pixel_and_larger_images_slide_the_window(
    network: Any, images: list[np.ndarray]
) -> None:
    """The same maps come from a network that is built for the padded size, with the published window."""
    image = np.tile(images[2], (1, 2, 1))[:, :600]
    padded = np.full((1, 257, 609, 3), 127.5, np.float32)
    padded[0, :256, :600] = image
    other = zoo.load(NAME, optimize=True, input_size=(257, 609))
    maps = other(padded)
    expected = postprocess(
        *(np.asarray(maps[name])[0] for name in ("semantic_logits", "center_heatmap", "offset_map")),
        size=(257, 609),
        options=network.options,
    )
    found = network.predict_panoptic(image)
    assert np.mean(found.panoptic == expected.panoptic[:256, :600]) > 0.9995
    # Not the size of the larger last level, 17 x 39.
    assert aspp_window(other.keras_model) == (17, 33)


def test_a_network_of_another_input_size_pads_to_that(small: Any, images: list[np.ndarray]) -> None:
    padded = np.full((65, 129, 3), 127.5, np.float32)
    padded[:60, :100] = images[0][100:160, 200:300]
    found = small.predict_panoptic(images[0][100:160, 200:300])
    assert found.panoptic.shape == (60, 100)
    np.testing.assert_array_equal(found.semantic, small.predict_panoptic(padded).semantic[:60, :100])


def test_a_network_runs_on_the_device_that_was_asked_for(small: Any, images: list[np.ndarray]) -> None:
    network = zoo.load(NAME, optimize=True, input_size=(65, 129), device="cpu:0")
    assert (network.replicas, network.device["kind"]) == (1, "cpu")
    assert (small.replicas, small.device) == (1, {})
    assert_same(network.predict(images[0][:65, :129]), small.predict(images[0][:65, :129]))
    with pytest.raises(UsageError, match="--device tap: expected auto, cpu"):
        zoo.load(NAME, device="tap")
    with pytest.raises(TypeError, match="optimise"):
        zoo.load(NAME, optimise=True)


# ---- the Keras network is at hand ----


def test_later_changes_of_variables_show(small: Any, images: list[np.ndarray]) -> None:
    image = images[0][100:164, 200:328]
    before = small.predict_panoptic(image).semantic
    bias = small.keras_model.get_layer("semantic_last_layer").bias
    values = np.asarray(bias)
    bias.assign(keras.ops.one_hot(13, 19) * 1000)
    try:
        after = small.predict_panoptic(image).semantic
    finally:
        bias.assign(values)
    assert (before != 13).any()
    assert (after == 13).all()


# Keras asks a variable for its values in a way that NumPy 2 has deprecated.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_network_can_still_be_saved(small: Any, tmp_path: Path, images: list[np.ndarray]) -> None:
    image = images[0][100:165, 200:329]
    small.predict_panoptic(image)
    small.keras_model.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    expected, found = small(image[None]), again(image[None])
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5 * np.std(values))
    with pytest.raises(UsageError, match=r"a registry entry, found ImageNetwork; make it with zoo\.load"):
        zoo.predict_panoptic(again, image)
    network = Network(small.entry, KerasRuntime(again, small.entry))
    assert_same(network.predict_panoptic(image), small.predict_panoptic(image))


# ---- refused ----


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((0, 20, 3), np.uint8),
        np.zeros((20, 20, 3), np.int32),
        5,
    ],
    ids=["grey", "alpha", "empty", "integers", "number"],
)
def test_what_is_not_an_image_is_refused(network: Any, image: Any) -> None:
    for name in ("predict", "predict_panoptic"):
        with pytest.raises(UsageError, match=f"^{name}: expected one RGB image") as caught:
            getattr(network, name)(image)
        assert "\n" not in str(caught.value)


def test_classes_that_are_not_known_are_said_so(small: Any) -> None:
    entry = load_registry().resolve("coco/resnet50_os32")
    evaluation = entry.evaluation.model_copy(update={"dataset": "mapillary_vistas"})
    entry = entry.model_copy(update={"evaluation": evaluation})
    with pytest.raises(UsageError, match=r"^coco/resnet50_os32: predict: expected the classes of"):
        classes_of(entry)
    with pytest.raises(UsageError, match=r"^coco/resnet50_os32: predict: expected the classes of"):
        Network(entry, KerasRuntime(small.keras_model, entry)).predict(np.zeros((33, 33, 3), np.uint8))
