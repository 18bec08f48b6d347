"""Where a network runs: one CPU or GPU, all GPUs of a machine, or a TPU."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import Any

from zoo.errors import EvaluationError, UsageError
from zoo.files.keras_backend import BACKENDS, chosen_backend
from zoo.files.processes import cores_of_machine
from zoo.files.words import counted


class KerasDevice:
    """One device of JAX or PyTorch, with what `KerasRuntime` asks of a `tf.distribute.Strategy`.

    Attributes:
      description: kind, replicas and names, as `describe` returns them.
    """

    num_replicas_in_sync = 1

    def __init__(self, device: str) -> None:
        """Finds a device; raises as `strategy_for`."""
        backend = chosen_backend()
        kind, which = parse_device(device)
        if kind == "tpu" and (backend != "jax" or which):
            raise UsageError(f"--device {device}: expected auto, cpu, gpu or gpu:N with --runtime {backend}")
        find = _jax_devices if backend == "jax" else _torch_devices
        found = find("gpu" if kind == "auto" else kind)
        if kind == "auto":
            kind, found = ("gpu", found) if found else ("cpu", find("cpu"))
        number = int(which or 0)
        if number >= len(found):
            raise EvaluationError(f"--device {device}: {backend} finds no such device here")
        self._device, name = found[number]
        named = (_processor_name() if kind == "cpu" else None) or name
        self.description: dict[str, Any] = {"kind": kind, "replicas": 1, "names": [named]}

    def scope(self) -> Any:
        """Returns the context in which Keras makes variables and computes on the device."""
        import keras

        return keras.device(self._device)


def _jax_devices(kind: str) -> list[tuple[Any, str]]:
    import jax

    try:
        return [(device, device.device_kind) for device in jax.local_devices(backend=kind)]
    except RuntimeError:
        return []


def _torch_devices(kind: str) -> list[tuple[Any, str]]:
    import torch

    if kind == "cpu":
        return [("cpu", "cpu")]
    return [(f"cuda:{i}", torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]


def kind_of_device(device: str) -> str:
    """Returns `cpu`, `gpu` or `tpu`, or raises as `strategy_for`; a TPU is not looked for: that is slow."""
    if chosen_backend() != BACKENDS[0]:
        return str(KerasDevice(device).description["kind"])
    kind, which = parse_device(device)
    if kind == "tpu":
        return kind
    return _logical_devices(device, kind, which)[0].split(":")[-2].lower()


def strategy_for(device: str) -> Any:
    """Returns the `tf.distribute.Strategy` for `device`, or where Keras computes otherwise a `KerasDevice`.

    Args:
      device: `auto` (all GPUs, else the CPU), `cpu`, `gpu`, `gpu:0`, `tpu`, or `tpu:NAME`. `cpu` takes all
        logical CPU devices, of which there is one unless the program has configured more. JAX and PyTorch
        take one device: the first, or the one of that number.

    Raises:
      UsageError: `device` is none of these.
      EvaluationError: there is no such device on this machine.
    """
    if chosen_backend() != BACKENDS[0]:
        return KerasDevice(device)
    import tensorflow as tf

    kind, which = parse_device(device)
    if kind == "tpu":
        return _tpu_strategy(which)
    names = _logical_devices(device, kind, which)
    if len(names) == 1:
        return tf.distribute.OneDeviceStrategy(names[0])
    return tf.distribute.MirroredStrategy(names)


def describe(strategy: Any) -> dict[str, Any]:
    """Returns what a run record says of the devices: kind, replicas, and names."""
    if isinstance(strategy, KerasDevice):
        return strategy.description
    import tensorflow as tf

    workers = list(strategy.extended.worker_devices)
    kind = tf.DeviceSpec.from_string(workers[0]).device_type.lower()
    names = []
    for physical in tf.config.list_physical_devices(kind.upper()):
        details = tf.config.experimental.get_device_details(physical) if kind == "gpu" else {}
        names.append(details.get("device_name") or (kind == "cpu" and _processor_name()) or physical.name)
    return {"kind": kind, "replicas": strategy.num_replicas_in_sync, "names": names}


def describe_processor() -> dict[str, Any]:
    """Returns what a run record says of the device where a runtime has this machine's processor alone."""
    name = _processor_name()
    return {"kind": "cpu", "replicas": 1, "names": [name] if name else []}


def _processor_name() -> str | None:
    """Returns the name of this machine's processors and how many there are; None where it is not known."""
    name = platform.processor()
    if sys.platform == "linux":
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else name
    return f"{name}, {counted(cores_of_machine(), 'core')}" if name else None


def parse_device(device: str) -> tuple[str, str]:
    """Returns kind and number or name of a device; quick, whether there is such a device or not.

    Raises:
      UsageError: see `strategy_for`.
    """
    kind, colon, which = device.partition(":")
    if kind not in ("auto", "cpu", "gpu", "tpu") or (colon and (kind == "auto" or not which)):
        raise UsageError(f"--device {device}: expected auto, cpu, gpu, gpu:N, tpu or tpu:NAME")
    if kind in ("cpu", "gpu") and colon and not (which.isascii() and which.isdigit()):
        raise UsageError(f"--device {device}: expected a number after `{kind}:`, found {which!r}")
    return kind, which


def _logical_devices(device: str, kind: str, which: str) -> list[str]:
    import tensorflow as tf

    if kind == "auto":
        kind = "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    names = [logical.name for logical in tf.config.list_logical_devices(kind.upper())]
    if which:
        names = names[int(which) : int(which) + 1]
    if not names:
        hint = "; `pip install 'panoptic-zoo[cuda]'` adds TensorFlow's GPU libraries" if kind == "gpu" else ""
        raise EvaluationError(f"--device {device}: TensorFlow finds no such device here{hint}")
    return names


def _tpu_strategy(name: str) -> Any:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name or "")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EvaluationError(f"--device tpu{':' + name if name else ''}: no TPU found: {reason}") from None
