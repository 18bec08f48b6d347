"""Writes predictions to a folder, in the forms that people and other programs read.

    overlay      NAME_overlay.jpg (or .png): the prediction over its image
    coco         panoptic/NAME.png and panoptic.json; semantic/NAME.png, the semantic head's map
    cityscapes   these, and instance/NAME.txt with instance/masks/NAME/*.png
    table        instances.csv (or .parquet)

An image's files are written as it comes, each whole or not at all; `panoptic.json` and the table are made of
`panoptic/NAME.json` and `table/NAME.json` at the end. Forms may share a folder.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zoo.errors import UsageError
from zoo.files.atomic import write_atomically
from zoo.prediction.overlay import encode_picture, require_size
from zoo.prediction.table import INSTANCES, instance_rows, require_table, write_table
from zoo.repro.datasets.colours import class_colours
from zoo.repro.datasets.predictions import INSTANCE, PANOPTIC, assemble_panoptic_json, write_predictions

if TYPE_CHECKING:
    import numpy as np

    from zoo.model.postprocess.instances import Instances
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.datasets.label_shapes import LabelShapes

PICTURES = (".jpg", ".jpeg", ".png")
"""The suffixes of overlays on disk."""

_TABLE = "table"

_COCO_NAME = re.compile("[0-9]{12}")
"""What COCO calls an image: its number."""


class Predicted(Protocol):
    """What is written of a `Prediction`, which see."""

    @property
    def panoptic(self) -> np.ndarray: ...  # noqa: D102
    @property
    def semantic(self) -> np.ndarray: ...  # noqa: D102
    @property
    def scored(self) -> Instances: ...  # noqa: D102
    @property
    def shapes(self) -> LabelShapes: ...  # noqa: D102
    @property
    def overlay(self) -> Callable[..., np.ndarray]: ...  # noqa: D102


class Writer(ABC):
    """Writes predictions in one form. An image's name may be a path below the folder, and hold blanks."""

    def __init__(self, folder: Path, classes: DatasetInfo) -> None:
        self.folder = folder
        self.classes = classes

    @abstractmethod
    def has(self, name: str) -> bool:
        """Returns whether all of an image is there."""

    @abstractmethod
    def write(self, name: str, prediction: Predicted) -> None:
        """Writes the files of one image; raises a ZooError where one cannot be written."""

    def require_fit(self, name: str, image: np.ndarray | None = None) -> None:
        """Raises a UsageError where an image's name, or its size, is beyond what the form can hold."""
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UsageError("expected a name in UTF-8, as the files of lists are; rename it") from None

    def finish(self, names: Iterable[str] | None = None) -> None:  # noqa: B027 - a form may need nothing
        """Writes what is made of several images: of those called `names`, or of all in the folder."""

    def _names(self, part: str) -> Iterator[str]:
        """Yields the names of the images that have an entry in a part of the folder, sorted."""
        for path in sorted((self.folder / part).rglob("*.json")):
            yield path.relative_to(self.folder / part).as_posix().removesuffix(".json")


class OverlayWriter(Writer):
    """Writes pictures that end in `suffix`; the options are those of `Prediction.overlay`."""

    def __init__(self, folder: Path, classes: DatasetInfo, *, suffix: str = ".jpg", **options: Any) -> None:
        super().__init__(folder, classes)
        if suffix not in PICTURES:
            raise UsageError(f"overlay: expected a suffix of {', '.join(PICTURES)}, found {suffix!r}")
        self._suffix, self._options = suffix, options

    def path(self, name: str) -> Path:
        """Returns the picture of an image."""
        return self.folder / f"{name}_overlay{self._suffix}"

    def has(self, name: str) -> bool:  # noqa: D102
        return self.path(name).exists()

    def require_fit(self, name: str, image: np.ndarray | None = None) -> None:  # noqa: D102
        if image is not None:
            try:
                require_size(image, self._suffix)
            except UsageError as error:
                raise UsageError(f"{error} with --write overlay.png") from None

    def write(self, name: str, prediction: Predicted) -> None:  # noqa: D102
        write_overlay(self.path(name), prediction, **self._options)


