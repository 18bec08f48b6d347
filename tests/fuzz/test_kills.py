"""A few kills of the quick commands; `python tests/fuzz/kills.py` kills the long ones too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kills import run


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and rights of Linux")
def test_what_was_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    rows = run(tmp_path, range(6), seed=1, workers=2, names=("fetch", "page"))
    assert [row for row, ok in rows if not ok] == []
