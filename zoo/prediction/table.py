"""The instances of predictions as tables: rows, DataFrames, CSV and Parquet files."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.files.atomic import write_atomically
from zoo.registry.frames import csv_text, typed_frame

if TYPE_CHECKING:
    from zoo.model.postprocess.instances import Instances
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.datasets.label_shapes import LabelShapes

_BOX = ("x0_px", "y0_px", "x1_px", "y1_px")

INSTANCE_DTYPES = {
    **dict.fromkeys(("label", "class_id"), "int64"),
    "class_name": "string",
    "area_px": "int64",
    "score": "float64",
    **dict.fromkeys(_BOX, "int64"),
}
"""The columns of one image's instances, and the type of each."""

INSTANCES = "instances"
"""The name of a table on disk, without its suffix."""

TABLES = (".csv", ".parquet")
"""The suffixes of tables on disk."""


def instance_rows(scored: Instances, shapes: LabelShapes, classes: DatasetInfo) -> list[dict[str, Any]]:
    """Returns a row of `INSTANCE_DTYPES` for each scored instance, in their order."""
    box_of = dict(zip(shapes.labels.tolist(), shapes.boxes.tolist(), strict=True))
    columns = (scored.labels.tolist(), scored.areas.tolist(), scored.score.tolist())
    return [
        {
            "label": label,
            "class_id": label // classes.label_divisor,
            "class_name": classes.class_names[label // classes.label_divisor],
            "area_px": area,
            "score": score,
            **dict(zip(_BOX, box_of[label], strict=True)),
        }
        for label, area, score in zip(*columns, strict=True)
    ]


def require_table(suffix: str, about: str) -> None:
    """Raises a UsageError where no such table can be written: before anything is computed for it."""
    if suffix not in TABLES:
        raise UsageError(f"{about}: expected a table that ends in {' or '.join(TABLES)}, found {suffix!r}")
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(f"{about}: Parquet needs `pip install 'panoptic-zoo[parquet]'`; a CSV does not")


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows of instances, each with the name of its `image`, as the CSV or Parquet file `path`.

    A CSV is as `csv_text` writes it: a name that begins like a formula has an apostrophe before it.
    """
    frame = typed_frame(rows, {"image": "string", **INSTANCE_DTYPES})
    if path.suffix == ".csv":
        write_atomically(path, csv_text(frame))
        return
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())
