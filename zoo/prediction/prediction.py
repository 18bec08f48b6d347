"""What a network sees in one image: maps of labels, the instances in them as a table, and a picture."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from zoo.errors import UsageError
from zoo.prediction.forms import PICTURES, write_overlay, writer_of
from zoo.prediction.overlay import draw_overlay, encode_picture
from zoo.prediction.table import INSTANCE_DTYPES, TABLES, instance_rows, require_table, write_table
from zoo.registry.frames import typed_frame
from zoo.repro.datasets.label_shapes import LabelShapes, measure_labels, shrink_labels

if TYPE_CHECKING:
    from pandas import DataFrame
    from typing_extensions import Unpack

    from zoo.model.postprocess.instances import Instances
    from zoo.registry.dataset_info import DatasetInfo

_NOTEBOOK_PX = 1024
"""The longer side of a picture in a notebook."""


class SaveKeywords(TypedDict, total=False):
    """What `Prediction.save` passes on, for editors."""

    alpha: float
    labels: bool
    outlines: bool
    suffix: str


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a network sees in one image, at the size of that image.

    Attributes:
      panoptic: [H, W] int32, class * label_divisor + instance number (0 for stuff), or `void_label`.
      semantic: [H, W] uint8, the most probable class of each pixel, never void.
      scored: the labels, areas and scores of the things in `panoptic`, as arrays.
      classes: names, colours and encoding of the classes, by train id.
      image: [H, W, 3], RGB 0..255, what the prediction was made of; None where it is not known.
      name: of the image: its file's without the suffix; None where the image came as an array.
    """

    panoptic: np.ndarray
    semantic: np.ndarray
    scored: Instances
    classes: DatasetInfo
    image: np.ndarray | None = None
    name: str | None = None

    @cached_property
    def instances(self) -> DataFrame:
        """The instances in `panoptic`, a row for each, in the order in which they first appear, row by row.

        Columns: `label` (int64: its value in the map), `class_id` (int64: train id), `class_name` (string),
        `area_px` (int64), `score` (float64: the mean probability of its class times the heatmap value of its
        center, 0 to about 1, as a heatmap is not bounded; of kMaX-DeepLab the probability of its class times
        the mean probability of its mask), and the box that holds it, `x0_px`, `y0_px`,
        `x1_px`, `y1_px` (int64: half open, from the top left).
        """
        return typed_frame(instance_rows(self.scored, self.shapes, self.classes), INSTANCE_DTYPES)

    def overlay(
        self,
        image: np.ndarray | None = None,
        *,
        alpha: float = 0.5,
        labels: bool = True,
        outlines: bool = True,
    ) -> np.ndarray:
        """Returns the prediction drawn over its image, [H, W, 3] uint8: colours, outlines, names and scores.

        Pixels without a class stay as they are.

        Args:
          image: [H, W, 3], RGB 0..255, to draw on instead of the one that the prediction was made of.
          alpha: how much the colours hide of the image, 0 to 1.
          labels: whether to write the names of classes, and scores, into segments that have room for them.
          outlines: whether to part segments by a light line.

        Raises:
          UsageError: there is no image, or it has another size; or alpha is not in 0 to 1.
        """
        if not 0 <= alpha <= 1:
            raise UsageError(f"overlay: expected alpha from 0 to 1, found {alpha}")
        pixels = self._pixels(image)
        scores = dict(zip(self.scored.labels.tolist(), self.scored.score.tolist(), strict=True))
        return draw_overlay(
            pixels, self.shapes, self.classes, scores, alpha=alpha, labels=labels, outlines=outlines
        )

    def save(
        self,
        path: str | os.PathLike[str],
        form: str | None = None,
        *,
        name: str | None = None,
        **options: Unpack[SaveKeywords],
    ) -> None:
        """Writes the prediction to a file, or into a folder in one of the forms of `zoo predict --write`.

        Args:
          path: a picture (`.jpg`, `.png`) for the overlay, or a table (`.csv`, `.parquet`) of the instances;
            with `form`, a folder, to which several predictions may be saved.
          form: "overlay", "coco", "cityscapes" or "table".
          name: of the image in the folder, and in a table; that of its file unless it is given.
          **options: those of `overlay`; and `suffix`, of the overlay or the table in a folder.

        Raises:
          UsageError: the path does not say what to write, options that it does not have, or no name.
          ZooError: it cannot be written.
        """
        path, name = Path(path), name or self.name
        suffix = path.suffix.lower()
        if form is None and options and (suffix in TABLES or "suffix" in options):
            raise UsageError(f"{path}: expected no such options for this file, found {', '.join(options)}")
        if form is None and suffix in PICTURES:
            write_overlay(path, self, **options)
        elif form is None and suffix in TABLES:
            require_table(suffix, str(path))
            rows = instance_rows(self.scored, self.shapes, self.classes)
            write_table(path, [{"image": name, **row} for row in rows])
        elif form is None:
            known = ", ".join([*PICTURES, *TABLES])
            raise UsageError(f'{path}: expected a file that ends in {known}, or a folder and form="coco"')
        elif name is None:
            raise UsageError(f'{path}: expected the name of the image, as it came as an array: name="street"')
        else:
            writer = writer_of(form, path, self.classes, **options)
            writer.write(name, self)
            writer.finish()

    def class_name(self, label: int) -> str:
        """Returns the name of a panoptic label's class, "void" for pixels without one."""
        return "void" if label == self.void_label else self.class_names[label // self.label_divisor]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by train id."""
        return self.classes.class_names

    @property
    def label_divisor(self) -> int:
        """The divisor of the labels in `panoptic`."""
        return self.classes.label_divisor

    @property
    def void_label(self) -> int:
        """The label of pixels without a class, such as stuff of too small an area."""
        return self.classes.void_label

    @cached_property
    def shapes(self) -> LabelShapes:
        """Areas and bounding boxes of all segments in `panoptic`: things, stuff and void."""
        return measure_labels(self.panoptic)

    def __repr__(self) -> str:
        height, width = self.panoptic.shape
        count = Counter(self.class_name(label) for label in self.scored.labels.tolist())
        seen = ", ".join(f"{number} {name}" for name, number in count.most_common()) or "no instance"
        name = f"{self.name}, " if self.name else ""
        return f"<Prediction {name}{height} x {width}: {seen}>"

    def _repr_png_(self) -> bytes | None:
        """Returns what a notebook shows: the overlay as a PNG, scaled down; None without an image."""
        from PIL import Image

        if self.image is None:
            return None
        height, width = self.panoptic.shape
        scale = min(1.0, _NOTEBOOK_PX / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        image = Image.fromarray(self._pixels(None)).resize(size[::-1], Image.Resampling.LANCZOS)
        shown = replace(self, panoptic=shrink_labels(self.panoptic, size), image=np.asarray(image))
        return encode_picture(shown.overlay(), ".png")

    def _pixels(self, image: np.ndarray | None) -> np.ndarray:
        image = self.image if image is None else np.asarray(image)
        if image is None:
            raise UsageError("overlay: expected the image that the prediction was made of: overlay(image)")
        expected = (*self.panoptic.shape, 3)
        if image.shape != expected:
            raise UsageError(f"overlay: expected an image {list(expected)}, found {list(image.shape)}")
        return image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 255)).astype(np.uint8)
