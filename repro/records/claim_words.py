"""The words of a claim: evaluators, metrics and verdicts, and what they are called in print."""

from __future__ import annotations

EVALUATORS = ("official", "internal")
"""The evaluators that measure."""
SERVER = "server"
"""The evaluator of published numbers that only a data set's server can measure."""
HEADLINE_METRICS = ("pq", "miou", "ap")
"""The metrics that every table shows, in their order."""
CLAIM_METRICS = ("pq", "pq_things", "pq_stuff", "miou", "ap")
"""The metrics that claims are about, in the order in which tables show them."""
CLAIM_ORDER = tuple((evaluator, metric) for evaluator in (*EVALUATORS, SERVER) for metric in CLAIM_METRICS)
"""Evaluator and metric of every possible claim, in the order in which tables show them."""

BOUNDARY_METRICS = ("boundary_pq", "boundary_iou")
"""Further metrics of the internal evaluator, which are measured where they are asked for."""
SHOWN_METRICS = (*HEADLINE_METRICS, *BOUNDARY_METRICS)
"""The metrics that reports show by evaluator, where they were measured."""

METRIC_TITLES = {
    "pq": "PQ",
    "sq": "SQ",
    "rq": "RQ",
    "miou": "mIoU",
    "iou": "IoU",
    "iiou": "iIoU",
    "ap": "AP",
    "ap50": "AP50",
    "boundary_pq": "boundary PQ",
    "boundary_iou": "boundary IoU",
}
"""What a metric is called in print; others are shown by their names in the record."""

EVALUATOR_MARKS = {"official": "[*]", "internal": "[**]", SERVER: "[server]"}
"""What tables call the evaluators; the first two as the published ones do."""
LEGEND = "[*] official scripts, [**] the reference implementation's pipeline"
"""What the marks of the published tables' columns mean."""

MATCH = "match"
WITHIN = "within"
MISMATCH = "mismatch"
NOT_JUDGED = "not judged"
NOT_MEASURABLE = "not measurable here"


def metric_title(metric: str) -> str:
    """Returns how a metric is printed: `pq_things` as `PQ things`."""
    if metric in METRIC_TITLES:
        return METRIC_TITLES[metric]
    name, _, rest = metric.partition("_")
    return " ".join([METRIC_TITLES.get(name, name), *rest.split("_")]).strip()
