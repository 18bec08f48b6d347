"""Which images a run is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import DataError
from zoo.files.progress import say
from zoo.repro.datasets.checking import require_headers, usable_images
from zoo.repro.datasets.dataset import images_in_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.repro.datasets.dataset import Dataset


class NoImageError(DataError):
    """No image is left that can be used."""


@dataclass(frozen=True)
class RunImages:
    """The images that a run is over."""

    ids: list[str]  # in the order of the data set
    in_dataset: int  # how many the whole data set has
    skipped: dict[str, str]  # why images are left out, by name
    left_out: int = 0  # how many of the data set cannot be used, those that are missing included

    def __str__(self) -> str:
        return f"{len(self.ids)} of {self.in_dataset} images"

    @property
    def are_all(self) -> bool:
        """Whether the run is over the whole data set."""
        return len(self.ids) >= self.in_dataset

    def without(self, name: str, unusable: Mapping[str, str]) -> RunImages:
        """Returns the images without some that cannot be used, and says why.

        Args:
          name: of the run, for messages.
          unusable: the reason, by name of the image.

        Raises:
          NoImageError: no image is left.
        """
        for reason in unusable.values():
            say(f"skipped: {reason}")
        ids = [image_id for image_id in self.ids if image_id not in unusable]
        if not ids:
            raise NoImageError(
                f"{name}: none of {self.in_dataset} images can be used; the lines above say why"
            )
        skipped = {**self.skipped, **unusable}
        return RunImages(ids, self.in_dataset, skipped, self.left_out + len(unusable))


def choose_images(name: str, dataset: Dataset, *, limit: int | None, keep_going: bool) -> RunImages:
    """Checks the files of the images, and returns those that are evaluated.

    Args:
      name: of the run, for messages.
      dataset: the data set.
      limit: evaluate only so many images, the first ones; None for all.
      keep_going: leave out images that cannot be used, with a message, instead of an error.

    Raises:
      DataError: files cannot be used, or none is left.
    """
    ids, in_dataset = list(dataset.image_ids)[:limit], images_in_dataset(dataset)
    if not keep_going:
        require_headers(dataset, ids)
        return RunImages(ids, in_dataset, dict(dataset.skipped))
    for reason in dataset.skipped.values():
        say(f"skipped: {reason}")
    images = RunImages(ids, in_dataset, dict(dataset.skipped), in_dataset - len(dataset))
    _, unreadable = usable_images(dataset, ids)
    missing = in_dataset - len(dataset) - len(dataset.skipped)
    if missing:
        say(f"missing: {missing} of {in_dataset} images, pictures and ground truth")
    return images.without(name, unreadable)
