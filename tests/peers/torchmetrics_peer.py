"""Compares what `zoo` says of torchmetrics with what `torchmetrics.detection.PanopticQuality` computes.

Runs in an environment of its own, with torch, torchmetrics and NumPy, on the files of `export_maps.py`. The
exit code is 1 if a number differs by more than 1e-9.

    python torchmetrics_peer.py FILE ...
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torchmetrics
from torchmetrics.detection import PanopticQuality

TOLERANCE = 1e-9
DTYPES = {"single": torch.float32, "double": torch.float64}
NAMES = ("PQ", "SQ", "RQ")


def measure(maps: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns PQ, SQ and RQ per class, things before stuff, [3, C], and their means, [3]."""
    per_class, means = (
        PanopticQuality(
            things=maps["things"].tolist(),
            stuffs=maps["stuff"].tolist(),
            allow_unknown_preds_category=True,
            return_sq_and_rq=True,
            return_per_class=of_class,
        )
        for of_class in (True, False)
    )
    number = 0
    while f"truth_{number}" in maps:
        prediction, truth = (torch.from_numpy(maps[f"{of}_{number}"])[None] for of in ("prediction", "truth"))
        per_class.update(prediction, truth)
        number += 1
    # It takes what was merged for no data.
    warnings.filterwarnings(
        "ignore", message="The ``compute`` method of metric PanopticQuality was called before"
    )
    means.merge_state(per_class)
    values, averages = (metric.compute().numpy().astype(np.float64) for metric in (per_class, means))
    return values.reshape(-1, 3).T, averages


def compare(path: Path) -> tuple[float, str]:
    """Returns the largest difference in a file, and a line that says what was compared."""
    with np.load(path) as file:
        maps = {name: file[name] for name in file.files}
    order = [*sorted(maps["things"].tolist()), *sorted(maps["stuff"].tolist())]
    largest, words = 0.0, ""
    for precision, dtype in DTYPES.items():
        # PyTorch divides integers in its default precision.
        torch.set_default_dtype(dtype)
        wanted = maps[precision][:, order]
        occurs = ~np.isnan(wanted[2])
        found, means = measure(maps)
        if not np.array_equal(found[:, ~occurs], np.zeros_like(found[:, ~occurs])):
            return np.inf, f"{path.stem}: torchmetrics has classes that zoo has not"
        differences = np.abs(found[:, occurs] - wanted[:, occurs])
        largest = max(largest, differences.max(initial=0.0))
        if not occurs.any():
            continue
        wanted_means = wanted[:, occurs].mean(axis=1)
        # In single precision torchmetrics adds the classes' RQ in single precision too: that mean is compared
        # as far as its seven digits go, and in double precision like the others.
        compared = 3 if precision == "double" else 2
        differences = np.abs(means - wanted_means)
        largest = max(largest, differences[:compared].max())
        if differences[2] > 1e-6:
            largest = np.inf
        if precision == "single":
            words = ", ".join(f"{name} {100 * mean:.9f}" for name, mean in zip(NAMES, means, strict=True))
    return largest, f"{path.stem}: {words}; {int(occurs.sum())} classes; largest difference {largest:.1e}"


def main() -> None:
    """Prints a line for each file that is not a drawn case, one for those, and what differs."""
    print(f"torchmetrics {torchmetrics.__version__}, torch {torch.__version__}")
    torch.set_num_threads(1)  # the maps are small
    results = [(Path(name).stem, *compare(Path(name))) for name in sys.argv[1:]]
    drawn = [largest for name, largest, _ in results if name.startswith("drawn")]
    for name, largest, words in results:
        if largest > TOLERANCE or not name.startswith("drawn"):
            print(words)
    if drawn:
        print(f"{len(drawn)} drawn cases; largest difference {max(drawn):.1e}")
    wrong = [name for name, largest, _ in results if not largest <= TOLERANCE]
    if wrong or not results:
        sys.exit(f"more than {TOLERANCE} apart: {', '.join(wrong) or 'nothing was compared'}")


if __name__ == "__main__":
    main()
