"""What the files of a split are called in data sets of COCO's form, and what brings each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["images", "panoptic", "instance"]

# The archive of the COCO download that holds each part.
_COCO_ARCHIVES: dict[Kind, str] = {
    "images": "val2017.zip",
    "panoptic": "panoptic_annotations_trainval2017.zip",
    "instance": "annotations_trainval2017.zip",
}

# The folders of ADE20K's images have longer names than its annotations.
_ADE20K_FOLDERS = {"train": "training", "val": "validation"}


class Origin(NamedTuple):
    """What to say about a file that is missing, and about one that is broken."""

    missing: str = "expected it there"
    broken: str = "make the file again"


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split, relative to the data set's folder.

    Attributes:
      images: the folder of images.
      panoptic: the panoptic annotations; their PNG files are in the folder of this name.
      instances: the instance annotations.
      folders: two folders, of which a data set's folder has at least one.
      download: what a complete copy is made from, in words; empty for a collection of the user's own.
      origins: what brings the files of each kind.
      needs_instances: whether the instance annotations belong to a complete copy.
      is_secret: whether the ground truth is not public.
      names_vary: whether files call the same classes by different names, so that ids alone count.
      things_cover_stuff: whether things were drawn over stuff after its areas had been counted.
    """

    images: str
    panoptic: str
    instances: str
    folders: tuple[str, str]
    download: str = ""
    origins: Mapping[Kind, Origin] = field(default_factory=dict)
    needs_instances: bool = False
    is_secret: bool = False
    names_vary: bool = False
    things_cover_stuff: bool = False

    def missing(self, kind: Kind) -> str:
        """Returns what to say about a missing file."""
        return self.origins.get(kind, Origin()).missing

    def broken(self, kind: Kind) -> str:
        """Returns what to do about a broken file."""
        return self.origins.get(kind, Origin()).broken


NamesFiles = Callable[[str], SplitFiles]
"""Returns the files of a split by its name; of `*`, patterns of those of any split."""


def coco_files(split: str) -> SplitFiles:
    """Returns the files of a split of COCO, or of a collection that is laid out like it."""
    is_of_coco = split.endswith("2017")
    origins: dict[Kind, Origin] = {"images": Origin("images belong there")}
    if is_of_coco:
        origins = {
            kind: Origin(f"it is in {archive} of the COCO download", f"unpack {archive} again")
            for kind, archive in (_COCO_ARCHIVES | {"images": f"{split}.zip"}).items()
        }
    return SplitFiles(
        images=split,
        panoptic=f"annotations/panoptic_{split}.json",
        instances=f"annotations/instances_{split}.json",
        folders=(split, "annotations"),
        download=f"{', '.join(_COCO_ARCHIVES.values())} of the COCO download",
        origins=origins,
        needs_instances=is_of_coco,
        is_secret=is_of_coco and split.startswith("test"),
    )


def ade20k_files(split: str) -> SplitFiles:
    """Returns the files of a split of ADE20K, as Mask2Former's scripts make them and DeepLab2 reads them."""
    panoptic = f"ade20k_panoptic_{split}.json"
    scripts: tuple[tuple[Kind, str], ...] = (
        ("panoptic", "prepare_ade20k_pan_seg.py"),
        ("instance", "prepare_ade20k_ins_seg.py"),
    )
    origins: dict[Kind, Origin] = {
        kind: Origin(f"Mask2Former's {script} makes it", f"make it again with Mask2Former's {script}")
        for kind, script in scripts
    }
    return SplitFiles(
        images=f"images/{_ADE20K_FOLDERS.get(split, split)}",
        panoptic=panoptic,
        instances=f"ade20k_instance_{split}.json",
        folders=("images", panoptic.removesuffix(".json")),
        download="ADEChallengeData2016.zip, and what Mask2Former's prepare_ade20k_pan_seg.py makes of it",
        origins=origins | {"images": Origin("it is in ADEChallengeData2016.zip")},
        # "road" is "road, route" in the panoptic annotations, and in others something else again.
        names_vary=True,
        things_cover_stuff=True,
    )
