"""Post-processing of mask slots on the CPU: from a network's masks and their classes to a panoptic map.

The result equals that of DeepLab2's `model/post_processor/max_deeplab.py` pixel for pixel, mask ids included.
Mask-wise, each slot has a mask of sure pixels, which may overlap others; masks are pasted in the order of
their scores (kMaX-DeepLab, arXiv 2207.04044). Pixel-wise, a pixel belongs to its best slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import UsageError
from zoo.files.machine_code import compiled
from zoo.metrics.overlap import index_labels
from zoo.model.postprocess.instances import InstanceSums, instances_from_sums
from zoo.model.postprocess.options import MAX_CLASSES, MaskOptions
from zoo.model.postprocess.result import ImagePrediction, ThingMap
from zoo.model.postprocess.sampling import Grid
from zoo.model.postprocess.scoring import Size
from zoo.model.postprocess.slots import Assigned, SlotMaps, assign_pixels
from zoo.model.postprocess.threads import for_rows, workers_for
from zoo.model.postprocess.upsampling import float32_view


class Slots(NamedTuple):
    """What is known of each slot; arrays [slots]."""

    class_id: np.ndarray  # uint8, train id
    is_thing: np.ndarray  # bool
    confidence: np.ndarray  # float32, softmax probability of its class


class Merged(NamedTuple):
    """The pixels of slots and what they stand for.

    The tables are indexed by `maps.owner`: from the left for pixels in a mask, from the right for others.
    """

    maps: SlotMaps
    area: np.ndarray  # [slots] int64, pixels, 0 for a slot that is not in the result
    mask_id: np.ndarray  # [2 * slots] int32
    confidence: np.ndarray  # [2 * slots] float32, of the pixel's class


def postprocess_masks(
    mask_logits: Any, class_logits: Any, size: tuple[int, int], options: MaskOptions
) -> MaskResult:
    """Merges the masks of one image's slots into a panoptic map.

    Args:
      mask_logits: [h, w, slots] float32. Arrays or TensorFlow tensors; nothing is copied.
      class_logits: [slots, classes + 1] float32: things in the data set's order, stuff, void.
      size: (H, W) of the result, the size of the network's input.
      options: of the data set and the evaluation.

    Raises:
      UsageError: shapes that do not belong together.
    """
    masks, classes = float32_view(mask_logits), float32_view(class_logits)
    if (
        (masks.ndim, classes.ndim) != (3, 2)
        or 0 in masks.shape
        or masks.shape[2] != len(classes)
        or not len(options.thing_class_ids) < classes.shape[1] <= MAX_CLASSES
    ):
        raise UsageError(
            "postprocess_masks: expected mask [h, w, slots] and class [slots, "
            f"{len(options.thing_class_ids) + 1} to {MAX_CLASSES}] maps of one image, "
            f"found {masks.shape}, {classes.shape}"
        )
    probabilities = np.exp(classes - classes.max(axis=1, keepdims=True))
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True))[:, :-1]
    index = probabilities.argmax(axis=1)
    slots = Slots(
        class_id=options.class_ids(probabilities.shape[1])[index],
        is_thing=index < len(options.thing_class_ids),
        confidence=probabilities.max(axis=1),
    )
    merge = _pixel_wise if options.transformer_post_processing == "pixelwise" else _mask_wise
    return MaskResult(slots, merge(masks, slots, size, options), options)


def _pixel_wise(masks: np.ndarray, slots: Slots, size: Size, options: MaskOptions) -> Merged:
    sure = slots.confidence >= np.float32(options.transformer_class_confidence_threshold or 0.0)
    found = assign_pixels(masks, size, options.pixel_confidence_threshold, counts=sure)
    mask_id, confidence = np.arange(1, len(sure) + 1, dtype=np.int32), slots.confidence
    if not sure.any():
        found.maps.probability[:] = 0
        found.sums.area[:], mask_id, confidence = 0, np.ones_like(mask_id), np.zeros_like(confidence)
    return Merged(found.maps, found.sums.area, *(np.append(of, of[::-1]) for of in (mask_id, confidence)))


def _mask_wise(masks: np.ndarray, slots: Slots, size: Size, options: MaskOptions) -> Merged:
    thing, stuff = (
        slots.confidence >= np.float32(threshold or 0.0)
        for threshold in (
            options.transformer_class_confidence_threshold_thing,
            options.transformer_class_confidence_threshold_stuff,
        )
    )
    threshold = options.pixel_confidence_threshold
    score = slots.confidence ** np.float32(options.reorder_class_weight)
    if options.reorder_mask_weight:
        # The reference scores masks at the network's resolution.
        sums = assign_pixels(masks, masks.shape[:2], threshold).sums
        mean = (sums.probability / np.maximum(sums.area, 1)).astype(np.float32)
        score = score * mean ** np.float32(options.reorder_mask_weight)
    order = np.argsort(-score, kind="stable")
    found = assign_pixels(masks, size, threshold)
    area = _paste(found, order[np.where(slots.is_thing, thing, stuff)[order]], options)
    if not (thing | stuff).any():
        found.maps.probability[:] = 0
    # Pixels in no mask, and of masks that were not pasted, get the first id.
    mask_id = np.ones(2 * len(order), np.int32)
    mask_id[order] += np.arange(len(order), dtype=np.int32)
    mask_id[: len(order)][area == 0] = 1
    confidence = np.append(slots.confidence * (area > 0), np.zeros_like(slots.confidence))
    return Merged(found.maps, area, mask_id, confidence)


def _paste(found: Assigned, order: np.ndarray, options: MaskOptions) -> np.ndarray:
    """Pastes masks in their order where enough of them is free, and settles whose the shared pixels are.

    Returns:
      [slots] int64, the area of each slot in the result.
    """
    areas = np.zeros_like(found.sums.area)
    flat, slot = found.shared.T
    # The masks of a pixel stand together.
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    pixel = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(flat)))
    by_slot = np.argsort(slot, kind="stable")
    first = np.searchsorted(slot[by_slot], np.arange(len(areas) + 1))
    owner = np.full(len(starts), -1, np.int16)
    for each in order.tolist():
        shared = pixel[by_slot[first[each] : first[each + 1]]]
        free = shared[owner[shared] < 0]
        area, own = found.sums.area[each] - (len(shared) - len(free)), found.sums.area[each]
        if np.float32(area) > np.float32(own) * np.float32(options.overlapping_threshold):
            owner[free], areas[each] = each, area
    found.maps.owner.reshape(-1)[flat[starts]] = owner
    return areas


@dataclass(eq=False)
class MaskResult:
    """The merged masks of one image, at the size of the network's input."""

    slots: Slots
    merged: Merged
    options: MaskOptions = field(repr=False)

    @cached_property
    def labels(self) -> np.ndarray:
        """[2 * slots] int32, panoptic labels: a table as those of `Merged`; void for too few pixels."""
        options, (class_id, is_thing, _), area = self.options, self.slots, self.merged.area
        area_of_class = np.bincount(class_id, area * ~is_thing, MAX_CLASSES)[class_id]
        limit = np.where(is_thing, options.thing_area_limit, options.stuff_area_limit)
        kept = (area > 0) & (np.where(is_thing, area, area_of_class) >= limit)
        mask_id = self.merged.mask_id[: len(area)]
        labels = np.full(2 * len(area), options.void_label * options.label_divisor, np.int32)
        labels[: len(area)][kept] = (class_id * options.label_divisor + mask_id * is_thing)[kept]
        return labels

    @property
    def panoptic(self) -> np.ndarray:
        """[H, W] int32, class * label_divisor + mask id, 0 for stuff."""
        return self.labels[self.merged.maps.owner]

    @property
    def semantic(self) -> np.ndarray:
        """[H, W] uint8, class of the slot of the largest logit."""
        return self.slots.class_id[self.merged.maps.best].astype(np.uint8)

    def restored(self, valid_size: Size, raw_size: Size) -> MaskPrediction:
        """Undoes padding and resizing, and scores the thing segments at the raw image's size.

        Maps are cut to `valid_size`, the (height, width) of the resized image without padding, and resized to
        the nearest pixel of `raw_size`, corners aligned.
        """
        maps = self.merged.maps
        if valid_size != raw_size:
            maps = SlotMaps(*map(Grid.of(valid_size, raw_size).nearest, maps))
        panoptic, semantic = np.empty(raw_size, np.int32), np.empty(raw_size, np.uint8)
        sums = InstanceSums.zeros(self.slots.class_id, workers_for(raw_size[0]))
        tables = self.labels, self.slots.class_id

        def paint(worker: int, start: int, stop: int) -> None:
            paint_rows(maps, tables, panoptic, semantic, sums.of_worker(worker), start, stop)

        for_rows(raw_size[0], paint)
        labels, confidence = self.labels[: len(self.slots.class_id)], self.slots.confidence
        is_thing = self.slots.is_thing & (labels != self.labels[-1])
        # The probability that was added up is that of the mask; all its pixels have one class confidence.
        found = instances_from_sums(sums.total(), labels, confidence, is_thing)
        instances = replace(
            found, semantic_probability=found.instance_score, instance_score=found.semantic_probability
        )
        return MaskPrediction(panoptic, semantic, instances, maps, self)


