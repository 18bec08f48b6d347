"""Tests of where the machine code of the pixel loops is kept: the installed package may be read-only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.files.cache import TAG_NAME, Cache, default_root
from zoo.files.contents import prune

EVERY_KERNEL = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = {locators}
import zoo.metrics.ap_resampling, zoo.metrics.overlap, zoo.model.postprocess.scoring
import zoo.repro.cityscapes.dataset, zoo.repro.coco.dataset, zoo.repro.datasets.predictions
import numpy as np
from zoo.metrics.mean_iou import _add_pixels
labels = np.ones((2, 3), np.uint8)
confusion, unlabelled = np.zeros((2, 2), np.int64), np.zeros(2, np.int64)
_add_pixels(labels, labels, 255, confusion, unlabelled)
assert confusion[1, 1] == 6
"""


def run_kernel(cache: Path, locators: str, **environment: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", EVERY_KERNEL.format(locators=locators)],
        env={**inherited, "ZOO_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        # From the repository's root, `import zoo` would find the folder instead of the installed package.
        cwd=cache.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_machine_code_goes_into_the_cache(tmp_path: Path) -> None:
    run_kernel(tmp_path / "cache", "[caching.UserProvidedCacheLocator]")
    assert list((tmp_path / "cache" / "numba").glob("*/mean_iou.*.nbc"))
    assert (tmp_path / "cache" / "numba" / TAG_NAME).is_file()
    removed = prune(Cache(tmp_path / "cache"), kinds=["numba"]).removed
    assert removed
    assert not list((tmp_path / "cache" / "numba").glob("*/*.nbc"))


def test_the_folder_that_the_user_chose_for_numba_stays(tmp_path: Path) -> None:
    run_kernel(
        tmp_path / "cache", "[caching.UserProvidedCacheLocator]", NUMBA_CACHE_DIR=str(tmp_path / "own")
    )
    assert list((tmp_path / "own").glob("*/mean_iou.*.nbc"))
    assert not (tmp_path / "cache").exists()


def test_kernels_compile_in_memory_where_no_folder_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache's folder should be")
    run_kernel(tmp_path / "cache", "[]")
    assert (tmp_path / "cache").is_file()


def test_a_user_without_a_home_folder_is_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/zoo")
    with pytest.raises(UsageError, match="set ZOO_CACHE"):
        default_root({})
    assert default_root({"ZOO_CACHE": "~no_such_user/x"}).is_absolute()
