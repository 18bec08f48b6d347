"""The run record: one JSON object that holds every number of a run and where it came from."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import DataError, EvaluationError, cannot_write
from zoo.repro.records.schema import MEASURE_AGAIN, SCHEMA_VERSION, RunRecord, read_checked

__all__ = ["SCHEMA_VERSION", "finite", "read_record", "write_json", "writing"]


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` so that a crash leaves the old file or the new one, never a part."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files private; a record is for everybody who may read the folder.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes a failure to write `path` an error of one line that names it.

    Raises:
      EvaluationError: the file or folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise EvaluationError(cannot_write(path, error, "give another path with --out")) from None


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


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Returns `values` with NaN (a class that never occurs) as None, which JSON can hold."""
    return {key: (float(value) if value == value else None) for key, value in values.items()}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