@dataclass(frozen=True, eq=False)
class MaskPrediction(ImagePrediction):
    """The prediction of a network with mask slots."""

    maps: SlotMaps = field(repr=False)  # at the size of the image, or larger
    result: MaskResult = field(repr=False)

    def official_things(self) -> ThingMap:
        """Finds the things that DeepLab2 gives to the Cityscapes script, whatever `panoptic` says there.

        The pixels of one mask id and one thing class in `semantic` are one thing. Its score has six decimals.
        Source: DeepLab2's `trainer/vis.py`, `store_raw_instance_predictions_cityscapes`.
        """
        height, width = self.semantic.shape
        best, owner, probability = (each[:height, :width] for each in self.maps)
        slots, merged, options = self.result.slots, self.result.merged, self.result.options
        things = self.semantic.astype(np.int32) * options.label_divisor + merged.mask_id[owner]
        things[~slots.is_thing[best]] = options.void_label * options.label_divisor
        labels, index = index_labels(things.reshape(-1))
        areas = np.bincount(index)
        mask, sure = (
            np.bincount(index, each.reshape(-1)) / areas for each in (probability, merged.confidence[owner])
        )
        is_thing = labels // options.label_divisor != options.void_label
        return ThingMap(things, labels[is_thing], np.round(sure * mask, 6)[is_thing])


@compiled
def paint_rows(
    maps: SlotMaps,
    tables: tuple[np.ndarray, np.ndarray],
    panoptic: np.ndarray,
    semantic: np.ndarray,
    sums: InstanceSums,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Writes the panoptic label and class of each pixel, and adds it to the sums of its slot."""
    label_of, class_of = tables
    for y in range(start, stop):
        for x in range(panoptic.shape[1]):
            owner = maps.owner[y, x]
            panoptic[y, x] = label_of[owner]
            semantic[y, x] = class_of[maps.best[y, x]]
            if owner >= 0:
                sums.area[owner] += 1
                sums.first_pixel[owner] = min(sums.first_pixel[owner], y * panoptic.shape[1] + x)
                sums.probability[owner] += np.float64(maps.probability[y, x])
