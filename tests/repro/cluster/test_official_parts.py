"""Workers of a cluster do what the official scripts do image by image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.cluster.official_parts import look_at_parts
from zoo.repro.cluster.workers import Workers
from zoo.repro.datasets.opening import open_files
from zoo.repro.datasets.predictions import EVERYTHING
from zoo.repro.official.scripts import start_official

pytestmark = pytest.mark.xdist_group("ray")


def results(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/result.json")}


def test_the_scripts_give_the_same_files(
    three_nodes: Any,
    copy_images: Callable[..., Path],
    tmp_path: Path,
    predict: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    open_dataset = partial(open_files, CityscapesDataset, copy_images(14), "val", cache=tmp_path / "cache")
    dataset, predictions = open_dataset(), tmp_path / "predictions"
    predict(dataset, predictions, (1, 2))
    ids = dataset.image_ids
    with start_official(dataset, ids, predictions, tmp_path / "here", 2) as official:
        expected = official.finish()
    # A part that no worker can look at is left to the scripts where the run is; they say what is wrong.
    broken = predictions / f"semantic/{ids[-1]}.png"
    content = broken.read_bytes()
    broken.write_bytes(b"broken")
    with start_official(dataset, ids, predictions, tmp_path / "cluster", 2) as official:
        look_at_parts(
            official,
            ids,
            predictions,
            open_dataset=open_dataset,
            holds=EVERYTHING,
            workers=Workers(three_nodes.address, attempts=2),
        )
        broken.write_bytes(content)
        for image_id in ids[:8]:
            (predictions / f"panoptic/{image_id}.png").write_bytes(b"broken")
        found = official.finish()
    assert found.metrics == expected.metrics
    assert found.per_class == expected.per_class
    assert results(tmp_path / "cluster") == results(tmp_path / "here")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "done here instead" in line]
    assert f"official scripts on {ids[12]} to {ids[13]}: failed 2 times" in line
    assert "evalPixelLevelSemanticLabeling: ended with code 1" in line
