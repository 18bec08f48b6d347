"""Looks at a folder of images with ground truth, and says what a declaration of it in a registry would be."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from zoo.errors import DataError
from zoo.files.processes import available_cores
from zoo.files.progress import Progress
from zoo.files.words import counted
from zoo.registry.formats import FORMATS, format_class
from zoo.registry.messages import explain_error
from zoo.registry.schema import ClassDeclaration, DatasetDeclaration
from zoo.repro.datasets.dataset import not_measured_lines

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.datasets.dataset import FolderDataset

# More names than these help nobody in a message.
_SHOWN = 12


@dataclass(frozen=True)
class Survey:
    """What is in a folder of images with ground truth.

    Attributes:
      declared: the declaration of it that a registry may hold.
      info: its classes.
      sizes: how many images there are of each (height, width).
      segments: how many segments there are of each train id, crowds included.
      crowds: how many of them are crowds.
      crowd_images: how many images have crowds.
      not_measured: official metric -> why it cannot be measured.
      made_up: whether names of classes had to be invented.
    """

    declared: DatasetDeclaration
    info: DatasetInfo
    sizes: Counter[tuple[int, int]]
    segments: Counter[int]
    crowds: int
    crowd_images: int
    not_measured: dict[str, str]
    made_up: bool = False

    def body(self) -> dict[str, Any]:
        """Returns the declaration as a registry file writes it."""
        return self.declared.model_dump(
            mode="json", exclude={"name"}, exclude_none=True, exclude_defaults=True
        )

    def __str__(self) -> str:
        declared, things = self.declared, set(self.info.thing_class_ids)
        scored = sorted(self.info.train_ids.values())
        names = {
            kind: [self.info.class_names[i] for i in scored if (i in things) == is_thing]
            for kind, is_thing in (("things", True), ("stuff", False))
        }
        parts = [f"{len(found)} {kind} ({_listed(found)})" for kind, found in names.items() if found]
        by_area = sorted(self.sizes, key=lambda size: size[0] * size[1])
        smallest, largest = (f"{by_area[i][0]} x {by_area[i][1]}" for i in (0, -1))
        sizes = f"{len(by_area)} sizes from {smallest} to {largest}" if len(by_area) > 1 else smallest
        crowds = f"{counted(self.crowds, 'crowd')} in {counted(self.crowd_images, 'image')}"
        lines = [
            f"{declared.name}: {counted(declared.images, 'image')} in {declared.path}, format "
            f"{declared.format}, split {declared.split}",
            f"  {counted(len(scored), 'class', 'classes')}: {', '.join(parts)}",
            f"  {sizes} px (height x width)",
            f"  {counted(sum(self.segments.values()), 'segment')}, {crowds if self.crowds else 'no crowds'}",
        ]
        if absent := [self.info.class_names[i] for i in scored if not self.segments[i]]:
            lines.append(f"  in no image: {_listed(absent)}")
        if self.made_up:
            lines.append(
                "  no file names these classes: they are the label ids that were found, in their order; 0 "
                "and 255 are void; --classes FILE names them, or edit the lines"
            )
        lines += not_measured_lines(self.not_measured)
        return "\n".join(lines)


def survey_folder(
    name: str,
    path: Path,
    *,
    data_format: str | None = None,
    split: str | None = None,
    classes: Sequence[ClassDeclaration] = (),
    replaced: Mapping[str, Any] = MappingProxyType({}),
) -> Survey:
    """Looks at all ground truth in a folder.

    Args:
      name: of the data set in the registry.
      path: the folder.
      data_format: one of `zoo.registry.formats.FORMATS`; None to guess it.
      split: which split; None for the only one, or the only one that is called like `val`.
      classes: the classes, for the Cityscapes layout; none to take Cityscapes' where all ids are of these,
        and else to number those that are found.
      replaced: an older declaration, as a registry file writes it, of which the rest is kept.

    Raises:
      DataError: there is no data set of a known format, or it is not complete; the line says what is wrong.
    """
    data_format, split = _find_split(path, data_format, split)
    kind: type[FolderDataset] = format_class(data_format)
    root = kind.find_root(path, split)
    dataset = kind(root, split)
    if dataset.skipped:
        raise DataError(
            f"{root}: {len(dataset.skipped)} of {len(dataset) + len(dataset.skipped)} images cannot be used, "
            f"first: {next(iter(dataset.skipped.values()))}; complete them, or remove them"
        )
    found = () if classes or replaced.get("classes") else dataset.unknown_classes()
    content = {"title": name, **replaced, "name": name, "format": data_format, "split": split}
    content |= {"images": len(dataset), "path": str(root.absolute())}
    if classes or found:
        content["classes"] = [each.model_dump() for each in classes or found]
    declared = _declaration(content, str(path))
    if own := kind.declared_classes(declared):
        dataset = kind(root, split, info=own)
    return replace(_survey(declared, dataset), made_up=bool(found))


def read_classes(path: Path) -> list[ClassDeclaration]:
    """Returns the classes in a JSON file: a list as COCO's `categories` are, or a file that holds such.

    Raises:
      DataError: it is not such a file; the line says where.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from None
    rows = content.get("categories") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f'{path}: expected a list of classes like {{"id": 1, "name": "car", "isthing": 1}}')
    keys = {"id": "id", "name": "name", "isthing": "isthing", "color": "colour", "colour": "colour"}
    found = []
    for number, row in enumerate(rows, start=1):
        known = {keys[key]: value for key, value in row.items() if key in keys}
        if known.get("isthing") in (0, 1):
            known["isthing"] = bool(known["isthing"])
        try:
            found.append(ClassDeclaration.model_validate(known))
        except ValidationError as error:
            where, message = explain_error(ClassDeclaration, error.errors(include_url=False)[0])
            raise DataError(f"{path}: class {number}: {'.'.join(map(str, where))}: {message}") from None
    return found


