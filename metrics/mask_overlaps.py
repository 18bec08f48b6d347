"""Overlaps of a label map with masks, each given by itself, which may overlap each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from zoo.errors import DataError
from zoo.files.machine_code import compiled
from zoo.metrics.overlap import LabelOverlaps, check_maps, index_labels

Mask = np.ndarray | Mapping[str, Any]
"""A mask: [H, W] bool or integer, 0 outside; or COCO's run lengths, with `size` and `counts`."""


@compiled
def _count_mask(index: np.ndarray, mask: np.ndarray, areas: np.ndarray) -> None:
    """Adds to `areas` how many pixels of the mask have each index; both maps are flat."""
    for pixel in range(mask.size):
        if mask[pixel]:
            areas[index[pixel]] += 1


@compiled
def _count_runs(index: np.ndarray, counts: np.ndarray, areas: np.ndarray) -> None:
    """Adds to `areas` how many pixels of the runs have each index; every second run is of the mask."""
    end = np.int64(0)
    for run in range(counts.size):
        start, end = end, end + counts[run]
        if run % 2:
            for pixel in range(start, end):
                areas[index[pixel]] += 1


@compiled
def _decompress(text: np.ndarray) -> np.ndarray:
    """Returns the run lengths that COCO's compressed string stands for; one of -1 where it is damaged.

    Each is a signed number in digits of 5 bits, the lowest first; bit 5 says that more digits follow.
    From the fourth on, it is the difference to the run before the last.
    """
    damaged = np.full(1, -1, np.int64)
    counts = np.empty(text.size, np.int64)
    size, value, shift = 0, np.int64(0), 0
    for character in text:
        digit = np.int64(character) - 48
        if not 0 <= digit < 64 or shift > 35:
            return damaged
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= np.int64(1) << shift
        counts[size] = value + (counts[size - 2] if size > 2 else 0)
        size, value, shift = size + 1, np.int64(0), 0
    return damaged if shift else counts[:size].copy()


def mask_overlaps(ground_truth: np.ndarray, masks: Sequence[Mask]) -> LabelOverlaps:
    """Counts the pixels of every label, of every mask, and of every label in every mask.

    Args:
        ground_truth: [H, W] int32, any labels.
        masks: the masks; run lengths compressed (`counts` is a string or bytes) or not (a list of numbers).

    Returns:
        The overlaps as `label_overlaps` returns them. The predicted labels are the positions of the masks in
        `masks`; one without a pixel has area 0 and no intersection.

    Raises:
        ValueError: the ground truth is not 2-D int32.
        DataError: a mask is not of the size of the ground truth, or is neither an array nor run lengths.

    >>> truth = np.array([[7, 7, 8]], np.int32)
    >>> overlaps = mask_overlaps(truth, [np.array([[0, 1, 1]]), {"size": [1, 3], "counts": [0, 3]}])
    >>> overlaps.pred_areas.tolist()
    [2, 3]
    >>> list(zip(overlaps.gt_index.tolist(), overlaps.pred_index.tolist(), overlaps.area.tolist()))
    [(0, 0, 1), (1, 0, 1), (0, 1, 2), (1, 1, 1)]
    """
    check_maps("label", np.int32, ground_truth=ground_truth)
    labels, flat_index = index_labels(ground_truth.reshape(-1))
    areas = np.zeros((len(masks), labels.size), np.int64)
    # Run lengths go down the columns.
    by_column = flat_index.reshape(ground_truth.shape).T.ravel() if any(map(_is_rle, masks)) else flat_index
    for position, mask in enumerate(masks):
        if _is_rle(mask):
            _count_runs(by_column, _run_lengths(mask, position, ground_truth.shape), areas[position])
        else:
            _count_mask(flat_index, _pixels(mask, position, ground_truth.shape), areas[position])
    pred_index, gt_index = np.nonzero(areas)
    return LabelOverlaps(
        gt_labels=labels,
        gt_areas=np.bincount(flat_index, minlength=labels.size).astype(np.int64),
        pred_labels=np.arange(len(masks), dtype=np.int32),
        pred_areas=areas.sum(axis=1),
        gt_index=gt_index.astype(np.int32),
        pred_index=pred_index.astype(np.int32),
        area=areas[pred_index, gt_index],
    )


def mask_pixels(mask: Mask, shape: tuple[int, int]) -> np.ndarray:
    """Returns a mask as [H, W] bool; raises a DataError where it is not of the shape, or damaged."""
    if not _is_rle(mask):
        return _pixels(mask, 0, shape).reshape(shape)
    lengths = _run_lengths(mask, 0, shape)
    by_column = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
    return by_column.reshape(shape[::-1]).T


def _is_rle(mask: Mask) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(mask, Mapping)


def _pixels(mask: Mask, position: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns whether each pixel, row by row, belongs to the mask."""
    pixels = np.asarray(mask)
    if pixels.shape != shape or pixels.dtype.kind not in "biu":
        raise _unfit(position, shape, f"{pixels.dtype} of shape {pixels.shape}")
    return pixels.astype(np.bool_).reshape(-1)


def _run_lengths(rle: Mapping[str, Any], position: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the run lengths, [N] int64, the first outside of the mask; they add up to all pixels."""
    if not rle.keys() >= {"size", "counts"}:
        raise _unfit(position, shape, f"run lengths without `size` and `counts`: {', '.join(map(str, rle))}")
    if not np.array_equal(rle["size"], shape):
        raise _unfit(position, shape, f"run lengths of size {rle['size']}")
    counts = rle["counts"]
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    if isinstance(counts, bytes):
        lengths = _decompress(np.frombuffer(counts, np.uint8))
    else:
        lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise _unfit(position, shape, "damaged run lengths")
    if lengths.sum() != shape[0] * shape[1]:
        raise _unfit(position, shape, f"run lengths that add up to {lengths.sum()}")
    return lengths.astype(np.int64)


def _unfit(position: int, shape: tuple[int, ...], found: str) -> DataError:
    expected = f"expected {shape[0]} x {shape[1]} pixels (height x width), as the ground truth has"
    return DataError(f"mask {position}: {expected}, found {found}")
