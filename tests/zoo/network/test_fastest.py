"""`--runtime auto`: the runtimes that are installed are measured once, and the fastest is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.cli.options import NetworkOptions, Precision
from zoo.errors import UsageError, VerificationError
from zoo.fetch.fetcher import Fetcher
from zoo.files.json_files import write_json
from zoo.network import fastest
from zoo.network.fastest import find_fastest, say_what_is_faster
from zoo.network.predicting import PredictOptions
from zoo.registry import load_registry
from zoo.runtimes.choice import FILE_RUNTIMES

REGISTRY = load_registry()
CITY, COCO = (REGISTRY.resolve(f"mini{name}/mobilenet_v3_small_os16") for name in ("city", "coco"))


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the runtimes that files were written for; OpenVINO's computes other maps, and is refused."""
    written: list[str] = []

    def export(entry: Any, registry: Any, out: Path, options: Any) -> None:
        written.append(options.to)
        if options.to == "openvino":
            raise VerificationError("gives another offset_map")
        out.parent.mkdir(parents=True)
        out.touch()

    monkeypatch.setattr("zoo.network.exporting.export_entry", export)
    monkeypatch.setattr("zoo.network.loading.load_entry", lambda *_, **__: None)
    monkeypatch.setattr(fastest, "_installed", lambda: ["onnx", "openvino", "litert"])
    for runtime in ("onnx", "openvino", "litert"):
        pytest.importorskip(FILE_RUNTIMES[runtime].package)
    return written


def test_the_fastest_runtime_that_computes_the_same_maps_is_taken(
    exported: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter((2.0, 1.5))
    monkeypatch.setattr(fastest, "_ratio", lambda *_: next(times))
    fetcher = Fetcher()
    sha256 = fetcher.checkpoint(CITY).sha256
    say_what_is_faster(CITY, sha256, fetcher.cache)
    assert capsys.readouterr().err == ""

    found = find_fastest(CITY, REGISTRY)

    assert (found.runtime, found.times) == ("onnx", 2.0)
    assert found.model is not None
    assert sorted(path.name for path in found.model.parents[1].iterdir()) == ["measured.json", "onnx"]
    assert "left out openvino: gives another offset_map" in capsys.readouterr().err
    assert find_fastest(CITY, REGISTRY) == found
    assert exported == ["onnx", "openvino", "litert"]
    say_what_is_faster(CITY, sha256, fetcher.cache)
    assert "runs 2.0 times as fast on onnx here; --runtime auto takes it" in capsys.readouterr().err
    auto = NetworkOptions(runtime="auto")
    options = auto.on_the_fastest(PredictOptions(**auto.settings()), CITY, REGISTRY)
    assert (options.runtime, options.model) == ("onnx", found.model)

    # Measured again where the file is gone, or what was measured is damaged.
    found.model.unlink()
    times = iter((0.8, 1.2))
    again = find_fastest(CITY, REGISTRY)
    assert again.runtime == "litert"
    measured = found.model.parents[1] / "measured.json"
    for damaged in ({}, {"runtime": "another", "times": 2.0}, {"runtime": "litert", "times": None}):
        write_json(measured, damaged)
        times = iter((0.8, 1.2))
        assert find_fastest(CITY, REGISTRY) == again


def test_tensorflow_stays_where_nothing_is_faster(
    exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "_ratio", lambda *_: 0.9)

    assert find_fastest(COCO, REGISTRY) == ("tensorflow", None, 1.0)
    assert find_fastest(COCO, REGISTRY) == ("tensorflow", None, 1.0)
    assert len(exported) == 3


def test_what_a_file_cannot_follow_is_refused_before_anything_is_measured() -> None:
    for options, reason in (
        (
            NetworkOptions(precision=Precision.bfloat16),
            "--precision: expected none of these with --runtime auto",
        ),
        (NetworkOptions(scales="1,2", flip=True), "--scales, --flip: expected none of these"),
        (NetworkOptions(model=Path("x.onnx")), "--model x.onnx: expected none with --runtime auto"),
        (NetworkOptions(device="gpu"), "--device gpu: expected auto or cpu with --runtime auto"),
    ):
        with pytest.raises(UsageError, match=f"^{reason}"):
            NetworkOptions(**{**vars(options), "runtime": "auto"}).settings()