def _find_split(path: Path, data_format: str | None, split: str | None) -> tuple[str, str]:
    """Returns format and split of the data set in a folder."""
    if not path.is_dir():
        raise DataError(f"{path}: expected the folder of a data set, found none")
    formats = [data_format] if data_format else list(FORMATS)
    found = {name: splits for name in formats if (splits := format_class(name).find_splits(path))}
    if len(found) != 1:
        layouts = "; or ".join(f"{name}: {format_class(name).layout}" for name in found or formats)
        raise DataError(
            f"{path}: holds {'several data sets' if found else 'no data set of a known format'}; expected "
            f"{layouts}{'; choose with --format' if found else ''}"
        )
    ((data_format, splits),) = found.items()
    if split is None:
        named = [name for name in splits if name.startswith("val")] if len(splits) > 1 else splits
        if len(named) != 1:
            raise DataError(f"{path}: has the splits {', '.join(splits)}; choose with --split")
        split = named[0]
    elif split not in splits:
        raise DataError(f"{path}: has no split {split}; splits found: {', '.join(splits)}")
    return data_format, split


def _declaration(content: dict[str, Any], where: str) -> DatasetDeclaration:
    try:
        return DatasetDeclaration.model_validate(content)
    except ValidationError as error:
        path, message = explain_error(DatasetDeclaration, error.errors(include_url=False)[0])
        raise DataError(f"{where}: {'.'.join(map(str, path))}: {message}") from None


def _survey(declared: DatasetDeclaration, dataset: FolderDataset) -> Survey:
    sizes: Counter[tuple[int, int]] = Counter()
    segments: Counter[int] = Counter()
    crowds = crowd_images = 0

    def measure(index: int) -> tuple[tuple[int, int], list[int], int]:
        sample = dataset.load(index, picture=False)
        height, width = sample.panoptic.shape
        if sample.official is None:
            raise DataError(f"{declared.format}: `zoo data add` knows no such format; write the declaration")
        return (height, width), sample.official.class_ids.tolist(), int(sample.official.is_crowd.sum())

    with (
        ThreadPoolExecutor(min(4, available_cores())) as pool,
        Progress("images", len(dataset), show=sys.stderr.isatty()) as progress,
    ):
        for size, class_ids, found in pool.map(measure, range(len(dataset))):
            progress.advance()
            sizes[size] += 1
            segments.update(class_ids)
            crowds, crowd_images = crowds + found, crowd_images + (found > 0)
    missing = dict(dataset.not_measured)
    return Survey(declared, dataset.info, sizes, segments, crowds, crowd_images, missing)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
