"""The package as it is used from Python: names, documentation, what it accepts, and what it prints."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.errors import UsageError
from zoo.metrics.mean_iou import MeanIoUResult
from zoo.metrics.segments import OfficialTruth
from zoo.model.folding import fold_batch_norm
from zoo.model.images import checked_image
from zoo.model.inference import at_size
from zoo.model.multiscale import MultiScaleNetwork
from zoo.model.postprocess.center_offset import postprocess
from zoo.model.postprocess.instances import Instances
from zoo.model.postprocess.options import PostprocessOptions
from zoo.model.postprocess.result import ImagePrediction
from zoo.network.building import LoadKeywords, LoadOptions
from zoo.network.saved_model import SavedModelRuntime
from zoo.prediction.prediction import Prediction
from zoo.registry import load_registry
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.datasets.dataset import Sample
from zoo.repro.predictions.predictions import ReadingKeywords, open_predictions
from zoo.repro.run.settings import RunKeywords, RunSettings, ScoreKeywords, ScoreSettings

NAME = "minicity/mobilenet_v3_small_os16"


def test_version_and_errors_are_names_of_the_package() -> None:
    assert zoo.__version__ == metadata.version("panoptic-zoo")
    assert issubclass(zoo.UnknownNameError, zoo.ZooError)
    with pytest.raises(zoo.ZooError, match="no entry 'nothing'"):
        zoo.load("nothing")


@pytest.mark.parametrize(
    "size", [65, (65,), (65, 129, 3), (65.0, 129), (-65, 129), (1, 129), "65x129", ("65", "129"), ()]
)
def test_input_size_is_checked_before_anything_is_fetched(size: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any) -> Any:
        raise AssertionError("fetched")

    monkeypatch.setattr("zoo.network.loading.find_checkpoint_of", fetch)
    for make in (zoo.load, zoo.build):
        with pytest.raises(UsageError, match=r"input_size: expected \(height, width\)") as error:
            make(NAME, input_size=size)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "source", "keywords"),
    [
        (zoo.load, LoadOptions, LoadKeywords),
        (zoo.reproduce, RunSettings, RunKeywords),
        (zoo.score, ScoreSettings, ScoreKeywords),
        (zoo.fix_predictions, open_predictions, ReadingKeywords),
    ],
)
def test_options_are_named_in_help_and_in_editors(function: Any, source: Any, keywords: Any) -> None:
    shown, options = inspect.signature(function).parameters, inspect.signature(source).parameters
    assert not any(each.kind is each.VAR_KEYWORD for each in shown.values())
    assert set(options) - {"path", "dataset"} <= set(shown)
    declared = {name: each.__forward_arg__ for name, each in keywords.__annotations__.items()}
    assert declared == {
        name: each.annotation for name, each in options.items() if name not in function.__annotations__
    }
    assert "limit: 'int | None' = None" in inspect.signature(zoo.reproduce).__str__()


def test_registry_files_are_taken_as_on_the_command_line(tmp_path: Path) -> None:
    missing = tmp_path / "own.yaml"
    for files in (missing, str(missing), [missing]):
        with pytest.raises(zoo.ZooError, match=r"own\.yaml"):
            zoo.load(NAME, registry=files)
    missing.write_text("entries: 5\n")
    with pytest.raises(zoo.RegistryError, match=r"own\.yaml"):
        zoo.build(NAME, registry=missing)
    with pytest.raises(zoo.UnknownNameError):
        zoo.load("nothing", registry=load_registry())


# ---- values of images ----


CHECKS = [checked_image, lambda image: SavedModelRuntime.checked(image, "predict")]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("value", "found"),
    [(np.nan, "1 values that are NaN"), (np.inf, "NaN or infinite"), (-1e9, "-1e\\+09 to 100"), (300, "300")],
)
def test_values_that_no_image_has_are_refused(check: Any, value: float, found: str) -> None:
    image = np.full((4, 5, 3), 100, np.float32)
    image[1, 2, 0] = value
    with pytest.raises(UsageError, match=found):
        check(image)


@pytest.mark.parametrize("check", CHECKS)
def test_an_image_of_strings_is_refused(check: Any) -> None:
    with pytest.raises(UsageError, match=r"expected one RGB image .* found (str32|<U1)"):
        check(np.full((4, 5, 3), "x"))


@pytest.mark.parametrize("value", [-0.25, 255.25])
def test_values_beyond_the_range_by_rounding_are_taken(value: float) -> None:
    image = np.full((4, 5, 3), 100, np.float32)
    image[1, 2, 0] = value
    assert checked_image(image) is image


@pytest.mark.parametrize("check", CHECKS)
def test_an_image_of_the_range_0_to_1_is_warned_of(check: Any) -> None:
    image = np.zeros((4, 5, 3), np.float32)
    check(image)
    check(np.ones((4, 5, 3), np.uint8))
    image[0, 0, 0] = 1
    with pytest.warns(UserWarning, match="multiply an image of the range 0..1 by 255"):
        check(image)


def test_a_prediction_is_shown_without_its_pixels() -> None:
    maps = np.zeros((300, 400), np.int32), np.zeros((300, 400), np.uint8)
    cars = Instances(np.array([13001, 13002, 11001]), np.array([25, 5, 7]), *np.full((3, 3), 0.5))
    shown = repr(Prediction(*maps, cars, CITYSCAPES, name="street"))
    assert shown == "<Prediction street, 300 x 400: 2 car, 1 person>"
    assert repr(Prediction(*maps, cars, CITYSCAPES)).startswith("<Prediction 300 x 400")


def test_results_and_samples_are_shown_without_their_pixels() -> None:
    pixels = np.zeros((30, 40), np.int32)
    none = np.zeros(0, np.int32)
    truth = OfficialTruth(pixels, none, none, none.astype(bool))
    options = PostprocessOptions.from_entry(load_registry().resolve(NAME).evaluation, CITYSCAPES)
    maps = (np.zeros((9, 9, channels), np.float32) for channels in (19, 1, 2))
    shown = [
        Sample("street", np.zeros((30, 40, 3), np.uint8), pixels, pixels, none, truth),
        postprocess(*maps, (33, 33), options),
        ImagePrediction(pixels, pixels, Instances(none, none, none, none, none)),
        MeanIoUResult(50.0, np.zeros(2), np.zeros((30, 30), np.int64), np.zeros(30, np.int64)),
    ]
    for each in shown:
        assert "[0, 0" not in repr(each)


# ---- batches ----

SIZE = re.escape(": expected RGB images [B, 33, 33, 3], found ")


@pytest.fixture(scope="module")
def network() -> Any:
    return zoo.build(NAME, input_size=(33, 33))


@pytest.mark.parametrize("scales", [None, (1.0, 0.5)], ids=["network", "scales"])
@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((1, 64, 48, 3), np.uint8), r"uint8 \[1, 64, 48, 3\]; load .* input_size=\(64, 48\)"),
        (np.zeros((33, 33, 3), np.uint8), r"uint8 \[33, 33, 3\]; give a batch"),
        (np.zeros((1, 33, 33, 1), np.uint8), r"uint8 \[1, 33, 33, 1\]; give a batch"),
        (np.zeros((1, 33, 33, 4), np.float32), r"float32 \[1, 33, 33, 4\]; give a batch"),
        (np.full((1, 33, 33, 3), "x"), r"str32 \[1, 33, 33, 3\]; give a batch"),
        ("street.png", "str; give a batch"),
        (["a.png", "b.png"], "list; give a batch"),
        (None, "NoneType; give a batch"),
    ],
)
def test_a_batch_of_another_form_is_refused_in_one_line(
    network: Any, images: Any, found: str, scales: Any
) -> None:
    called = MultiScaleNetwork(network.keras_model, scales) if scales else network
    name, remedy = ("panoptic_deeplab", "") if scales else (NAME, ".*, or use `predict_panoptic`")
    with pytest.raises(UsageError, match=f"^{name}{SIZE}{found}{remedy}") as error:
        called(images)
    assert "\n" not in str(error.value)


def test_batches_within_graphs_and_models_are_checked_too(network: Any) -> None:
    images = np.zeros((1, 33, 33, 3), np.uint8)
    for accepted in (images, tf.constant(images), keras.Input((33, 33, 3))):
        assert network(accepted)["offset_map"].shape[1:] == (9, 9, 2)
    assert tf.function(network)(images)["offset_map"].shape == (1, 9, 9, 2)
    with pytest.raises(UsageError, match=f"^panoptic_deeplab{SIZE}uint8") as error:
        network.keras_model.predict(np.zeros((1, 64, 64, 3), np.uint8), verbose=0)
    assert "\n" not in str(error.value)


def test_folded_and_resized_networks_check_their_own_size(network: Any) -> None:
    model = network.keras_model
    for other, size in ((fold_batch_norm(model), 33), (at_size(model, (49, 49), (3, 3)), 49)):
        with pytest.raises(UsageError, match=rf"expected RGB images \[B, {size}, {size}, 3\]"):
            other(np.zeros((1, 64, 64, 3), np.uint8))


# ---- what is printed ----

MIXED_SIZES = """
import numpy as np
import zoo
network = zoo.load({name!r}, input_size=(33, 33))
from tensorflow.python.eager.polymorphic_function import polymorphic_function
# TensorFlow warns of a function whose graph is made five times; of three times here, to make fewer.
assert polymorphic_function.FREQUENT_TRACING_WARNING_THRESHOLD == 5
polymorphic_function.FREQUENT_TRACING_WARNING_THRESHOLD = 3
for k in range(3):
    network.predict_panoptic(np.zeros((49 + 16 * k, 33, 3), np.uint8))
"""


def test_nothing_is_printed_by_loading_and_predicting_pictures_of_mixed_size(
    zoo_environment: dict[str, str],
    zoo_folder: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MIXED_SIZES.format(name=NAME)],
        env=zoo_environment,
        cwd=zoo_folder,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
