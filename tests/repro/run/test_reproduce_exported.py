"""The bundled entry, run from an exported file: its claims hold, and the record says by what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo.repro.run.settings import RunSettings

RUN_DATA = Path(__file__).parents[2] / "data"
NAME = "minicity/mobilenet_v3_small_os16"


def test_every_claim_holds_on_another_runtime(
    zoo_call: Callable[..., Any], one_line: Callable[..., str], tmp_path: Path
) -> None:
    model, out = tmp_path / "net.onnx", tmp_path / "runs"
    assert zoo_call("export", NAME, "--to", "onnx", "--out", model, "--no-verify").returncode == 0
    chosen = ["--runtime", "onnx", "--model", model, "--out", out]

    done = zoo_call("reproduce", NAME, *chosen, "--json")

    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert [claim["verdict"] for claim in record["claims"]] == ["match"] * 6
    assert record["runtime"] == {
        "name": "onnx",
        "version": version("onnxruntime"),
        "model": "net.onnx",
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "model_precision": "float32",
        "model_input_size": [257, 513],
    }
    assert record["checkpoint"]["receipt"]["ok"]
    assert record["device"]["kind"] == "cpu"
    run = out / RunSettings(runtime="onnx", model=model).folder_name(NAME)
    assert (run / "record.json").is_file()

    # A file is taken as it is.
    for option in (["--precision", "bfloat16"], ["--flip"], ["--scales", "0.5,1"], ["--device", "gpu"]):
        for call in (["reproduce", NAME], ["predict", NAME, RUN_DATA, "--write", "table"]):
            assert "with --runtime onnx" in one_line(zoo_call(*call, *chosen, *option), 2)

    # An unfinished run is not resumed with another file.
    (run / "record.json").unlink()
    run.rename(run.with_name(f"{run.name}.unfinished"))
    assert (
        zoo_call(
            "export", NAME, "--to", "onnx", "--precision", "float16", "--out", model, "--no-verify"
        ).returncode
        == 0
    )
    assert "holds an unfinished run with another runtime; --restart discards it" in one_line(
        zoo_call("reproduce", NAME, *chosen), 3, after_progress=True
    )
    done = zoo_call("reproduce", NAME, *chosen, "--restart", "--limit", 1)
    assert done.returncode == 0, done.stderr
    assert "measured with a model file of float16" in done.stderr
