"""Changes the rules of panoptic quality one at a time, from one evaluator to the next.

First from the internal metric to the official script; then on to `PanopticQuality` of torchmetrics, which
gives another number for the same maps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.metrics.pq_rules import (
    INTERNAL,
    OFFICIAL,
    TORCHMETRICS,
    ImageCounts,
    Rules,
    count_image,
    mean_in_order,
    on_void,
    on_void_or_own_crowd,
    product_of_means,
    quotient_of_sums,
    quotients_in_single_precision,
    sum_exactly,
    sum_in_order,
)
from zoo.metrics.segments import ImageSegments
from zoo.reports.explain.waterfall import RuleChange, mean_of_present

SAME_IN_BOTH = (
    "segments match where their classes are equal and their IoU is above 0.5 in float64",
    "areas and intersections are whole numbers of pixels of the same maps; nothing is rounded (the official "
    "script takes the areas of the ground truth from its JSON file, which has the numbers of pixels; that of "
    "ADE20K counts stuff which things cover as well, and leaves a residual)",
    "a prediction's pixels on void are left out of the union; pixels that are void in the prediction are in "
    "no predicted segment",
    "crowd regions are never false negatives and never matched",
    "an unmatched prediction of which more than half is excused, or that lies wholly on void, is not a false "
    "positive",
    "the mean is over classes with a true positive, false positive or false negative (the official file says "
    "0 for the others, and does not count them)",
)
"""Rules of panoptic quality that could differ and do not."""

OFFICIAL_CHANGES: tuple[tuple[str, str, Rules], ...] = (
    (
        "official ground truth",
        "the segments of the official files, under the internal rules: crowd regions are void",
        INTERNAL,
    ),
    (
        "stuff segments apart",
        "several segments of one stuff class in an image stay apart; the internal ground truth joins them",
        replace(INTERNAL, joins_stuff=False),
    ),
    (
        "other crowds in the union",
        "a prediction's pixels on a crowd of another class count in the union; as void they did not",
        replace(INTERNAL, joins_stuff=False, outside_union=on_void_or_own_crowd),
    ),
    (
        "own crowd in the union",
        "a prediction's pixels on a crowd of its own class count in the union; as void they did not",
        replace(INTERNAL, joins_stuff=False, outside_union=on_void),
    ),
    (
        "other crowds excuse nothing",
        "a prediction mostly on a crowd of another class is a false positive; as on void it was not",
        replace(OFFICIAL, excuses=on_void_or_own_crowd),
    ),
    (
        "one crowd a class excuses",
        "of several crowds of one class in an image, only the last excuses predictions on it",
        OFFICIAL,
    ),
)
"""Name, meaning, and the rules once this and all earlier ones are as in the official script."""


_NO_CROWDS = replace(OFFICIAL, excuses=on_void, counts_crowds=True)
_JOINED = replace(_NO_CROWDS, joins_stuff=True, joins_predicted_stuff=True)

TORCHMETRICS_CHANGES: tuple[tuple[str, str, Rules], ...] = (
    (
        "crowds excuse nothing",
        "a prediction mostly on a crowd of its own class is a false positive too",
        replace(OFFICIAL, excuses=on_void),
    ),
    (
        "crowds are segments",
        "a crowd region is a segment like any other: it is matched, or missed",
        _NO_CROWDS,
    ),
    (
        "one segment a stuff class",
        "numbers of stuff segments are ignored: in both maps, all pixels of a stuff class are one segment",
        _JOINED,
    ),
    (
        "predicted void outside",
        "a true segment's pixels that are void in the prediction are left out of the union",
        replace(_JOINED, leaves_out_predicted_void=True),
    ),
    (
        "half void is not missed",
        "a true segment that is more than half void in the prediction is not a false negative",
        replace(TORCHMETRICS, precision=np.float64),
    ),
)
"""Name, meaning, and the rules once this and all earlier ones are as in torchmetrics."""

RULE_COLUMNS = ("Rule of PQ", "internal", "official", "torchmetrics")
RULES_BESIDE_EACH_OTHER: tuple[tuple[str, str, str, str], ...] = (
    (
        "crowd regions",
        "void",
        "neither matched nor missed; of a class the last excuses",
        "segments like any other",
    ),
    ("stuff segments of a class", "joined in the ground truth", "each counts", "joined in both maps"),
    ("void in the ground truth", "outside the union", "outside the union", "outside the union"),
    ("void in the prediction", "in the union", "in the union", "outside the union"),
    ("true segment, mostly void there", "missed", "missed", "left out"),
    ("arithmetic", "exact sums, SQ times RQ", "one quotient a class", "IoU and RQ in single precision"),
)
"""What each evaluator does, in the order of `RULE_COLUMNS`."""


@dataclass(frozen=True, eq=False)
class CountedImages:
    """The segments of all images of a run, and what is needed to count them."""

    segments: Sequence[ImageSegments]
    num_classes: int
    thing_class_ids: Collection[int]
    processes: int
    """How many processes of the official script shared the images, in their order; each added up its own."""

    def under(self, rules: Rules) -> list[ImageCounts]:
        """Returns what each image adds to panoptic quality."""
        return [
            count_image(image, rules, num_classes=self.num_classes, thing_class_ids=self.thing_class_ids)
            for image in self.segments
        ]

    def by_the_script(self, counts: Sequence[ImageCounts]) -> tuple[float, np.ndarray]:
        """Returns PQ and PQ per class in percent, in the arithmetic of the official script."""
        per_class = quotient_of_sums(sum_in_order(counts, self.processes))
        return 100 * mean_in_order(per_class), 100 * per_class


def official_steps(images: CountedImages) -> Iterator[RuleChange]:
    """Yields the rules, each with PQ after its change, from the internal metric to the official script."""
    counts: list[ImageCounts] = []
    for rule, meaning, rules in OFFICIAL_CHANGES:
        counts = images.under(rules)
        per_class = product_of_means(sum_exactly(counts))
        yield rule, meaning, mean_of_present(per_class), per_class
    yield (
        "the script's arithmetic",
        "PQ of a class is one quotient, not SQ times RQ; sums in the script's order, in float64",
        *images.by_the_script(counts),
    )


def torchmetrics_steps(images: CountedImages) -> Iterator[RuleChange]:
    """Yields the rules, each with PQ after its change, from the official script to torchmetrics."""
    for rule, meaning, rules in TORCHMETRICS_CHANGES:
        yield rule, meaning, *images.by_the_script(images.under(rules))
    per_class, _, _ = quotients_in_single_precision(sum_exactly(images.under(TORCHMETRICS)))
    yield (
        "single precision",
        "PyTorch divides integers in single precision: every IoU, and RQ of a class; PQ is SQ times RQ",
        100 * mean_in_order(per_class),
        100 * per_class,
    )
