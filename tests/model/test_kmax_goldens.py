"""A published kMaX-DeepLab network of each family of encoders equals the reference: names, maps, assignments.

Each is loaded, by the same code as a download, from an archive of the published form with the golden values.
"""

from __future__ import annotations

import gc
import gzip
import runpy
import shutil
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.model.build import build_network
from zoo.model.checkpoint import Receipt, variables
from zoo.model.folding import fold_batch_norm
from zoo.model.inference import at_size, compile_inference
from zoo.registry import load_registry

DATA = Path(__file__).parents[1] / "data" / "networks"
NETWORKS = ["cityscapes/kmax_convnext_tiny", "coco/kmax_axial_resnet50", "coco/kmax_resnet50"]
OTHERS = ["cityscapes/kmax_resnet50", "coco/kmax_convnext_large"]
STEPS = 6
LAYER = "transformer_decoder.kmax_decoder.{}.block1_transformer"
STATISTICS = 1e-6  # Of an end point's standard deviation: its mean and deviation; measured 3e-7.
# The sums of a slot's pixels.
NOT_FOLDED = {f"{LAYER.format(i)}.kmeans_memory_batch_norm_retrieved_value" for i in range(STEPS)}

golden_checkpoint = runpy.run_path(str(Path(__file__).with_name("golden_checkpoint.py")))
shares_of_tolerance = runpy.run_path(str(Path(__file__).with_name("kmax_golden.py")))["shares_of_tolerance"]


class Run(NamedTuple):
    """What one network gave: with it the golden arrays, and what was loaded."""

    name: str
    golden: dict[str, np.ndarray]
    receipt: Receipt
    shapes: dict[str, tuple[int, ...]]
    outputs: dict[str, dict[str, np.ndarray]]  # form -> maps, end points and logits of assignments
    layers_left: set[str]  # that normalise, of the folded network


def expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(DATA / "variables" / f"{name.replace('/', '_')}.tsv.gz", "rt") as lines:
        pairs = (line.rstrip("\n").split("\t") for line in lines)
        return {key: tuple(map(int, shape.split("x"))) for key, shape in pairs}


def shapes_of(network: keras.Model) -> dict[str, tuple[int, ...]]:
    return {key: tuple(variable.shape) for key, variable in variables(network).items()}


def with_end_points(network: keras.Model) -> keras.Model:
    """The network with `stage<n>` and `decoder_stage<n>`, not activated, and what decides the assignments."""
    outputs = dict(network.output)
    for layer in network.layers:
        root, _, place = layer.name.partition(".")
        output = layer._inbound_nodes[-1].output_tensors[0]
        if layer.name.endswith(".kmeans"):
            step = layer.name.split(".")[2]
            outputs[f"kmeans_assignment/{step}"] = layer._inbound_nodes[-1].input_tensors[0]
        elif root == "pixel_decoder" and place.startswith("stages.") and place.endswith(".add"):
            outputs[f"decoder_stage{int(place.split('.')[1]) + 1}"] = output  # The last block's stays.
        elif root == "encoder" and place.startswith("stages.") and place.endswith(".add"):
            outputs[f"stage{int(place.split('.')[1]) + 2}"] = output
        elif root == "encoder" and place.startswith("stage") and place.endswith(".add"):
            outputs[place.split(".")[0]] = output
        elif "_embedding_projection." in place:
            outputs[f"transformer_{place.partition('_')[0]}_feature"] = output
    return keras.Model(network.input, outputs)


@pytest.fixture(scope="module", params=NETWORKS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One network after the other: loaded once, run as loaded and folded, at another size than built for."""
    name = request.param
    (path,) = DATA.glob(f"{name.replace('/', '_')}_65x*.npz")
    with np.load(path) as arrays:
        golden = dict(arrays)
    folder = tmp_path_factory.mktemp("network")
    archive = golden_checkpoint["write_archive"](folder, "ckpt-150000", expected_shapes(name), optimizer=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder / "cache"))
        patch.setenv("ZOO_LOCK", str(folder / "zoo.lock"))
        network = zoo.load(name, checkpoint=archive.as_uri(), input_size=(33, 33))
    shutil.rmtree(folder)
    outputs = {}
    image = golden["image"][None].astype(np.float32)
    model = network.keras_model
    shapes = shapes_of(network)
    for form in ("plain", "folded"):
        if form == "folded":
            model = fold_batch_norm(model, consume=True)
        sized = with_end_points(at_size(model, golden["image"].shape[:2], (1, 1)))
        found = compile_inference(sized, fold=False)(image)
        outputs[form] = {name: np.asarray(values)[0] for name, values in found.items()}
    left = {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    receipt = network.receipt
    del network, model, sized
    gc.collect()
    return Run(name, golden, receipt, shapes, outputs, left)


def test_variables_have_the_published_names_and_shapes(run: Run) -> None:
    assert run.shapes == expected_shapes(run.name)


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_have_the_published_names_and_shapes(name: str) -> None:
    with keras.StatelessScope(initialize_variables=False):
        network = build_network(load_registry().resolve(name).network, (65, 65))
        found = shapes_of(network)

    assert found == expected_shapes(name)


def test_archive_is_restored_completely(run: Run) -> None:
    expected = expected_shapes(run.name)

    assert run.receipt.ok
    assert run.receipt.restored == tuple(sorted(expected))
    assert run.receipt.bytes == sum(4 * int(np.prod(shape)) for shape in expected.values())
    assert (run.receipt.unused, run.receipt.missing) == ((), ())


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_every_pixel_belongs_to_the_slot_of_the_reference(run: Run, form: str) -> None:
    for step in range(STEPS):
        logits = run.outputs[form][f"kmeans_assignment/{step}"]
        expected = run.golden[f"kmeans_assignment/{step}"]
        np.testing.assert_array_equal(logits.argmax(-1).ravel(), expected.ravel(), err_msg=f"step {step}")


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_maps(run: Run, form: str) -> None:
    shares = shares_of_tolerance(run.outputs[form], run.golden)

    assert max(shares.values()) < 1, shares


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_end_points(run: Run, form: str) -> None:
    names = {name for name in run.golden if name.startswith("feature_stats/")}
    # The stem's end, which is no sum of a block.
    names -= {"feature_stats/stage1"}

    for name in names:
        *shape, mean, deviation = run.golden[name]
        found = run.outputs[form][name.removeprefix("feature_stats/")].astype(np.float64)
        assert list(found.shape) == shape, name
        assert abs(found.mean() - mean) < STATISTICS * deviation, name
        assert abs(found.std() - deviation) < STATISTICS * deviation, name
    assert len(names) >= 9


def test_convolutions_absorb_their_normalisation(run: Run) -> None:
    assert run.layers_left == NOT_FOLDED


def test_rounding_more_coarsely_is_refused() -> None:
    with pytest.raises(UsageError, match="expected float32 for kmax_resnet50, found bfloat16"):
        zoo.build("coco/kmax_resnet50", (65, 65), precision="bfloat16")
