"""Every published residual network, axial ones too, equals the reference: names, maps and end points.

Each is loaded, by the same code as a download, from an archive of the published form with the golden values.
"""

from __future__ import annotations

import gc
import gzip
import runpy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.model.backbones.switchable_atrous import SwitchableAtrousConv2D
from zoo.model.backend import SharedZeros
from zoo.model.checkpoint import Receipt, variables
from zoo.model.folding import fold_batch_norm
from zoo.model.inference import at_size
from zoo.model.layers import Conv2D, NormalizeImage, ResizeLike, Unread

DATA = Path(__file__).parents[1] / "data" / "networks"
SMALL = "65x129"
MAPS = ("semantic_logits", "center_heatmap", "offset_map")
TOLERANCE = 1e-4  # Of each output's standard deviation; rounding gives about 1e-5.
# Where float32 itself gives more, in the reference implementation as well: there our network in float64 must
# give the reference's maps in float64. See README.md beside the data.
ROUNDING = {"cityscapes/swidernet_sac_1_1_4.5_os16 289x577": 3e-4}

SAME_IN_FLOAT64 = 1e-11  # Measured: 1.4e-13.

# The largest first: name of the entry, prefix of its checkpoint, and whether that holds an optimizer's slots.
NETWORKS = [
    ("cityscapes/axial_swidernet_1_1_4.5_os16", "ckpt-60000", False),
    ("cityscapes/swidernet_sac_1_1_4.5_os16", "ckpt-60000", False),
    ("cityscapes/swidernet_sac_1_1_3_os16", "ckpt-60000", False),
    ("cityscapes/axial_swidernet_1_1_3_os16", "ckpt-60000", False),
    ("cityscapes/resnet50_os32", "ckpt-60000", True),
    ("cityscapes/resnet50_beta_os32", "ckpt-60000", False),
    ("cityscapes/wide_resnet41_os16", "ckpt", True),
    ("cityscapes/swidernet_sac_1_1_1_os16", "model.ckpt-50000", True),
    ("cityscapes/axial_swidernet_1_1_1_os16", "ckpt-60000", False),
    ("cityscapes/max_deeplab_l_backbone_os16", "ckpt-60000", True),
    ("cityscapes/max_deeplab_s_backbone_os16", "ckpt-60000", True),
    ("coco/resnet50_os16", "ckpt-200000", False),
    ("coco/resnet50_os32", "ckpt-200000", True),
    ("coco/resnet50_beta_os16", "ckpt-200000", False),
    ("coco/resnet50_beta_os32", "ckpt-200000", False),
]

golden_checkpoint = runpy.run_path(str(Path(__file__).with_name("golden_checkpoint.py")))


class Run(NamedTuple):
    """What one network gave.

    Attributes:
      name: of the entry.
      optimizer: whether the checkpoint held slots.
      receipt: of loading it.
      shapes: key -> shape of the network's variables.
      expected_shapes: the same of the reference implementation's.
      outputs: form and size -> maps and end points, without the batch's axis.
      layers_left: names of the folded network's layers.
    """

    name: str
    optimizer: bool
    receipt: Receipt
    shapes: dict[str, tuple[int, ...]]
    expected_shapes: dict[str, tuple[int, ...]]
    outputs: dict[tuple[str, str], dict[str, np.ndarray]]
    layers_left: list[str]


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


def sizes_of(name: str) -> list[str]:
    """The sizes, smallest first, for which there are maps of an entry."""
    paths = DATA.glob(f"{name.replace('/', '_')}_[0-9]*x*.npz")
    return sorted((path.stem.rpartition("_")[2] for path in paths), reverse=True)


def expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    with gzip.open(DATA / "variables" / f"{name.replace('/', '_')}.tsv.gz", "rt") as lines:
        pairs = (line.rstrip("\n").split("\t") for line in lines)
        return {key: tuple(map(int, shape.split("x"))) for key, shape in pairs}


def with_end_points(network: keras.Model) -> keras.Model:
    """The network with `stage<n>` and `res<n>`, before and after activation, beside its maps."""
    outputs = dict(network.output)
    for layer in network.layers:
        place = layer.name.split(".")
        if place[:2] == ["encoder", "stem"] and place[-1] == "relu":
            outputs["res1"] = layer.output
        elif place[0] == "encoder" and place[1].startswith("stage") and place[3:] in (["add"], ["relu"]):
            kind = "stage" if place[3] == "add" else "res"
            outputs[place[1].replace("stage", kind)] = layer.output  # The stage's last block stays.
        elif isinstance(layer, Unread):
            outputs["backbone_output"] = keras.layers.ReLU()(layer.input[1])
    return keras.Model(network.input, outputs)


