"""Opens data sets: those of the registry, and any folder in a known format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DataError
from zoo.registry.formats import format_class
from zoo.remote.path import RemotePath, path_at
from zoo.repro.datasets.dataset import surplus
from zoo.repro.datasets.tfrecord import TFRecordDataset, find_records

if TYPE_CHECKING:
    from zoo.fetch.fetcher import Fetcher
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.registry.schema import DatasetDeclaration
    from zoo.repro.datasets.dataset import CacheOrFolder, Dataset, FolderDataset


def open_dataset(
    declared: DatasetDeclaration,
    data: Path | None,
    fetcher: Fetcher | None = None,
    *,
    keep_going: bool = False,
    needed_by: str = "",
) -> Dataset:
    """Opens a data set of the registry.

    Args:
      declared: its declaration.
      data: its folder, or None for the declared one, or to unpack the archive that it is bundled in.
      fetcher: fetches that archive, and knows the cache; None for the default one.
      keep_going: leave out images that cannot be used, instead of an error.
      needed_by: who needs it, for the error message.

    Raises:
      DataError: it is not there, or not complete; the line says what is missing.
    """
    from zoo.fetch.fetcher import Fetcher

    fetcher = fetcher or Fetcher()
    data = data or _declared_folder(declared)
    if data is None:
        if declared.archive is None:
            who = needed_by or declared.name
            where = f", from {declared.homepage}" if declared.homepage else ""
            raise DataError(f"{who}: needs --data DIR, the folder of {declared.title}{where}")
        data = fetcher.dataset(declared)
    try:
        return _opened(declared, data, fetcher, keep_going=keep_going)
    except DataError:
        # What is missing may have come since the folders were listed.
        if isinstance(data, RemotePath) and data.forget_listings():
            return _opened(declared, data, fetcher, keep_going=keep_going)
        raise


def _opened(declared: DatasetDeclaration, data: Path, fetcher: Fetcher, *, keep_going: bool) -> Dataset:
    kind = format_class(declared.format)
    info, images = kind.declared_classes(declared), declared.images
    dataset = _find(kind, data, declared.split, info, images, fetcher.cache)
    if place := declared.own_place:
        file = place.rpartition(":")[0]
        again = f"`zoo data add {declared.name} --data {data} --out {file} --replace` counts again"
        change = f"change `images:` in {place}, or {again}"
        dataset.advice = (f"{change}; --keep-going leaves out what is missing", change)
    return _complete(dataset, data, keep_going=keep_going)


def classes_of_dataset(declared: DatasetDeclaration) -> DatasetInfo | None:
    """Returns the classes of a data set of the user's own: its table's, or its annotations', at its path.

    None where the declaration has neither: its classes are those of the published data set of its format, or
    are not known before the data are opened.

    Raises:
      DataError: the data set is not at its path, or is broken.
    """
    kind = format_class(declared.format)
    if (own := kind.declared_classes(declared)) or (path := _declared_folder(declared)) is None:
        return own
    return _find(kind, path, declared.split, None, None, None).info


def _declared_folder(declared: DatasetDeclaration) -> Path | None:
    if declared.path is None:
        return None
    path = path_at(declared.path)
    if not path.exists():
        where = f"of the data set {declared.name}, declared in {declared.own_place}"
        raise DataError(f"{path}: `path:` {where}, is not there; change it, or give --data DIR")
    return path


@dataclass(frozen=True)
class OpenElsewhere:
    """Opens a data set on a worker, which must find the images that are there where the run is.

    Attributes:
      declared, data, keep_going: as for `open_dataset`; a path that a worker finds from any current folder.
      images: a SHA-256 over the names of its images.
    """

    declared: DatasetDeclaration
    data: Path | None
    keep_going: bool
    images: str

    @classmethod
    def like(
        cls, dataset: Dataset, declared: DatasetDeclaration, data: Path | None, *, keep_going: bool
    ) -> OpenElsewhere:
        """Returns what opens a data set that must be like one that was opened here so."""
        return cls(declared, data and data.absolute(), keep_going, _digest_of_names(dataset))

    def __call__(self) -> Dataset:
        """Opens the data set; raises a DataError where its images are others."""
        dataset = open_dataset(self.declared, self.data, keep_going=self.keep_going)
        if _digest_of_names(dataset) != self.images:
            raise DataError(
                f"{getattr(dataset, 'root', 'data set')}: expected the images that are there where "
                f"`zoo` was called, found {len(dataset):,} images, and not the same; copy the data set again"
            )
        return dataset


def _digest_of_names(dataset: Dataset) -> str:
    return hashlib.sha256("\n".join(dataset.image_ids).encode()).hexdigest()


def open_files(
    kind: type[FolderDataset],
    path: Path,
    split: str,
    *,
    info: DatasetInfo | None = None,
    expected_images: int | None = None,
    cache: CacheOrFolder = None,
    keep_going: bool = False,
) -> Dataset:
    """Opens a data set of a known format.

    Args:
      kind: the class that reads the format's original folders.
      path: the data set's folder, or the folder above it where there is only one; or TFRecords as DeepLab2
        writes them, a folder or one file.
      split: name of the split.
      info: the classes, None for those that the annotations list, or else the published data set's.
      expected_images: how many images a complete split has, or None for any number.
      cache: where what is made from the data is kept; None for the default cache.
      keep_going: leave out images that cannot be used, instead of an error; too many images still are one.

    Raises:
      DataError: nothing of the kind is there, or it is not complete; the line says what is missing.
    """
    return _complete(_find(kind, path, split, info, expected_images, cache), path, keep_going=keep_going)


def _find(
    kind: type[FolderDataset],
    path: Path,
    split: str,
    info: DatasetInfo | None,
    images: int | None,
    cache: CacheOrFolder,
) -> Dataset:
    # The names of TFRecords have the split without a year.
    records = find_records(path, split.rstrip("0123456789"))
    if records:
        return TFRecordDataset(records, info or kind.info, expected_images=images)
    root = kind.find_root(path, split)
    return kind(root, split, info=info, expected_images=images, cache=cache)


def _complete(dataset: Dataset, path: Path, *, keep_going: bool) -> Dataset:
    # Which of too many images do not belong cannot be told: leaving some out would be a guess.
    problems = surplus(dataset) if keep_going else dataset.check()
    if problems:
        raise DataError(f"{path}: " + "; ".join(problems))
    return dataset


def find_folder(path: Path, is_root: Callable[[Path], bool], parts: Sequence[str], expected: str) -> Path:
    """Returns the folder of a data set at, just below, or just above a path that a user gave.

    Args:
      path: what the user gave.
      is_root: whether a folder is the data set's.
      parts, expected: folders in it, and all that should be there, for the error message.

    Raises:
      DataError: there is no such folder, or more than one.
    """
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise DataError(f"{path}: {what}; expected the folder that holds {' and '.join(parts)}")
    if is_root(path):
        return path
    if path.name in parts and is_root(path.parent):
        return path.parent
    found = sorted(folder for folder in path.iterdir() if is_root(folder))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(folder.name for folder in found)
        raise DataError(f"{path}: more than one data set is in there ({names}); give one of them")
    raise DataError(f"{path}: has no folder {parts[0]}; expected {expected}")
