from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from zoo.errors import EvaluationError, UsageError
from zoo.network.devices import describe, kind_of_device, strategy_for

Call = Callable[[str], Any]

HAS_GPU = bool(tf.config.list_physical_devices("GPU"))


@pytest.mark.parametrize("call", [kind_of_device, strategy_for])
@pytest.mark.parametrize(
    "device", ["", "CPU", "cuda", "gpux", "auto:0", "gpu:", "gpu:one", "cpu:-1", "cpu:1.0", "gpu:\u00b2"]
)
def test_an_unknown_device_is_a_usage_error(call: Call, device: str) -> None:
    with pytest.raises(UsageError, match=r"--device .*: expected .*") as caught:
        call(device)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
@pytest.mark.parametrize("call", [kind_of_device, strategy_for])
@pytest.mark.parametrize("device", ["gpu", "gpu:0"])
def test_a_missing_gpu_is_one_line_with_a_hint(call: Call, device: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        call(device)
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith(f"--device {device}: ")
    assert "pip install 'panoptic-zoo[cuda]'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [kind_of_device, strategy_for])
def test_a_device_beyond_the_last_one_is_refused(call: Call) -> None:
    with pytest.raises(EvaluationError, match=r"--device cpu:99: TensorFlow finds no such device"):
        call("cpu:99")


def test_a_missing_tpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TPU_NAME", raising=False)
    assert kind_of_device("tpu") == "tpu"
    with pytest.raises(EvaluationError, match=r"--device tpu: no TPU found: .+") as caught:
        strategy_for("tpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_one_cpu_is_one_replica(device: str) -> None:
    assert kind_of_device(device) == "cpu"
    strategy = strategy_for(device)
    assert strategy.num_replicas_in_sync == 1
    described = describe(strategy)
    assert described["kind"] == "cpu"
    assert described["replicas"] == 1
    (name,) = described["names"]
    assert re.search(r"\w, \d+ cores?$", name) or sys.platform != "linux"
    with strategy.scope():
        assert "CPU:0" in tf.Variable(1.0).device.upper()


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    assert describe(strategy_for("auto"))["kind"] == "cpu"
