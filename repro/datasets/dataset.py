"""What every data set offers to an evaluation run: one class for each format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.files.words import counted
from zoo.remote.path import RemotePath
from zoo.repro.datasets.digests import digest_of_files, file_digests

if TYPE_CHECKING:
    from zoo.files.cache import Cache
    from zoo.metrics.segments import OfficialTruth
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.registry.schema import ClassDeclaration, DatasetDeclaration

    CacheOrFolder = Cache | Path | None


NO_PICTURE = np.zeros((0, 0, 3), np.uint8)
"""The image of a sample that was loaded without it."""


ANOTHER_COLLECTION = "`zoo data add NAME --data DIR` declares another collection"


@dataclass(frozen=True)
class Sample:
    """One image with its ground truth."""

    image_id: str  # unique in its data set
    image: np.ndarray = field(repr=False)  # [H, W, 3] uint8, RGB; empty where it was not asked for
    # [H, W] int32 panoptic labels; things are numbered from 1 in each class, crowd is void.
    panoptic: np.ndarray = field(repr=False)
    semantic: np.ndarray = field(repr=False)  # [H, W] integer, train ids; void is the ignore label
    # [K] int32, labels of `panoptic` that stand for crowds; empty where crowd is void.
    crowd_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    # As the official scripts read it, crowd regions included; None where the data do not hold it.
    official: OfficialTruth | None = None
    # [S + 1] int32, the label in `panoptic` of each segment of `official`, and of void; None where `panoptic`
    # or the classes of `semantic` do not follow from `official`.
    segment_labels: np.ndarray | None = None


class Dataset(ABC):
    """Images with ground truth in a fixed order."""

    info: DatasetInfo  # the classes of this data set; before one is opened, those of the published data set
    image_ids: tuple[str, ...]  # sorted
    skipped: Mapping[str, str]  # why images that the folder or the ground truth names are left out, by name
    expected_images: int | None  # how many a complete copy has; None where nobody declares it
    contents = "the copy has"  # what holds the images, and a verb, for messages
    # What to do about too few and about too many images.
    advice = (
        f"complete the copy, or --keep-going leaves out what is missing; {ANOTHER_COLLECTION}",
        f"remove those that are not part of the data set; {ANOTHER_COLLECTION}",
    )
    official_run: ClassVar[str] = ""
    """The place (`<module>:<class>`) of the `OfficialRun` that scores predictions; empty if there is none."""

    @property
    def official_obstacle(self) -> str | None:
        """Why the official scripts cannot score this data set, or None where they can."""
        return None if self.official_run else f"there are no official scripts for the format {self.info.name}"

    @property
    def not_measured(self) -> dict[str, str]:
        """Official metric -> why no script can measure it on this data set, while others can be measured."""
        return {}

    def __len__(self) -> int:
        return len(self.image_ids)

    @abstractmethod
    def load(self, index: int, *, picture: bool = True) -> Sample:
        """Returns image `index` of `image_ids`; depends on the files alone, and may run in many threads.

        Args:
          index: position of the image.
          picture: False leaves the image itself unread and `Sample.image` empty, for those who need the
            ground truth alone.

        Raises:
          DataError: a file is missing, broken, or not what its name says.
        """

    def load_for_display(self, index: int) -> Sample:
        """Returns what `load` does; of a JPEG the pixels may differ a little."""
        return self.load(index)

    def image_size(self, index: int) -> tuple[int, int]:
        """Returns height and width of image `index`; raises as `load` does."""
        height, width = self.load(index, picture=False).panoptic.shape
        return height, width

    def prefetch(self, index: int) -> None:  # noqa: B027 - what is on disk needs no fetching
        """Begins to fetch the files of an image that will be loaded soon, where they are in a store."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a SHA-256 over names, sizes and contents of all files that a score depends on."""

    def check_headers(self, index: int) -> None:  # noqa: B027 - a format may have none
        """Looks at the headers of all files of an image, those that only the official scripts read included.

        Raises:
          DataError: a file is missing, cut short, or of a wrong type or size.
        """

    def check_contents(self, index: int) -> None:
        """Decodes the same files; raises as `load` does."""
        self.load(index)

    def check(self) -> list[str]:
        """Returns what is missing or wrong, one line each, without reading all contents."""
        found = list(dict.fromkeys(self.skipped.values()))[:3]
        if len(self.skipped) > len(found):
            found.append(f"and {counted(len(self.skipped) - len(found), 'more image')}")
        total = len(self) + len(self.skipped)
        return found + self.wrong_number(self.contents, total)

    def wrong_number(self, where: str, found: int) -> list[str]:
        """Returns a line where the number of images is not the declared one, else nothing."""
        if self.expected_images is None or found == self.expected_images:
            return []
        advice = self.advice[found > self.expected_images]
        return [f"{where} {counted(found, 'image')}, expected {self.expected_images:,}; {advice}"]


