"""Writes a corrected copy of predictions, as far as what is wrong has one remedy alone."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.files.atomic import writing
from zoo.files.cache import UNFINISHED_SUFFIX
from zoo.files.signatures import showing_options_of
from zoo.files.words import counted
from zoo.repro.datasets.dataset import Dataset
from zoo.repro.datasets.label_shapes import measure_labels
from zoo.repro.predictions.check import all_findings, opened_dataset
from zoo.repro.predictions.finding import Finding
from zoo.repro.predictions.label_maps import LabelMaps
from zoo.repro.predictions.naming import ClassIds, ImageNames
from zoo.repro.predictions.panoptic_json import annotations_of, image_of_row
from zoo.repro.predictions.panoptic_maps import PanopticMaps, ReadPanoptic
from zoo.repro.predictions.predictions import Predictions, open_predictions
from zoo.repro.predictions.scored_masks import RunLengths, ScoredMasks, TextMasks

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zoo.registry.lookup import RegistryLike
    from zoo.repro.predictions.naming import Ids
    from zoo.repro.predictions.predictions import ReadingKeywords

_SHOWN = 5
_PERCENT = "score-percent"
# What is wrong with the pixels of a panoptic PNG file, and goes with writing it again.
_PIXELS = {"colour-type", "channel-order"}
_RENUMBERED = {"original-ids", "train-ids", "contiguous-ids"}


@dataclass(frozen=True)
class PredictionsFix:
    """What a corrected copy has changed, and what it has left.

    Attributes:
      path, out: the predictions, and their copy.
      changed: how many findings of each kind are mended.
      left: what is still wrong.
    """

    path: str
    out: str
    changed: dict[str, int]
    left: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns what was done as JSON values."""
        left = [{"kind": finding.kind, "message": str(finding)} for finding in self.left]
        return {"path": self.path, "out": self.out, "changed": self.changed, "left": left}

    def __str__(self) -> str:
        lines = [f"{self.out}: corrected copy of {self.path}"]
        lines += [f"  mended {kind}: {counted(count, 'time')}" for kind, count in self.changed.items()]
        if not self.changed:
            lines.append("  nothing to mend without a doubt")
        lines += [f"  left: {finding}" for finding in self.left[:_SHOWN]]
        if len(self.left) > _SHOWN:
            lines.append(f"  and {len(self.left) - _SHOWN:,} more left")
        return "\n".join(lines)


