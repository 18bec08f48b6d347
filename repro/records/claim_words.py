"""The words of a claim: evaluators, metrics and verdicts, and what they are called in print."""

from __future__ import annotations

EVALUATORS = ("official", "internal")
HEADLINE_METRICS = ("pq", "miou", "ap")
"""The metrics that claims are about, in the order in which tables show them."""

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

EVALUATOR_MARKS = {"official": "[*]", "internal": "[**]"}
"""What the published tables call the two evaluators."""
LEGEND = "[*] official scripts, [**] the reference implementation's pipeline"
"""What the marks of the published tables' columns mean."""

MATCH = "match"
WITHIN = "within"
MISMATCH = "mismatch"
NOT_JUDGED = "not judged"


def metric_title(metric: str) -> str:
    """Returns how a metric is printed: `pq_things` as `PQ things`."""
    if metric in METRIC_TITLES:
        return METRIC_TITLES[metric]
    name, _, rest = metric.partition("_")
    return " ".join([METRIC_TITLES.get(name, name), *rest.split("_")]).strip()
