"""What runs needed, as columns of tables: size, operations, time and memory, and the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zoo.files.words import readable_size
from zoo.reports.runs import Run

DEVICE = "Device"


def millions(count: int) -> str:
    """Returns a number of parameters as tables show it: `4.1 M`."""
    return f"{count / 1e6:.1f} M"


def billions(count: int) -> str:
    """Returns a number of multiply-adds as tables show it: `1,550.4 G`."""
    return f"{count / 1e9:,.1f} G"


def milliseconds(seconds: float) -> str:
    """Returns a duration as tables show it: `65.5 ms`."""
    return f"{seconds * 1000:,.1f} ms"


EFFICIENCY: dict[str, tuple[str, Callable[[Any], str]]] = {
    "parameters": ("Parameters", millions),
    "multiply_adds": ("Mult-adds", billions),
    "seconds_per_image": ("Network time per image", milliseconds),
    "peak_memory_bytes": ("Peak memory", readable_size),
}
"""Key in a record's `efficiency` -> the column's title, and how a cell is written."""


def efficiency_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a run needed, by the keys of `EFFICIENCY`; None where its record does not say."""
    found = record.get("efficiency", {})
    return {key: found.get(key) for key in EFFICIENCY}


def device_of(record: Mapping[str, Any]) -> str | None:
    """Returns the names of the devices that a run was measured on, else their kind; None where unknown."""
    device = record.get("device", {})
    names = (device.get("names") or [])[: device.get("replicas")]
    # TensorFlow's own name of a device, `/physical_device:CPU:0`, says no more than its kind.
    counts = Counter(name for name in names if not name.startswith("/"))
    words = [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
    return ", ".join(words) or device.get("kind")


def efficiency_columns(runs: Iterable[Run | None]) -> dict[str, list[str]]:
    """Returns title -> a cell for each run, of what any of the runs needed; what is unknown is blank.

    The device comes last, where any is known and any other column is shown.
    """
    records = [{} if run is None else run.record for run in runs]
    needed = [efficiency_of(record) for record in records]
    columns = {
        title: ["" if it[key] is None else form(it[key]) for it in needed]
        for key, (title, form) in EFFICIENCY.items()
        if any(it[key] is not None for it in needed)
    }
    devices = [device_of(record) or "" for record in records]
    return columns | ({DEVICE: devices} if columns and any(devices) else {})
