"""Exported files: written, described, verified, loaded again; refused where they are not what was wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import zoo
from zoo.errors import ArchiveError, UsageError, VerificationError
from zoo.network.exporting import ExportOptions, export_entry
from zoo.registry import load_registry
from zoo.runtimes.choice import FILE_RUNTIMES
from zoo.runtimes.model_file import read_model_file

NAME = "minicity/mobilenet_v3_small_os16"
OTHER = "minicoco/mobilenet_v3_small_os16"
# Larger than the training crop on one side: there the pooling window slides.
SIZE = (97, 577)
REGISTRY = load_registry()
ENTRY = REGISTRY.resolve(NAME)


@pytest.fixture(scope="module", params=FILE_RUNTIMES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A file of each runtime, verified, and the report of that."""
    runtime = FILE_RUNTIMES[request.param]
    pytest.importorskip(runtime.package)
    out = tmp_path_factory.mktemp(request.param) / "new" / f"network{runtime.suffix}"
    report = export_entry(ENTRY, REGISTRY, out, ExportOptions(request.param, size=SIZE))
    names = sorted(each.name for each in out.parent.iterdir())
    assert names == (["network.bin", "network.xml"] if request.param == "openvino" else [out.name])
    return report


def write_again(file: Path, **options: Any) -> Any:
    return export_entry(ENTRY, REGISTRY, file, ExportOptions("onnx", size=(33, 65), **options))


def test_files_compute_what_the_network_does(file: Any) -> None:
    network = zoo.load(NAME, input_size=SIZE, optimize=True)
    exported = zoo.load(NAME, runtime=file.file.runtime, model=file.file.path)

    image = np.random.default_rng(0).integers(0, 256, (80, 300, 3)).astype(np.uint8)
    (maps,), (expected,) = exported.maps([image]), network.maps([image])
    assert set(maps) == set(expected)
    for name, values in expected.items():
        assert maps[name].shape == values.shape
        assert maps[name].dtype == np.float32
        assert np.abs(maps[name] - values).max() < 1e-4 * values.std()
    both = exported.predict(image), network.predict(image)
    assert np.mean(both[0].panoptic == both[1].panoptic) > 0.999
    batch = np.zeros((2, *SIZE, 3), np.uint8)
    assert exported(batch)["offset_map"].shape == network(batch)["offset_map"].shape
    assert exported.receipt.sha256 == network.receipt.sha256
    assert exported.device["kind"] == "cpu"


def test_files_say_what_they_are(file: Any) -> None:
    assert {name: each.relative < 1e-4 for name, each in file.maps.items()} == {
        "semantic_logits": True,
        "center_heatmap": True,
        "offset_map": True,
    }
    about = read_model_file(file.file.runtime, file.file.path, ENTRY).about.model_dump()
    assert (about["entry"], about["entry_digest"]) == (NAME, ENTRY.digest())
    assert about["input"]["shape"] == [1, *SIZE, 3]
    assert len(about["checkpoint"]["sha256"]) == len(about["checkpoint"]["receipt"]["sha256"]) == 64
    assert [each["name"] for each in about["classes"]][:2] == ["road", "sidewalk"]
    assert about["preprocessing"]["padding_value"] == 127.5
    assert about["post_processing"]["nms_kernel"] == ENTRY.evaluation.nms_kernel
    assert about["licence"] == "Apache-2.0"
    assert f"{SIZE[0]} x {SIZE[1]} px" in str(file)


def by_onnx(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    onnx.checker.check_model(path, full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    assert [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim] == [1, *SIZE, 3]
    names = [each.name for each in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, {"images": image}), strict=True))


