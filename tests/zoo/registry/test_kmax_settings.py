"""Entries of kMaX-DeepLab: what their network and their evaluation may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import RegistryError
from zoo.registry import load_registry

PIXELWISE = {
    "transformer_post_processing": "pixelwise",
    "transformer_class_confidence_threshold": 0.7,
    "maskwise_postprocessing": None,
}


def declare(folder: Path, extends: list[str] | str, **changes: Any) -> Path:
    row = {"extends": extends, "title": "Own", "checkpoint": "ckpt", **changes}
    file = folder / "own.yaml"
    file.write_text(json.dumps({"entries": {"own/net": row}}))
    return file


def test_an_entry_may_extend_the_published_networks(tmp_path: Path) -> None:
    heads = {"transformer_class_head": {"output_channels": 12}, "semantic_head": {"output_channels": 12}}
    file = declare(tmp_path, ["kmax_coco", "kmax_convnext_tiny"], network=heads, evaluation=PIXELWISE)

    entry = load_registry(file).resolve("own/net")

    assert entry.network.kind == "kmax_deeplab"
    assert entry.network.transformer_class_head.output_channels == 12
    assert entry.evaluation.transformer_class_confidence_threshold == 0.7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network": {"backbone": {"backbone_width_multiplier": 2.0}}},
            "backbone_width_multiplier: expected 1.0 for kmax_resnet50, found 2.0",
        ),
        (
            {"network": {"backbone": {"output_stride": 16}}},
            "output_stride: expected 32 for kmax_resnet50, found 16",
        ),
        (
            {"network": {"backbone": {"name": "resnet50"}}},
            "backbone: expected a backbone of kmax_deeplab, found resnet50",
        ),
        (
            {"evaluation": {"transformer_post_processing": "pixelwise"}},
            "maskwise_postprocessing: expected none with pixelwise, found one",
        ),
        (
            {"evaluation": {"maskwise_postprocessing": None}},
            "maskwise_postprocessing: expected a value with maskwise, found none",
        ),
        ({"evaluation": {"nms_kernel": 7}}, "nms_kernel: expected one of the keys dataset, "),
    ],
)
def test_what_does_not_fit_is_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as raised:
        load_registry(declare(tmp_path, ["kmax_coco", "kmax_resnet50"], **changes))

    (line,) = str(raised.value).splitlines()
    assert message in line


def test_other_networks_have_no_encoder_of_kmax(tmp_path: Path) -> None:
    changes = {"network": {"backbone": {"name": "kmax_resnet50"}}}
    with pytest.raises(RegistryError, match="expected a backbone of panoptic_deeplab, found kmax_resnet50"):
        load_registry(declare(tmp_path, "coco/resnet50_os32", **changes))