class CocoWriter(Writer):
    """Writes panoptic and semantic maps as PNG files, and the segments with areas, boxes and scores."""

    _things_as = ""

    def has(self, name: str) -> bool:  # noqa: D102
        return (self.folder / PANOPTIC / f"{name}.json").exists()

    def write(self, name: str, prediction: Predicted) -> None:  # noqa: D102
        write_predictions(
            self.folder,
            name,
            panoptic=prediction.panoptic,
            semantic=prediction.semantic,
            instances=prediction.scored,
            info=self.classes,
            things_as=self._things_as,
        )

    def finish(self, names: Iterable[str] | None = None) -> None:
        """Writes `panoptic.json`; COCO's images go by their numbers there, all others by their names."""
        names = list(self._names(PANOPTIC) if names is None else names)
        is_coco = self.classes.name == "coco"
        numbers = {name: int(name) for name in names if is_coco and _COCO_NAME.fullmatch(name)}
        assemble_panoptic_json(self.folder, names, numbers, categories=list(_categories(self.classes)))


class CityscapesWriter(CocoWriter):
    """Writes a mask and a line of each instance too, as the official Cityscapes script reads them."""

    _things_as = "masks"

    def has(self, name: str) -> bool:  # noqa: D102
        return super().has(name) and (self.folder / INSTANCE / f"{name}.txt").exists()


class TableWriter(Writer):
    """Writes one table of the instances in all images."""

    def __init__(self, folder: Path, classes: DatasetInfo, *, suffix: str = ".csv") -> None:
        super().__init__(folder, classes)
        require_table(suffix, "table")
        self._suffix = suffix

    def has(self, name: str) -> bool:  # noqa: D102
        return self._entry(name).exists()

    def write(self, name: str, prediction: Predicted) -> None:  # noqa: D102
        rows = instance_rows(prediction.scored, prediction.shapes, self.classes)
        write_atomically(self._entry(name), json.dumps(rows), durable=False)

    def finish(self, names: Iterable[str] | None = None) -> None:  # noqa: D102
        names = self._names(_TABLE) if names is None else names
        rows = (
            {"image": name, **row}
            for name in names
            for row in json.loads(self._entry(name).read_text(encoding="utf-8"))
        )
        write_table(self.folder / f"{INSTANCES}{self._suffix}", rows)

    def _entry(self, name: str) -> Path:
        return self.folder / _TABLE / f"{name}.json"


FORMS: Mapping[str, type[Writer]] = {
    "overlay": OverlayWriter,
    "coco": CocoWriter,
    "cityscapes": CityscapesWriter,
    "table": TableWriter,
}
"""What writes each form."""


def writer_of(form: str, folder: Path, classes: DatasetInfo, **options: Any) -> Writer:
    """Returns the writer of a form; nothing is written yet.

    Args:
      form: of `FORMS`.
      folder: made where it is not there.
      classes: of the predictions.
      **options: `suffix` of an overlay (".jpg", ".png") or of a table (".csv", ".parquet"); an overlay takes
        those of `Prediction.overlay` too.

    Raises:
      UsageError: there is no such form, or an option is not one of its own.
    """
    if form not in FORMS:
        raise UsageError(f"expected one of the forms {', '.join(FORMS)}, found {form!r}")
    try:
        return FORMS[form](folder, classes, **options)
    except TypeError:
        raise UsageError(f"{form}: expected no such options, found {', '.join(options)}") from None


def write_overlay(path: Path, prediction: Predicted, **options: Any) -> None:
    """Writes a prediction over its image as the JPEG or PNG file `path`."""
    try:
        data = encode_picture(prediction.overlay(**options), path.suffix)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    write_atomically(path, data, durable=False)


def _categories(classes: DatasetInfo) -> Iterator[dict[str, Any]]:
    """Yields the categories of a data set as COCO's panoptic annotations list them."""
    colours = class_colours(classes).tolist()
    for train_id, (category, name) in enumerate(zip(classes.original_ids, classes.class_names, strict=True)):
        if train_id != classes.ignore_label:
            is_thing = int(train_id in classes.thing_class_ids)
            yield {"id": category, "name": name, "isthing": is_thing, "color": colours[train_id]}