@showing_options_of(open_predictions)
def fix_predictions(
    path: Path | str,
    out: Path | str,
    dataset: Dataset | str,
    data: Path | str | None = None,
    *,
    registry: RegistryLike | None = None,
    **reading: Unpack[ReadingKeywords],
) -> PredictionsFix:
    """Writes a corrected copy of predictions into a new folder, and says what was changed and what was left.

    What has more than one remedy is copied as it is, and so are files that are correct.

    Args:
      path, dataset, data, registry: as for `check_predictions`.
      out: the copy's folder; must be empty, or not there.
      **reading: `form`, `divisor` and `ids`, as for `check_predictions`.

    Raises:
      DataError: the predictions or the data set cannot be read.
      UsageError: `out` is not empty, or lies in the predictions.
      ZooError: it cannot be written; then nothing is left of it.
    """
    opened = opened_dataset(dataset, data, registry)
    predictions = open_predictions(Path(path), opened, **reading)
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: expected a new or an empty folder for the corrected copy")
    if Path(path).is_dir() and target.resolve().is_relative_to(Path(path).resolve()):
        raise UsageError(f"{target}: expected a folder outside of the predictions, {path}")
    folder = target.with_name(target.name + UNFINISHED_SUFFIX)
    with writing(target, "give another folder"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            changed, left = _Fixing(predictions, folder, reading.get("ids")).run()
            folder.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return PredictionsFix(str(path), str(out), changed, left)


class _Fixing:
    """Writes corrected files first, then all others as they are."""

    def __init__(self, predictions: Predictions, folder: Path, ids: Ids | None) -> None:
        self._predictions = predictions
        self._dataset = predictions.dataset
        self._storage = predictions.storage
        self._folder = folder
        self._names = ImageNames(predictions.dataset)
        self._expected = ClassIds(predictions.dataset.info, ids or "original")
        self._written: set[str] = set()
        self._rows: dict[str, dict[str, Any]] = {}  # corrected rows of the panoptic JSON by image
        self._left: list[Finding] = []
        self._mended: Counter[str] = Counter()

    def run(self) -> tuple[dict[str, int], tuple[Finding, ...]]:
        """Returns how many findings of each kind are mended, and what is left."""
        parts = self._predictions.parts
        findings = [*self._predictions.problems, *all_findings(self._predictions)]
        for part in (parts.panoptic, parts.semantic):
            if isinstance(part, LabelMaps):
                self._fix_numbers(part, findings)
        if isinstance(parts.panoptic, PanopticMaps):
            self._fix_panoptic(parts.panoptic, findings)
        if parts.masks is not None and any(finding.fixable for finding in parts.masks.findings):
            self._fix_masks(parts.masks)
        for name in self._storage.names:
            if name not in self._written:
                self._write(name, self._storage.read(name))
        left = {id(finding) for finding in self._left}
        for finding in findings:
            if finding.fixable and id(finding) not in left:
                self._mended[finding.kind] += 1
            elif not finding.fixable:
                self._left.append(finding)
        return dict(self._mended), tuple(self._left)

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._written.add(name)

    def _fix_numbers(self, maps: LabelMaps, findings: list[Finding]) -> None:
        """Writes the maps with findings again; all, where they are numbered otherwise."""
        titles = {self._storage.title(maps.file_of(image_id)): image_id for image_id in maps.image_ids}
        mine = [finding for finding in findings if finding.file in titles]
        stuck = {finding.file for finding in mine if not finding.fixable}
        self._left += [finding for finding in mine if finding.fixable and finding.file in stuck]
        renumber = any(finding.kind in _RENUMBERED for finding in mine)
        chosen = titles.keys() if renumber else {finding.file for finding in mine}
        for title in sorted(chosen - stuck):
            name = maps.file_of(titles[title])
            values = maps.corrected(titles[title], self._predictions.size_of(titles[title]))
            if values is not None:
                self._write(name, _encoded(values, name, wide=maps.divisor > 1))

    def _fix_panoptic(self, maps: PanopticMaps, findings: list[Finding]) -> None:
        """Writes rows and PNG files of images with findings again; all rows, where the JSON has some."""
        about = {finding.image_id for finding in findings if finding.fixable}
        whole = any(finding.fixable for finding in maps.findings)
        for image_id in maps.image_ids:
            if not whole and image_id not in about:
                continue
            read, mine = maps.panoptic(image_id, self._predictions.size_of(image_id))
            if read is None or any(finding.blocks and not finding.fixable for finding in mine):
                stuck = set(mine)
                self._left += [finding for finding in findings if finding.fixable and finding in stuck]
                continue
            if whole or mine:
                self._fix_image(maps, image_id, read, mine)
        if self._rows:
            self._write_json(maps)

    def _fix_image(
        self, maps: PanopticMaps, image_id: str, read: ReadPanoptic, findings: list[Finding]
    ) -> None:
        entry = maps.entries[image_id]
        shapes = measure_labels(read.labels)
        place = {label: position for position, label in enumerate(shapes.labels.tolist())}
        percent = any(finding.kind == _PERCENT for finding in maps.findings)
        listed = []
        ids = np.zeros(len(shapes.labels), np.int32)
        for position, label in enumerate(read.segment_labels.tolist()):
            if label not in place:
                continue
            at = place[label]
            ids[at] = entry.segments.ids[position]
            x0, y0, x1, y1 = shapes.boxes[at].tolist()
            score = float(entry.segments.scores[position])
            number = self._expected.number_of[label // self._dataset.info.label_divisor]
            row: dict[str, Any] = {"id": int(ids[at]), "category_id": number, "area": int(shapes.areas[at])}
            row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
            listed.append(row if np.isnan(score) else {**row, "score": score / 100 if percent else score})
        self._rows[image_id] = {
            "image_id": self._names.official(image_id),
            "file_name": entry.file_name,
            "segments_info": listed,
        }
        if any(finding.kind in _PIXELS for finding in findings):
            pixels = ids[shapes.index]
            rgb = np.stack([pixels & 255, pixels >> 8 & 255, pixels >> 16], axis=-1).astype(np.uint8)
            self._write(maps.file_of(image_id), _png(rgb))

    def _write_json(self, maps: PanopticMaps) -> None:
        """Writes the JSON with the corrected rows in the places of the old ones, each image once."""
        content: Any = {"annotations": []}
        if maps.json_name in self._storage:
            content = json.loads(self._storage.read(maps.json_name))
        rows = []
        waiting = dict(self._rows)
        for row in annotations_of(content) or ():
            image_id = image_of_row(row, maps.title, self._names)[0] if isinstance(row, dict) else None
            if image_id in waiting:
                rows.append(waiting.pop(image_id))
            elif image_id not in self._rows:
                rows.append(row)
        rows += waiting.values()
        corrected = {**content, "annotations": rows} if isinstance(content, dict) else {"annotations": rows}
        self._write(maps.json_name, json.dumps(corrected).encode())

    def _fix_masks(self, masks: ScoredMasks) -> None:
        """Writes the lists of instances again, with the expected classes and scores up to 1."""
        scale = 0.01 if any(finding.kind == _PERCENT for finding in masks.findings) else 1.0
        number_of = {
            number: self._expected.number_of[train_id]
            for number, train_id in masks.classes.train_id_of.items()
        }
        for name in sorted({masks.file_of(image_id) for image_id in masks.image_ids}):
            data = self._storage.read(name)
            if isinstance(masks, TextMasks):
                lines = [_corrected_line(line, number_of, scale) for line in data.decode().splitlines()]
                self._write(name, "".join(f"{line}\n" for line in lines).encode())
            elif isinstance(masks, RunLengths):
                entries = json.loads(data)
                for entry in entries:
                    if isinstance(entry, dict) and entry.get("category_id") in number_of:
                        entry["category_id"] = number_of[entry["category_id"]]
                        entry["score"] = float(entry["score"]) * scale
                    image_id = self._names.of_text(str(entry.get("image_id", "")))
                    if image_id is not None:
                        entry["image_id"] = self._names.official(image_id)
                self._write(name, json.dumps(entries).encode())


def _corrected_line(line: str, number_of: dict[int, int], scale: float) -> str:
    words = line.split()
    if len(words) != 3 or not words[1].isdecimal() or int(words[1]) not in number_of:
        return line
    return f"{words[0]} {number_of[int(words[1])]} {float(words[2]) * scale!r}"


def _encoded(values: np.ndarray, name: str, *, wide: bool) -> bytes:
    """Returns a map of numbers as the kind of file that its name says."""
    if name.endswith(".npy"):
        file = io.BytesIO()
        np.save(file, values)
        return file.getvalue()
    # Void does not always fit into 16 bits; 65535 is read as void too.
    is_wide = wide or values.max() > 255
    return _png(np.minimum(values, 65535).astype(np.uint16 if is_wide else np.uint8))


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
