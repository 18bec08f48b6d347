"""What is wrong with predictions on disk, one line each."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import DataError

FIX = "--fix DIR writes a corrected copy"
"""What to do about a finding that is mended without a doubt."""


@dataclass(frozen=True)
class Finding:
    """Something in predictions that is not as it has to be."""

    kind: str  # a short name, the same for all of its kind
    file: str
    expected: str
    found: str
    remedy: str = FIX
    blocks: bool = True  # whether nothing can be scored before it is mended
    image_id: str = ""  # of the data set; empty where it concerns more than one image, or none

    @property
    def fixable(self) -> bool:
        """Whether a corrected copy is unambiguous."""
        return self.remedy.startswith(FIX)

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, found {self.found}; {self.remedy}"


class FindingError(DataError):
    """Predictions that cannot be read at all, or an image's that cannot be scored."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding
