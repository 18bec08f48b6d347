"""Model zoo and reproduction harness for Panoptic-DeepLab.

`zoo.load(NAME)` gives a ready network, `zoo.build(NAME)` the same network without its checkpoint,
`network.predict(image)` the panoptic map of an image, `zoo.list_entries()` what there is; `zoo.entries()`,
`zoo.published()`, `zoo.results(PATH, ...)` and `zoo.side_by_side(PATH, ...)` are pandas DataFrames;
`zoo.measured`, `zoo.compare`, `zoo.explain` and `zoo.html_page` give what `zoo report` prints;
`zoo.reproduce(NAME)` and `zoo.score(PREDICTIONS, dataset=NAME)` measure, and return a run record;
`zoo.check_predictions(PATH, DATASET)` says what is wrong with predictions of any model, and
`zoo.fix_predictions` writes a corrected copy. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.errors import (
    ArchiveError,
    CheckpointError,
    DataError,
    DownloadError,
    EvaluationError,
    InterruptedRunError,
    RegistryError,
    UnknownNameError,
    UsageError,
    VerificationError,
    ZooError,
)

if TYPE_CHECKING:
    from zoo.network.loading import build as build
    from zoo.network.loading import load as load
    from zoo.network.network import predict_panoptic as predict_panoptic
    from zoo.registry import list_entries as list_entries
    from zoo.registry.frames import entries as entries
    from zoo.registry.frames import published as published
    from zoo.reports.explain.steps import explain as explain
    from zoo.reports.page.html import html_page as html_page
    from zoo.reports.tables.compare import compare as compare
    from zoo.reports.tables.frames import results as results
    from zoo.reports.tables.measured import measured as measured
    from zoo.reports.tables.side_by_side import side_by_side as side_by_side
    from zoo.repro.datasets.checking import check_data as check_data
    from zoo.repro.predictions.check import check_predictions as check_predictions
    from zoo.repro.predictions.fix import fix_predictions as fix_predictions
    from zoo.repro.run.reproduce import reproduce as reproduce
    from zoo.repro.run.score import score as score

__version__: str

__all__ = [
    "ArchiveError",
    "CheckpointError",
    "DataError",
    "DownloadError",
    "EvaluationError",
    "InterruptedRunError",
    "RegistryError",
    "UnknownNameError",
    "UsageError",
    "VerificationError",
    "ZooError",
    "__version__",
    "build",
    "check_data",
    "check_predictions",
    "compare",
    "entries",
    "explain",
    "fix_predictions",
    "html_page",
    "list_entries",
    "load",
    "measured",
    "predict_panoptic",
    "published",
    "reproduce",
    "results",
    "score",
    "side_by_side",
]

_HOME = {
    "build": "zoo.network.loading",
    "check_data": "zoo.repro.datasets.checking",
    "check_predictions": "zoo.repro.predictions.check",
    "compare": "zoo.reports.tables.compare",
    "entries": "zoo.registry.frames",
    "explain": "zoo.reports.explain.steps",
    "fix_predictions": "zoo.repro.predictions.fix",
    "html_page": "zoo.reports.page.html",
    "load": "zoo.network.loading",
    "list_entries": "zoo.registry",
    "measured": "zoo.reports.tables.measured",
    "predict_panoptic": "zoo.network.network",
    "published": "zoo.registry.frames",
    "reproduce": "zoo.repro.run.reproduce",
    "results": "zoo.reports.tables.frames",
    "score": "zoo.repro.run.score",
    "side_by_side": "zoo.reports.tables.side_by_side",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("panoptic-zoo")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