class FolderDataset(Dataset):
    """One split of a data set in the original folders of its format; the folders are only read."""

    layout: ClassVar[str] = ""
    """The folders and files that make the format, for messages."""

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        info: DatasetInfo | None = None,
        expected_images: int | None = None,
        cache: CacheOrFolder = None,
    ) -> None:
        """Lists the images.

        Args:
          root: the folder that `find_root` returned.
          split: name of the split.
          info: the classes, None for those that the annotations list, or else the published data set's.
          expected_images: how many images a complete split has, or None for any number.
          cache: where what is made from the data is kept; None for the default cache.

        Raises:
          DataError: there is no such split, or it has no images with ground truth.
        """
        if info is not None:
            self.info = info
        self.root = root
        self.split = split
        self.expected_images = expected_images
        self.cache = cache
        self.image_ids, self.skipped = self.list_images()

    @classmethod
    def declared_classes(cls, declared: DatasetDeclaration) -> DatasetInfo | None:
        """Returns the classes that a declaration lists, or None where it lists none."""
        return None

    @classmethod
    def find_splits(cls, path: Path) -> list[str]:
        """Returns the splits in a data set's folder, at, below or above `path`; none in another format's."""
        return []

    def unknown_classes(self) -> tuple[ClassDeclaration, ...]:
        """Returns what can be told of the classes where no file names them; nothing where they are known."""
        return ()

    @classmethod
    @abstractmethod
    def find_root(cls, path: Path, split: str) -> Path:
        """Returns the data set's folder at, just below, or just above a path that a user gave.

        Raises:
          DataError: there is none, or more than one.
        """

    @abstractmethod
    def list_images(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Returns the names of the images, sorted, and why others are left out; raises as `__init__` does."""

    @abstractmethod
    def files(self) -> Iterable[str]:
        """Returns the names of all files that a score depends on, relative to `root`."""

    def files_of(self, index: int) -> Sequence[str]:
        """Returns the names of the files that `load` reads for an image, relative to `root`."""
        return ()

    def prefetch(self, index: int) -> None:
        """Begins to fetch the files of an image; see `Dataset.prefetch`."""
        if isinstance(self.root, RemotePath):
            self.root.prefetch(self.files_of(index))

    def local_copy(self, names: Iterable[str]) -> Path:
        """Returns a folder on this machine that holds files under their names, as official scripts read them.

        It is the data set's own where that is on disk; what comes from a store stays until the process ends.

        Args:
          names: of the files, relative to `root`.

        Raises:
          DataError: they do not fit into the cache at once; the line says how much is needed.
        """
        if isinstance(self.root, RemotePath):
            return self.root.local_copy(names, f"the official scripts on {self.root}")
        return self.root

    @cached_property
    def digests(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of each of `files`.

        The first call reads every file once; later ones, also of other processes, read those that changed.
        """
        return file_digests(self.root, self.files(), cache_at(self.cache).folder("fingerprints"))

    def fingerprint(self) -> str:
        """Returns a SHA-256 over `files`: names, sizes, contents; and over classes that no file names."""
        own = "" if self.info == type(self).info else f" {self.info}"
        return digest_of_files(self.digests, about=f"{self.info.name} {self.split}{own}")


# So many images are fetched ahead of the one that is loaded.
_AHEAD = 8


def reading_ahead(dataset: Dataset, indices: Iterable[int]) -> Iterator[int]:
    """Yields positions of images, while files of the following ones are being fetched."""
    waiting: deque[int] = deque()
    for index in indices:
        dataset.prefetch(index)
        waiting.append(index)
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


def images_in_dataset(dataset: Dataset) -> int:
    """Returns how many images the whole data set has: as declared, else all that its files name."""
    return dataset.expected_images or len(dataset) + len(dataset.skipped)


def surplus(dataset: Dataset) -> list[str]:
    """Returns a line where a copy names more images than are declared, else nothing."""
    expected, found = dataset.expected_images, len(dataset) + len(dataset.skipped)
    if expected is None or found <= expected:
        return []
    return [f"has {counted(found, 'image')}, expected {expected:,}; {dataset.advice[1]}"]


def not_measured_lines(not_measured: Mapping[str, str]) -> list[str]:
    """Returns a line for each reason why official metrics cannot be measured."""
    by_reason: dict[str, list[str]] = {}
    for metric, reason in not_measured.items():
        by_reason.setdefault(reason, []).append(metric)
    return [f"  no official {', '.join(metrics)}: {reason}" for reason, metrics in by_reason.items()]


def cache_at(cache: CacheOrFolder) -> Cache:
    """Returns a cache: itself, the one in a folder, or the default one where `cache` is None."""
    from zoo.files.cache import Cache

    return cache if isinstance(cache, Cache) else Cache(cache)
