"""The examples in the docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name", ["overlap", "mask_overlaps", "boundary", "panoptic_quality", "mean_iou", "mask_ap"]
)
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"zoo.metrics.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
