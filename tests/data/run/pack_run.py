"""Makes `<data set>.npz` and `<data set>.json`, the statistics and the record of a real run, for the tests.

    zoo reproduce minicity/mobilenet_v3_small_os16 minicoco/mobilenet_v3_small_os16 --out RUNS
    python tests/data/run/pack_run.py RUNS/minicity__mobilenet_v3_small_os16
    python tests/data/run/pack_run.py RUNS/minicoco__mobilenet_v3_small_os16

The arrays of all images are joined by name along their first axis, with the lengths beside them; numbers
alone are stacked. Of the record, only what does not depend on the machine is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from zoo.repro.records.record import read_record
from zoo.repro.records.run_folder import RunFolder

HERE = Path(__file__).parent
KEPT = (
    "schema",
    "entry",
    "images",
    "images_in_dataset",
    "claims",
    "metrics",
    "per_class",
    "official_scripts",
    "dataset",
)


def main(folder: Path) -> None:
    record = read_record(folder)
    run = RunFolder(folder)
    images = {path.stem: run.find_statistics(path.stem) for path in sorted(run.images.glob("*.npz"))}
    assert len(images) == record["images"]
    packed: dict[str, np.ndarray] = {"image_ids": np.array(list(images))}
    for name in next(iter(images.values())):
        arrays = [np.atleast_1d(arrays[name]) for arrays in images.values()]
        packed[f"{name}:joined"] = np.concatenate(arrays)
        packed[f"{name}:lengths"] = np.array([len(array) for array in arrays], np.int32)
        packed[f"{name}:ndim"] = np.array(next(iter(images.values()))[name].ndim, np.int32)
    name = record["entry"].partition("/")[0]
    np.savez_compressed(HERE / f"{name}.npz", **packed)
    kept = {name: record[name] for name in KEPT}
    (HERE / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
