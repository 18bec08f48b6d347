"""What is wrong with predictions on disk, one line each, and what is looked at in every form."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.repro.predictions.naming import TITLES, ClassIds, ranges

# A score above this is no probability, and no heatmap value either, which may be a little above 1.
_MOST_SCORE = 2.0
_PERCENT = 100.0


@dataclass(frozen=True)
class Finding:
    """Something in predictions that is not as it has to be."""

    kind: str  # a short name, the same for all of its kind
    file: str
    expected: str
    found: str
    remedy: str | None = None  # what to do; None where `--fix` mends it without a doubt
    blocks: bool = True  # whether nothing can be scored before it is mended
    image_id: str = ""  # of the data set; empty where it concerns more than one image, or none
    also: str = ""  # what else can be done, after the remedy

    @property
    def fixable(self) -> bool:
        """Whether a corrected copy is unambiguous."""
        return self.remedy is None

    @property
    def advice(self) -> str:
        """What to do about it."""
        return (self.remedy or "--fix DIR writes a corrected copy") + self.also

    def to_json(self) -> dict[str, Any]:
        """Returns the finding as JSON values."""
        values = {key: value for key, value in asdict(self).items() if key != "also"}
        return {**values, "remedy": self.advice, "fixable": self.fixable}

    def __str__(self) -> str:
        line = f"{self.file}: expected {self.expected}, found {self.found}; {self.advice}"
        return " ".join(line.splitlines())


class FindingError(DataError):
    """Predictions that cannot be read at all, or an image's that cannot be scored."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def numbering_of(found: Collection[int], classes: ClassIds, title: str) -> tuple[ClassIds, list[Finding]]:
    """Returns the numbering in which all listed categories are known, and a finding where it is another one.

    Where no numbering knows them all, it is the expected one.
    """
    if not classes.unknown(found, with_void=False):
        return classes, []
    others = classes.other_numberings(found, with_void=False)
    if not others:
        return classes, []
    what = f"{' or '.join(TITLES[name] for name in others)} ({ranges(found)})"
    remedy = None if len(others) == 1 else "write the ids of the annotations"
    finding = Finding(f"{others[0]}-ids", title, classes.expected(), what, remedy)
    return classes.read_as(others[0]), [finding]


def wrong_scores(scores: np.ndarray, title: str) -> Iterator[Finding]:
    """Yields what is wrong with all scores that a file or folder gives."""
    expected = "scores from 0 to 1"
    finite = scores[np.isfinite(scores)]
    if finite.size < scores.size:
        found = f"{scores.size - finite.size} that are not finite numbers"
        yield Finding("score-number", title, expected, found, "leave out what has no score")
    if not finite.size:
        return
    lowest, highest = float(finite.min()), float(finite.max())
    if lowest < 0 or highest > _PERCENT:
        found = f"{lowest:g}" if lowest < 0 else f"{highest:g}"
        yield Finding("score-range", title, expected, found, "write probabilities")
    elif highest > _MOST_SCORE:
        yield Finding("score-percent", title, expected, f"percent (up to {highest:g})")


def wrong_size(found: tuple[int, int], expected: tuple[int, int], name: str, image_id: str) -> Finding | None:
    """Returns a finding where a map has not the size of its image, (height, width)."""
    if found == expected:
        return None
    what = f"{found[0]} x {found[1]}"
    if found == expected[::-1]:
        what += " (height and width are swapped)"
    elif abs(found[0] * expected[1] - found[1] * expected[0]) <= max(expected):
        what += f" (scaled by {found[0] / expected[0]:.3g})"
    remedy = "write the map at the size of the image; when it is resized, ids must not be blended"
    return Finding("size", name, f"{expected[0]} x {expected[1]} pixels", what, remedy, image_id=image_id)


def broken(error: DataError, name: str, image_id: str) -> Finding:
    """Returns the finding about a file that cannot be read."""
    reason = str(error).removeprefix(f"{name}: ").partition(";")[0]
    found = f"one that {reason}" if reason.startswith(("is ", "cannot ")) else reason
    return Finding("broken-file", name, "a file that can be read", found, "write it again", image_id=image_id)
