"""Finds out which image of a data set a file or a JSON entry is about."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.repro.datasets.dataset import Dataset

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".json", ".npy")


class ImageNames:
    """Image ids by the names and numbers that predictions call images."""

    def __init__(self, dataset: Dataset) -> None:
        self.image_ids = dataset.image_ids
        self._ids = set(dataset.image_ids)
        self.numbers: dict[int, str] = {}  # of data sets whose annotations number images
        official_id = getattr(dataset, "official_image_id", None)
        if official_id is not None:
            self.numbers = {official_id(image_id): image_id for image_id in dataset.image_ids}
        self._number_of = {image_id: number for number, image_id in self.numbers.items()}
        self._unpadded = {int(image_id): image_id for image_id in dataset.image_ids if image_id.isdecimal()}

    def of_file(self, name: str) -> str | None:
        """Returns the image of a file, by its name without extension and suffixes such as `_pred`."""
        return self.of_text(PurePosixPath(name).stem)

    def of_text(self, text: str) -> str | None:
        """Returns the image that some text names: an id, a number, or an id with something behind `_`."""
        text = PurePosixPath(text).name
        while text:
            if text in self._ids:
                return text
            if text.isdecimal() and len(text) < 19:
                number = int(text)
                return self._unpadded.get(number) or self.numbers.get(number)
            stem, dot, _ = text.rpartition(".")
            if not dot:
                stem, _, suffix = text.rpartition("_")
                # What differs by a number is another image.
                if suffix.isdecimal():
                    return None
            text = stem
        return None

    def exactly(self, image_id: object) -> str | None:
        """Returns the image that a JSON file calls so, rightly: by its number where images are numbered."""
        if self.numbers:
            is_number = isinstance(image_id, int) and not isinstance(image_id, bool)
            return self.numbers.get(image_id) if is_number else None  # type: ignore[call-overload]
        if not isinstance(image_id, str) or image_id in self._ids:
            return image_id if isinstance(image_id, str) else None
        # A picture's name without its extension will do too: `frankfurt/frankfurt_000000_000294_leftImg8bit`.
        return None if image_id.lower().endswith(_EXTENSIONS) else self.of_text(image_id)

    def official(self, image_id: str) -> int | str:
        """Returns what JSON files have to call an image: a number where the annotations number images."""
        return self._number_of.get(image_id, image_id)
