"""The run record: one JSON object that holds every number of a run and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.repro.records.schema import MEASURE_AGAIN, SCHEMA_VERSION, RunRecord, read_checked

__all__ = ["SCHEMA_VERSION", "finite", "read_record", "run_name"]


def read_record(path: Path) -> dict[str, Any]:
    """Returns the run record in `path`.

    Raises:
      DataError: there is no such file, or it does not follow `RunRecord`.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "record.json"
    try:
        return read_checked(path, RunRecord, "a run record", f"leave it out, or {MEASURE_AGAIN}")
    except FileNotFoundError:
        raise DataError(f"{path}: no run record there; `zoo reproduce NAME --out DIR` writes one") from None


def run_name(record: Mapping[str, Any]) -> str:
    """Returns what a run is called: its entry, or the name of the predictions that were scored."""
    return str(record["entry"] or record["predictions"]["name"])


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Returns `values` with NaN (a class that never occurs) as None, which JSON can hold."""
    return {key: (float(value) if value == value else None) for key, value in values.items()}
