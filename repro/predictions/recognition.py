"""Recognises the forms of predictions that files hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from zoo.errors import DataError, UsageError
from zoo.files.words import counted
from zoo.repro.predictions.finding import Finding, FindingError
from zoo.repro.predictions.json_forms import JsonForms
from zoo.repro.predictions.label_maps import LabelMaps
from zoo.repro.predictions.naming import ClassIds, Ids, ImageNames
from zoo.repro.predictions.panoptic_maps import PanopticMaps
from zoo.repro.predictions.pixels import GREY_16, HEAD_BYTES, JPEG, NPY, RGB_8, RGB_16, RGBA_8, kind_of
from zoo.repro.predictions.scored_masks import ScoredMasks, TextMasks

if TYPE_CHECKING:
    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.predictions.storage import Storage

FORMS = {
    "coco": "COCO panoptic JSON with PNG files of segment ids",
    "label_ids": "PNG files of class ids",
    "divisor": "arrays or PNG files of class * divisor + instance",
    "instances": "Cityscapes instance files with masks, or COCO results with run lengths",
}
"""The forms of predictions by name."""

_WITHOUT = {
    "coco": "; an image without any segment has an entry and a file too",
    "instances": "; that of an image without instances is empty",
}
_PICTURES = (".png", ".npy", ".jpg", ".jpeg")
_OVERLAY = "_overlay"
"""Ends the names of pictures of predictions."""
_SHOWN = 3


@dataclass
class Parts:
    """The forms that were found, and what is wrong with them as a whole."""

    panoptic: PanopticMaps | LabelMaps | None = None
    semantic: LabelMaps | None = None
    masks: ScoredMasks | None = None
    covered: dict[str, Collection[str]] = field(default_factory=dict)  # images of each form by its name
    findings: list[Finding] = field(default_factory=list)
    has_scores: bool = False

    @property
    def form(self) -> str:
        """The forms by name."""
        return " + ".join(self.covered)

    @property
    def holds(self) -> frozenset[str]:
        """Which of panoptic, semantic and instances there is."""
        held = {
            "panoptic": self.panoptic is not None,
            "semantic": self.semantic is not None,
            "instances": self.masks is not None or self.has_scores,
        }
        return frozenset(name for name, is_held in held.items() if is_held)

    def has(self, image_id: str) -> bool:
        """Returns whether every form has an image."""
        return all(image_id in images for images in self.covered.values())


def recognise(
    storage: Storage, dataset: Dataset, *, form: str | None, divisor: int | None, ids: Ids | None
) -> Parts:
    """Returns the forms that some files hold.

    Args:
      storage: the files.
      dataset: whose images they are about.
      form: one of `FORMS` to look for that alone.
      divisor: of class * divisor + instance.
      ids: by which numbers pixels call classes; None for what each form has by default.

    Raises:
      FindingError: nothing can be read at all.
      UsageError: there is no such form, or the divisor is not 2 or more, or there is nothing to use it for.
    """
    if form is not None and form not in FORMS:
        raise UsageError(f"there is no form {form!r} of predictions; expected one of {', '.join(FORMS)}")
    if divisor is not None and divisor < 2:
        raise UsageError(f"--divisor {divisor}: expected 2 or more")
    return _Recognition(storage, dataset, form, divisor, ids).run()


class _Recognition:
    """Takes file after file as part of a form, until none is left that is about an image."""

    def __init__(
        self, storage: Storage, dataset: Dataset, form: str | None, divisor: int | None, ids: Ids | None
    ) -> None:
        self._storage = storage
        self._dataset = dataset
        self._form = form
        self._divisor = divisor
        self._ids = ids
        self._names = ImageNames(dataset)
        self._parts = Parts()
        self._unknown: dict[str, list[str]] = {}  # files or entries that are about no image, by their file
        self._lists_segments = False
        self._title = str(storage.path)

    def run(self) -> Parts:
        pictures = {
            name
            for name in self._storage.names
            if name.lower().endswith(_PICTURES) and not PurePosixPath(name).stem.endswith(_OVERLAY)
        }
        if self._form in (None, "coco", "instances"):
            self._take_json(pictures)
        if self._form in (None, "instances"):
            self._take_text(pictures)
        if self._form not in ("coco", "instances"):
            self._take_pictures(pictures)
        parts = self._parts
        if not parts.covered:
            raise FindingError(self._nothing(pictures))
        if self._divisor is not None and "divisor" not in parts.covered:
            raise UsageError(
                f"--divisor {self._divisor}: expected maps of class * divisor + instance, found {parts.form} "
                f"in {self._title}; leave it out, or read such maps alone with --form divisor"
            )
        for name, images in parts.covered.items():
            self._look_for_missing(name, images)
        for title, unknown in self._unknown.items():
            self._note_unknown(title, unknown)
        self._note_junk()
        return parts

    def _take_json(self, pictures: set[str]) -> None:
        found, parts = JsonForms(self._storage, self._names, self._class_ids("original")), self._parts
        found.read(self._form, pictures)
        self._lists_segments = found.lists_segments
        parts.findings += found.findings
        self._unknown |= found.unknown
        if found.panoptic is not None:
            parts.panoptic, parts.has_scores = found.panoptic, found.panoptic.has_scores
            parts.covered["coco"] = found.panoptic.image_ids
        if found.instances is not None:
            parts.masks = found.instances
            parts.covered["instances"] = found.instances.image_ids
        given = self._storage.only_json
        if given and not (parts.covered or found.lists_segments or found.unknown):
            title, expected = self._storage.title(given), "COCO panoptic annotations, or COCO results"
            other = Finding("form", title, expected, "neither", "give the folder for other forms")
            raise FindingError(next((finding for finding in found.findings if finding.blocks), other))

    def _class_ids(self, by_default: Ids) -> ClassIds:
        return ClassIds(self._dataset.info, self._ids or by_default)

    def _take_text(self, pictures: set[str]) -> None:
        """Takes Cityscapes' instance files, and from `pictures` the masks."""
        texts = [name for name in self._storage.names if name.endswith(".txt")]
        files = self._by_image([name for name in texts if self._names.of_file(name) is not None])
        if not files:
            return
        masks = TextMasks(self._storage, files, self._class_ids("original"))
        self._parts.findings += masks.findings
        self._parts.masks = masks
        self._parts.covered["instances"] = masks.image_ids
        pictures -= masks.mask_files | {name for name in pictures if "masks" in PurePosixPath(name).parts}

    def _take_pictures(self, pictures: set[str]) -> None:
        kinds: dict[str, set[str]] = {}
        for name in pictures:
            try:
                kind = kind_of(self._storage.head(name, HEAD_BYTES))
            except DataError:
                kind = "broken"
            kinds.setdefault(kind, set()).add(name)
        wide = kinds.get(GREY_16, set()) | kinds.get(NPY, set())
        if self._divisor is None and max(self._dataset.info.original_ids) > 255:
            wide = set()
        coloured = set().union(*(kinds.get(kind, set()) for kind in (RGB_8, RGBA_8, RGB_16, JPEG)))
        narrow = pictures - wide - coloured
        if self._form == "divisor" or (self._divisor is not None and self._parts.panoptic is None):
            chosen = wide or pictures
            self._take_encoded(chosen)
            narrow -= chosen
            coloured -= chosen
        elif wide and self._form is None and not self._parts.covered:
            self._need_divisor(wide, narrow)
        elif self._form is None and not self._lists_segments:
            coloured -= self._without_json(coloured)
        if self._form in (None, "label_ids"):
            self._take_label_ids(narrow, coloured, wide if self._form else set())

    def _without_json(self, coloured: set[str]) -> set[str]:
        """Returns the files of segment ids, by the name of their folder, for which there is no JSON file."""
        found = {name for name in coloured if "panoptic" in PurePosixPath(name).parent.name}
        for folder in sorted({str(PurePosixPath(name).parent) for name in found}):
            title, expected = (
                self._storage.title(folder),
                f"{PurePosixPath(folder).name}.json beside the folder",
            )
            remedy = "write the categories of the segments in the COCO panoptic format"
            self._parts.findings.append(Finding("json-missing", title, expected, "none", remedy))
        return found

    def _need_divisor(self, wide: set[str], narrow: set[str]) -> None:
        if narrow:
            return
        files = self._storage.title(sorted(wide)[0])
        expected = "class * divisor + instance with a known divisor"
        found = f"no divisor for {counted(len(wide), 'file')} of this kind"
        remedy = "give --divisor (1000 and 256 are common), or --form label_ids for classes alone"
        raise FindingError(Finding("divisor", files, expected, found, remedy))

    def _take_encoded(self, chosen: set[str]) -> None:
        files = self._by_image(sorted(chosen))
        if not files:
            return
        ids = self._class_ids("train")
        if self._divisor is None:
            self._need_divisor(chosen, set())
        maps = LabelMaps(self._storage, files, ids, self._divisor or 1)
        self._parts.panoptic = maps
        self._parts.covered["divisor"] = maps.image_ids

    def _take_label_ids(self, narrow: set[str], coloured: set[str], wide: set[str]) -> None:
        files = self._by_image(sorted(narrow | wide))
        # Pictures in colours are for people; where an image has nothing else, they are meant as labels.
        if files or not self._parts.covered:
            known = {name for name in coloured if self._names.of_file(name) is not None}
            rest = known if known or files else coloured
            files |= self._by_image(sorted(name for name in rest if self._names.of_file(name) not in files))
        if not files:
            return
        maps = LabelMaps(self._storage, files, self._class_ids("original"), 1)
        self._parts.semantic = maps
        self._parts.covered["label_ids"] = maps.image_ids

    def _by_image(self, names: list[str]) -> dict[str, str]:
        """Returns the file of each image; files of no image are noted, and images with two are a finding."""
        found: dict[str, str] = {}
        for name in names:
            image_id = self._names.of_file(name)
            if image_id is None:
                folder = self._storage.title(str(PurePosixPath(name).parent))
                self._unknown.setdefault(folder, []).append(PurePosixPath(name).name)
            elif image_id in found:
                expected = f"one file for image {image_id}"
                others = f"{found[image_id]} and {name}"
                title = self._storage.title(name)
                remedy = "remove one; the official script refuses both"
                finding = Finding("file-twice", title, expected, others, remedy, image_id=image_id)
                self._parts.findings.append(finding)
            else:
                found[image_id] = name
        return found

    # ---- what is not there, and what is too much ----

    def _look_for_missing(self, form: str, images: Collection[str]) -> None:
        kinds = ("file-missing", "entry-missing")
        known = {finding.image_id for finding in self._parts.findings if finding.kind in kinds}
        for image_id in self._dataset.image_ids:
            if image_id not in images and not (form == "coco" and image_id in known):
                expected = f"a prediction for image {image_id} ({FORMS[form]})"
                remedy = f"write it{_WITHOUT.get(form, '')}"
                self._parts.findings.append(
                    Finding("image-missing", self._title, expected, "none", remedy, image_id=image_id)
                )

    def _note_unknown(self, title: str, unknown: list[str]) -> None:
        for name in unknown:
            expected = f"images of the data set, such as {self._dataset.image_ids[0]}"
            remedy = "remove it; it is not scored"
            self._parts.findings.append(Finding("image-unknown", title, expected, name, remedy, blocks=False))

    def _note_junk(self) -> None:
        for name in self._storage.junk:
            title, expected = self._storage.title(name), "files of predictions alone"
            found = "a file of the operating system"
            self._parts.findings.append(Finding("junk", title, expected, found, blocks=False))

    def _nothing(self, pictures: set[str]) -> Finding:
        """Returns why nothing can be read."""
        for finding in self._parts.findings:
            if finding.blocks:
                return finding
        names = self._storage.names
        images = f"names of images such as {self._dataset.image_ids[0]}"
        unknown = [name for found in self._unknown.values() for name in found]
        if unknown:
            what = ", ".join(unknown[:_SHOWN])
            remedy = "give the data set that they are predictions for, or rename them"
            return Finding("image-unknown", self._title, images, what, remedy)
        extensions = Counter(PurePosixPath(name).suffix or "no extension" for name in names)
        listed = ", ".join(f"{number} {suffix}" for suffix, number in extensions.most_common(_SHOWN))
        looked = FORMS[self._form] if self._form else "; ".join(FORMS.values())
        return Finding(
            "form", self._title, looked, listed or "no file", "see `zoo score --help` for the forms"
        )