def by_openvino(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    import openvino

    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {each.any_name: values for each, values in compiled({"images": image}).items()}


def by_litert(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    import tensorflow as tf

    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        interpreter = tf.lite.Interpreter(str(path))
    return interpreter.get_signature_runner("serving_default")(images=image)


def by_saved_model(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    work = path.parent
    np.save(work / "image.npy", image)
    words = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", path]
    words += ["--tag_set", "serve", "--signature_def", "serving_default"]
    words += ["--inputs", f"images={work}/image.npy", "--outdir", work / "maps"]
    subprocess.run(words, check=True, capture_output=True, cwd=work)
    return {each.stem: np.load(each) for each in (work / "maps").iterdir()}


def test_files_open_with_their_own_tools(file: Any) -> None:
    own_tool = {"onnx": by_onnx, "openvino": by_openvino, "litert": by_litert, "saved_model": by_saved_model}
    image = np.random.default_rng(2).integers(0, 256, (1, *SIZE, 3)).astype(np.float32)

    found = own_tool[file.file.runtime](file.file.path, image)

    expected = zoo.load(NAME, input_size=SIZE, optimize=True)(image)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() < 1e-4 * np.std(values), name


def test_wrong_files_are_refused(file: Any, tmp_path: Path) -> None:
    runtime, path = file.file.runtime, file.file.path

    def load(name: str = NAME, **options: Any) -> Any:
        return zoo.load(name, **{"runtime": runtime, "model": path, **options})

    with pytest.raises(UsageError, match=f"is the network of {NAME}; name that entry"):
        load(OTHER)
    with pytest.raises(
        UsageError, match="expected a file for images of 257 x 513 pixels, found one for 97 x 577"
    ):
        load(input_size=(257, 513))
    with pytest.raises(UsageError, match=r"^precision, flip: expected none of these with --runtime"):
        load(precision="bfloat16", flip=True)
    with pytest.raises(UsageError, match=r"^checkpoint: expected none of these with --runtime"):
        load(checkpoint="x")
    with pytest.raises(UsageError, match="--device gpu: expected auto or cpu"):
        load(device="gpu")
    with pytest.raises(UsageError, match=r"nothing: no such file; `zoo export NAME --to"):
        load(model=tmp_path / "nothing")
    with pytest.raises(UsageError, match="takes images of at most 97 x 577 pixels, at one scale"):
        load().predict_panoptic(np.zeros((98, 300, 3), np.uint8))
    if not path.is_dir():
        damaged = tmp_path / path.name
        damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(
            ArchiveError, match=f"expected a file for {runtime} of `zoo export`, found another"
        ):
            load(model=damaged)


def test_a_runtime_needs_a_file_and_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--runtime torch1: expected tensorflow, "):
        zoo.load(NAME, runtime="torch1")
    with pytest.raises(
        UsageError, match=r"^--runtime onnx: expected --model FILE; `zoo export NAME --to onnx"
    ):
        zoo.load(NAME, runtime="onnx")
    with pytest.raises(UsageError, match=r"expected a panoptic network; backbones have no file"):
        zoo.load("imagenet/resnet50", runtime="onnx", model=tmp_path)
    monkeypatch.setattr("zoo.runtimes.choice.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"not installed; `pip install 'panoptic-zoo\[onnx\]'` brings it$"):
        zoo.load(NAME, runtime="onnx", model=tmp_path)
    with pytest.raises(UsageError, match=r"expected openvino, which is not installed"):
        ExportOptions("openvino")


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    whole, half = (
        write_again(tmp_path / f"{precision}.onnx", precision=precision)
        for precision in ("float32", "float16")
    )
    assert half.bytes < 0.6 * whole.bytes
    assert 1e-5 < half.maps["semantic_logits"].relative < 0.1
    assert half.file.about.precision == "float16"


def test_bfloat16_for_openvino_is_where_the_network_has_it(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    options = ExportOptions("openvino", "bfloat16", (33, 65), verify=False)

    path = export_entry(ENTRY, REGISTRY, tmp_path / "network.xml", options).file.path

    layers = ElementTree.parse(path).findall("layers/layer")
    convolutions = [layer for layer in layers if layer.get("type") == "Convolution"]
    unmarked = [
        each for each in layers if "DisablePrecisionConversion" not in ElementTree.tostring(each, "unicode")
    ]
    assert {each.get("type") for each in unmarked} == {"Const", "Parameter", "Result", "Convolution"}
    assert 0 < len([each for each in unmarked if each in convolutions]) < len(convolutions)


def test_a_file_that_computes_other_maps_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from zoo.runtimes import onnx_graph

    kept = write_again(tmp_path / "network.onnx").file.path.read_bytes()
    relu = onnx_graph._operation("LeakyRelu", alpha=1e-3)
    monkeypatch.setitem(onnx_graph._WRITERS, onnx_graph.keras.layers.ReLU, relu)

    with pytest.raises(
        VerificationError, match=r"the onnx file gives another .*: expected at most 0\.0001 of"
    ):
        write_again(tmp_path / "network.onnx")

    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    assert (tmp_path / "network.onnx").read_bytes() == kept
    assert "not verified" in str(write_again(tmp_path / "network.onnx", verify=False))


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    def refused(out: str, **options: Any) -> str:
        with pytest.raises(UsageError) as error:
            export_entry(ENTRY, REGISTRY, tmp_path / out, ExportOptions(**options))
        return str(error.value)

    (tmp_path / "mine").mkdir()
    assert "expected a file name that ends in .onnx" in refused("a.tflite", to="onnx")
    assert "expected a new folder, or an earlier SavedModel" in refused("mine", to="saved_model")
    assert "int8: expected float32 or float16 with --to onnx" in refused(
        "a.onnx", to="onnx", precision="int8"
    )
    assert "--to coreml: expected onnx, openvino, litert or saved_model" in refused("a", to="coreml")
    assert "input size: expected at least 2 x 2 pixels" in refused("a.onnx", to="onnx", size=(1, 5))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_export_and_load_check(
    zoo_call: Callable[..., Any], one_line: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"

    done = zoo_call("export", NAME, "--to", "onnx", "--out", path, "--size", "65x129", "--json")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert (said["entry"], said["path"], said["input_size"]) == (NAME, str(path), [65, 129])
    chosen = ["--runtime", "onnx", "--model", path]
    checked = zoo_call("load-check", NAME, *chosen, "--json")
    assert json.loads(checked.stdout)["ok"]
    assert "expected a file for images of 257 x 513 pixels" in one_line(
        zoo_call("reproduce", NAME, *chosen), 2
    )
    assert "--size 65: expected height and width" in one_line(
        zoo_call("export", NAME, "--to", "onnx", "--out", path, "--size", "65"), 2
    )
    assert "expected the one entry whose network it is" in one_line(
        zoo_call("nightly", "--out", tmp_path / "nights", *chosen), 2
    )


def test_a_model_of_another_needs_trust(
    zoo_call: Callable[..., Any], one_line: Callable[..., str], tmp_path: Path
) -> None:
    """What a file says of itself anybody can write: only what was exported here runs unasked."""
    import onnx

    path = tmp_path / "network.onnx"
    words = ["export", NAME, "--to", "onnx", "--out", path, "--size", "33x65", "--no-verify"]
    assert zoo_call(*words).returncode == 0
    own = zoo_call("load-check", NAME, "--runtime", "onnx", "--model", path)
    assert own.returncode == 0, own.stderr
    model = onnx.load_model(path)
    model.producer_name = "somebody else"
    onnx.save_model(model, path)
    for command in (
        ["load-check", NAME],
        ["reproduce", NAME],
        ["predict", NAME, path],
        ["nightly", NAME],
    ):
        out = [] if command[0] == "load-check" else ["--out", tmp_path / "out"]
        done = zoo_call(*command, *out, "--runtime", "onnx", "--model", path)
        assert "found another; a model file is a program" in one_line(done, 2)
    assert not (tmp_path / "out").exists()
    trusted = zoo_call("load-check", NAME, "--runtime", "onnx", "--model", path, "--trust")
    assert trusted.returncode == 0, trusted.stderr


def test_with_post_processing(tmp_path: Path) -> None:
    entry = REGISTRY.resolve(OTHER)
    options = ExportOptions("saved_model", with_post_processing=True)

    report = export_entry(entry, REGISTRY, tmp_path / "whole", options)

    assert max(each.relative for each in report.maps.values()) < 1e-4
    network, whole = (
        zoo.load(OTHER, optimize=True),
        zoo.load(OTHER, runtime="saved_model", model=tmp_path / "whole"),
    )
    # Larger than the input, and smaller: COCO's pictures are resized, and predictions back.
    for size in ((120, 333), (300, 200)):
        picture = np.random.default_rng(1).integers(0, 256, (6, 5, 3)).repeat(60, 0).repeat(70, 1)
        picture = picture[: size[0], : size[1]].astype(np.uint8)
        expected, found = network.predict(picture), whole.predict(picture)
        assert found.panoptic.shape == size
        assert np.mean(found.semantic == expected.semantic) > 0.999
        assert np.mean(found.panoptic == expected.panoptic) > 0.999
        assert len(found.instances) == len(expected.instances)
    with pytest.raises(UsageError, match=r"--with-post-processing: expected --to saved_model, found onnx"):
        ExportOptions("onnx", with_post_processing=True)