class ResizeInFloat64(keras.layers.Layer):
    """Bilinear, corner pixels on corner pixels: TensorFlow's operation always computes in float32."""

    def call(self, features: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        for axis in (1, 2):
            old, new = features.shape[axis], like.shape[axis]
            positions = np.arange(new) * (old - 1) / (new - 1)
            weights = np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(old)))
            features = tf.einsum("no,boxc->bnxc" if axis == 1 else "no,byoc->bync", weights, features)
        return features

    def compute_output_spec(self, features: keras.KerasTensor, like: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((*like.shape[:3], features.shape[3]), "float64")


class ComputesInFloat64(keras.DTypePolicy):
    """Of layers whose float32 variables need no copy in float64."""

    variable_dtype = property(lambda _: "float32")
    compute_dtype = property(lambda _: "float64")


def conv2d_in_float64(
    features: tf.Tensor, kernel: Any, strides: Any, padding: str, dilations: Any
) -> tf.Tensor:
    """Does what `tf.nn.conv2d` does, by NumPy's product of matrices, which takes a third of the time."""
    (stride, *_), (rate, *_) = (np.ravel(given).tolist() for given in (strides, dilations))
    reach = [(side - 1) * rate + 1 for side in kernel.shape[:2]]
    lengths = features.shape[1:3]
    if padding == "SAME":
        sizes = [-(-length // stride) for length in lengths]
        before = [
            max((size - 1) * stride + far - length, 0) // 2
            for size, far, length in zip(sizes, reach, lengths, strict=True)
        ]
    else:
        sizes = [(length - far) // stride + 1 for length, far in zip(lengths, reach, strict=True)]
        before = [0, 0]

    def products(features: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        outputs = np.zeros((len(features), *sizes, kernel.shape[3]))
        for tap in np.ndindex(*kernel.shape[:2]):
            to, of = [slice(None)], [slice(None)]
            for place, size, length, start in zip(tap, sizes, lengths, before, strict=True):
                shift = (
                    place * rate - start
                )  # Output o takes the feature o * stride + shift, where there is one.
                first, end = max(-(shift // stride), 0), min((length - 1 - shift) // stride + 1, size)
                to.append(slice(first, max(first, end)))
                of.append(slice(first * stride + shift, max(end * stride + shift, 0), stride))
            outputs[tuple(to)] += features[tuple(of)] @ kernel[tap].astype(np.float64)
        return outputs

    outputs = tf.numpy_function(
        products, [features, tf.convert_to_tensor(kernel)], tf.float64, stateful=False
    )
    return tf.ensure_shape(outputs, [features.shape[0], *sizes, kernel.shape[3]])


def in_float64(network: keras.Model) -> keras.Model:
    """A copy that computes in float64 throughout, with the same variables in the same memory."""
    zeros = SharedZeros()

    def convert(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings: dict[str, Any] = {"dtype": "float64", "name": layer.name}
        if isinstance(layer, NormalizeImage):
            return keras.layers.Rescaling(np.float64(1 / 127.5), np.float64(-1), **settings)
        if isinstance(layer, ResizeLike):
            return ResizeInFloat64(**settings)
        if layer.weights:
            settings["dtype"] = ComputesInFloat64("float64")
        config = {**layer.get_config(), **settings}
        if "kernel_initializer" in config:
            config["kernel_initializer"] = zeros
        if "epsilon" in config:  # As the reference implementation's configuration holds it.
            config["epsilon"] = float(np.float32(config["epsilon"]))
        exact = type(layer).from_config(config)
        if isinstance(layer, (Conv2D, SwitchableAtrousConv2D)) and not layer.use_bias:
            exact.autocast = False  # `conv2d_in_float64` takes the kernel as it is, without a copy of it all.
        return exact

    exact = keras.models.clone_model(network, clone_function=convert)
    for copy, variable in zip(exact.variables, network.variables, strict=True):
        copy.assign(variable.value)  # Tensors share their memory until one of them is assigned again.
    return exact


def run_network(network: keras.Model, stride: int, size: str) -> dict[str, np.ndarray]:
    image = golden(f"image_{size}")["image"]
    step, call = 1, network
    if size != SMALL:
        step = 4
        height, width = image.shape[:2]
        window = ((height - 1) // stride + 1, (width - 1) // stride + 1)
        # As a graph: outside of one, what each layer gives stays in memory until the last has run.
        call = tf.function(at_size(network, (height, width), window), autograph=False)
    outputs = {}
    for name, values in call(tf.constant(image[None], tf.float32)).items():
        outputs[name] = np.asarray(values)[0]
        if name in MAPS:
            outputs[name] = outputs[name][::step, ::step]
        else:  # Only what is compared: the maps of all end points together are large.
            exact = outputs[name].astype(np.float64)
            outputs[name] = np.array([*exact.shape, exact.mean(), exact.std()])
    return outputs


@pytest.fixture(
    scope="module",
    # The two largest one after the other, for the memory's sake.
    params=[
        pytest.param(each, marks=pytest.mark.xdist_group("large" if each in NETWORKS[:2] else each[0]))
        for each in NETWORKS
    ],
    ids=lambda network: network[0],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One network after the other: loaded once, run in both forms at both sizes."""
    name, prefix, optimizer = request.param
    folder = tmp_path_factory.mktemp("network")
    shapes = expected_shapes(name)
    archive = golden_checkpoint["write_archive"](folder, prefix, shapes, optimizer=optimizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder / "cache"))
        patch.setenv("ZOO_LOCK", str(folder / "zoo.lock"))
        network = zoo.load(name, checkpoint=archive.as_uri(), input_size=(65, 129))
    sizes = sizes_of(name)
    shutil.rmtree(folder)
    receipt, stride = network.receipt, network.entry.output_stride
    found_shapes = {key: tuple(variable.shape) for key, variable in variables(network).items()}
    network = with_end_points(network.keras_model)
    outputs = {("plain", size): run_network(network, stride, size) for size in sizes}
    for size in sizes:
        if f"{name} {size}" in ROUNDING:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tf.nn, "conv2d", conv2d_in_float64)
                outputs["float64", size] = run_network(in_float64(network), stride, size)
    network = fold_batch_norm(network, consume=True)
    outputs |= {("folded", size): run_network(network, stride, size) for size in sizes}
    layers_left = [layer.name for layer in network.layers]
    del network
    gc.collect()
    return Run(name, optimizer, receipt, found_shapes, shapes, outputs, layers_left)


def test_variables_have_the_published_names_and_shapes(run: Run) -> None:
    assert run.shapes == run.expected_shapes


def test_archive_is_restored_completely(run: Run) -> None:
    receipt = run.receipt

    assert receipt.ok
    assert receipt.restored == tuple(sorted(run.expected_shapes))
    assert receipt.bytes == sum(4 * int(np.prod(shape)) for shape in run.expected_shapes.values())
    assert (receipt.missing, receipt.different_shape, receipt.initial) == ((), (), ())
    assert receipt.unused == ()
    assert receipt.archive_sha256 is not None
    slots = len(list(run.expected_shapes)[::50]) if run.optimizer else 0
    assert len(receipt.moving_averages) == slots
    assert len(receipt.optimizer) == (2 * slots + 2 if run.optimizer else 0)
    assert receipt.counters == (("global_step", "save_counter") if run.optimizer else ("save_counter",))


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_maps(run: Run, form: str) -> None:
    for size in sizes_of(run.name):
        expected = golden(f"{run.name.replace('/', '_')}_{size}")
        found = dict(run.outputs[form, size])
        if run.name.startswith("coco/"):
            found["semantic_logits"] = found["semantic_logits"][..., ::4]

        tolerance = ROUNDING.get(f"{run.name} {size}", TOLERANCE)

        assert all(found[name].dtype == np.float32 for name in MAPS)
        assert_close({name: found[name] for name in MAPS}, expected, tolerance)


def test_maps_in_float64_where_float32_rounds_too_much(run: Run) -> None:
    in_question = {f"{run.name} {size}": size for form, size in run.outputs if form == "float64"}

    assert set(in_question) == {each for each in ROUNDING if each.startswith(f"{run.name} ")}
    for size in in_question.values():
        found = run.outputs["float64", size]
        assert all(found[name].dtype == np.float64 for name in MAPS)
        expected = golden(f"{run.name.replace('/', '_')}_{size}")
        assert_close({name: found[name] for name in MAPS}, expected, SAME_IN_FLOAT64)


def assert_close(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float
) -> None:
    errors: dict[str, Any] = {}
    for name, values in found.items():
        assert values.shape == expected[name].shape, name
        difference = np.abs(values - expected[name]) / expected[name].std()
        errors[name] = float(difference.max()), np.unravel_index(difference.argmax(), values.shape)
    too_far = {name: error for name, error in errors.items() if not error[0] < tolerance}
    assert not too_far, f"largest differences in standard deviations, and where: {too_far}"


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_end_points(run: Run, form: str) -> None:
    for size in sizes_of(run.name):
        expected = golden(f"{run.name.replace('/', '_')}_{size}")
        names = {name.removeprefix("feature_stats/") for name in expected if name not in MAPS}
        found = run.outputs[form, size]
        # Networks without a stage at stride 2 activate the stem's last convolution as they compute it.
        names -= {"stage1"} - set(found)

        assert names == set(found) - set(MAPS)
        for name in names:
            *shape, mean, deviation = expected[f"feature_stats/{name}"]
            assert list(found[name][:3]) == shape, name
            assert abs(found[name][3] - mean) < TOLERANCE * deviation, name
            assert abs(found[name][4] - deviation) < TOLERANCE * deviation, name


def test_nothing_of_batch_normalisation_is_left(run: Run) -> None:
    assert not any("batch_norm" in name for name in run.layers_left)
