"""The formats of data sets, and the class that reads each."""

from __future__ import annotations

import importlib
from typing import Any

from zoo.registry.dataset_info import DatasetInfo

FORMATS = {
    "cityscapes": "zoo.repro.cityscapes.dataset:CityscapesDataset",
    "coco": "zoo.repro.coco.dataset:CocoDataset",
    "ade20k": "zoo.repro.coco.ade20k:Ade20kDataset",
}
"""Module and class of each format, a subclass of `zoo.repro.datasets.dataset.Dataset`; imported when used."""


def format_class(name: str) -> Any:
    """Returns the class that reads data sets of the format `name`."""
    return load_class(FORMATS[name])


def load_class(place: str) -> Any:
    """Returns a class by its place, `<module>:<class>`; the module is imported now."""
    module, _, class_name = place.partition(":")
    return getattr(importlib.import_module(module), class_name)


def classes_by_upstream_name() -> dict[str, DatasetInfo]:
    """Returns the classes of every format, by the name that published configurations give the data set."""
    infos = [format_class(name).info for name in FORMATS]
    return {info.upstream_name: info for info in infos if info.upstream_name}
