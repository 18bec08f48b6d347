"""The families of networks: what their maps are called, and how these become a panoptic map.

What runs networks asks `family_of(entry)`; nothing else decides by the kind of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from zoo.errors import UsageError
from zoo.model.postprocess.center_offset import postprocess, postprocess_full_resolution
from zoo.model.postprocess.masks import postprocess_masks
from zoo.model.postprocess.options import MaskOptions, PostprocessOptions
from zoo.model.postprocess.result import ImagePrediction, Maps
from zoo.model.postprocess.scoring import Size
from zoo.registry.schema import Entry

Options: TypeAlias = PostprocessOptions | MaskOptions
"""How maps are post-processed; asked for with `family_of(entry).options.from_entry(evaluation, dataset)`."""


class Merged(Protocol):
    """The merged maps of one image, at the size of the network's input."""

    def restored(self, valid_size: Size, raw_size: Size) -> ImagePrediction:
        """Undoes padding and resizing; see `PanopticResult.restored`."""


@dataclass(frozen=True)
class Averages:
    """How a family averages over scales and mirrored images.

    Attributes:
      maps: what is averaged, at full resolution, in the order in which `merge` takes it.
      merge: takes these maps of one image, and options.
    """

    maps: tuple[str, ...]
    merge: Callable[..., Merged]


@dataclass(frozen=True)
class Family:
    """What the networks of one family have in common.

    Attributes:
      title: the family in words.
      maps: what post-processing reads, in the order in which `merge` takes it: names, and what they say.
      options: the class of the options of post-processing.
      merge: takes the maps of one image, the (height, width) of the network's input, and options.
      averages: None where nothing of the family can be averaged over scales and mirrored images.
      published: the outputs of a SavedModel that was published for such a network.
      in_graphs: whether post-processing exists in graph operations, so that a file can hold it.
      steps: post-processing in words.
    """

    title: str
    maps: Mapping[str, str]
    options: type[PostprocessOptions] | type[MaskOptions]
    merge: Callable[..., Merged]
    averages: Averages | None
    published: tuple[str, ...]
    in_graphs: bool
    steps: tuple[str, ...]

    def refuse_averages(self, owner: str, scales: Sequence[float], flip: bool) -> None:
        """Raises a `UsageError` where scales or mirrored images are to be averaged and cannot be."""
        if self.averages is None and (tuple(scales) != (1.0,) or flip):
            raise UsageError(
                f"{owner}: expected one scale and no mirrored images: the mask slots of {self.title} have no "
                "average over several"
            )

    def require_graph(self, owner: str) -> None:
        """Raises a `UsageError` where a file cannot hold post-processing."""
        if not self.in_graphs:
            raise UsageError(
                f"{owner}: --with-post-processing: expected a network whose post-processing exists in "
                f"graph operations, found one of {self.title}; leave the option out: `--model FILE` merges "
                "its maps outside of the file"
            )

    def merged(self, maps: Maps, size: Size, options: Options, *, averaged: bool = False) -> Merged:
        """Merges the maps of one image; `size` is the (height, width) of the network's input."""
        if averaged:
            assert self.averages is not None
            return self.averages.merge(*(maps[name] for name in self.averages.maps), options)
        return self.merge(*(maps[name] for name in self.maps), size, options)


def family_of(entry: Entry) -> Family:
    """Returns the family of an entry's network."""
    return FAMILIES[entry.network.kind]


_RESTORING = "Cut the padding off, and resize label maps to the picture's size, to the nearest pixel."

FAMILIES = {
    "panoptic_deeplab": Family(
        title="Panoptic-DeepLab",
        maps={
            "semantic_logits": "scores of the classes at each position, before softmax",
            "center_heatmap": "1 at the center of an instance",
            "offset_map": "(y, x) from a position to the center of its instance, in positions of this map",
        },
        options=PostprocessOptions,
        merge=postprocess,
        averages=Averages(("semantic_probs", "center_heatmap", "offset_map"), postprocess_full_resolution),
        published=(
            *("panoptic_pred", "semantic_pred", "instance_pred", "instance_center_pred", "instance_scores"),
            *("semantic_probs", "semantic_logits", "center_heatmap", "offset_map"),
        ),
        in_graphs=True,
        steps=(
            "Resize all maps to the input's size, bilinear with aligned corners; scale offsets by the same "
            "factors.",
            "Class of a pixel: the largest of `semantic_logits`.",
            "Centers: pixels of `center_heatmap` above `center_score_threshold` that are the largest in a "
            "window of `nms_kernel` pixels; at most `keep_k_centers`.",
            "Instance of a pixel of a thing class: the center nearest to the pixel plus its offset.",
            "Class of an instance: that of most of its pixels. Panoptic label: class * `label_divisor` + "
            "number of the instance in its class, from 1; stuff has number 0, and is void where it has at "
            "most `stuff_area_limit` pixels.",
            _RESTORING,
        ),
    ),
    "kmax_deeplab": Family(
        title="kMaX-DeepLab",
        maps={
            "mask_logits": "scores of the mask slots at each position, before softmax",
            "class_logits": "scores of each slot's class, before softmax: things in the order of their ids, "
            "stuff, void",
        },
        options=MaskOptions,
        merge=postprocess_masks,
        averages=None,
        published=(
            *("panoptic_pred", "semantic_pred", "instance_pred", "instance_scores", "semantic_scores"),
            *("pixel_space_mask_logits", "transformer_class_logits"),
        ),
        in_graphs=False,
        steps=(
            "Class of a slot: the largest softmax probability of its `class_logits` but void's; that is its "
            "class confidence.",
            "Order of the slots: class confidence ** `reorder_class_weight` * mask score ** "
            "`reorder_mask_weight`, falling; the mask score is the mean softmax probability of a slot in "
            "`mask_logits` where that is above `pixel_confidence_threshold`.",
            "Mask of a slot: resize `mask_logits` to the input's size, bilinear with aligned corners, and "
            "take the pixels whose softmax probability is above `pixel_confidence_threshold`.",
            "In their order, slots with at least the class confidence of things or of stuff take what is "
            "still free of their mask, if that is more than `overlapping_threshold` of it.",
            "Panoptic label: class * `label_divisor` + rank in the order, from 1; stuff has number 0. Void "
            "where a thing has fewer than `thing_area_limit` pixels, or all stuff of a class fewer than "
            "`stuff_area_limit`.",
            "Class of a pixel in the semantic map: that of the slot of the largest of `mask_logits`.",
            _RESTORING,
        ),
    ),
}
"""The families, by `entry.network.kind`."""
