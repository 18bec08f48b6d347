"""Overlaps of label maps against counting each pair of masks by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.metrics.overlap import LabelOverlaps, label_overlaps, relabelled

LABELS = [-(2**31), -1, 0, 1, 7, 11001, 255000, 2**31 - 1]


def in_order_of_appearance(labels: np.ndarray) -> list[int]:
    return list(dict.fromkeys(labels.ravel().tolist()))


def check(overlaps: LabelOverlaps, ground_truth: np.ndarray, prediction: np.ndarray) -> None:
    assert overlaps.gt_labels.tolist() == in_order_of_appearance(ground_truth)
    assert overlaps.pred_labels.tolist() == in_order_of_appearance(prediction)
    assert overlaps.gt_areas.tolist() == [(ground_truth == label).sum() for label in overlaps.gt_labels]
    assert overlaps.pred_areas.tolist() == [(prediction == label).sum() for label in overlaps.pred_labels]
    pixel_pairs = zip(ground_truth.ravel().tolist(), prediction.ravel().tolist(), strict=True)
    counts: dict[tuple[int, int], int] = {}
    for pair in pixel_pairs:
        counts[pair] = counts.get(pair, 0) + 1
    found = zip(
        overlaps.gt_labels[overlaps.gt_index].tolist(),
        overlaps.pred_labels[overlaps.pred_index].tolist(),
        overlaps.area.tolist(),
        strict=True,
    )
    assert list(found) == [(*pair, area) for pair, area in counts.items()]
    dtypes = {name: array.dtype for name, array in vars(overlaps).items()}
    assert {name for name, dtype in dtypes.items() if dtype == np.int64} == {"gt_areas", "pred_areas", "area"}
    assert all(dtype in (np.int64, np.int32) for dtype in dtypes.values())


@given(
    st.integers(1, 9).flatmap(
        lambda width: st.lists(
            st.lists(
                st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=width, max_size=width
            ),
            min_size=1,
            max_size=6,
        )
    )
)
def test_equals_counting_pixels(rows: list[list[tuple[int, int]]]) -> None:
    maps = np.array(rows, np.int32)
    # The two maps are interleaved views: not contiguous.
    ground_truth, prediction = maps[..., 0], maps[..., 1]
    check(label_overlaps(ground_truth, prediction), ground_truth, prediction)


def test_thousands_of_labels_and_pairs() -> None:
    generator = np.random.default_rng(0)
    ground_truth = generator.integers(0, 60, (61, 83)).astype(np.int32)
    prediction = generator.permutation(61 * 83).astype(np.int32).reshape(61, 83) * 1000
    check(label_overlaps(ground_truth, prediction), ground_truth, prediction)
    check(label_overlaps(prediction, ground_truth), prediction, ground_truth)


def test_cropped_transposed_and_read_only_views() -> None:
    generator = np.random.default_rng(1)
    full = np.repeat(generator.integers(0, 5, (40, 12)).astype(np.int32), 4, axis=1)
    cropped, transposed = full[3:30, 5:44:2], full.T[4:24, :27].T
    frozen = np.ascontiguousarray(cropped)
    frozen.setflags(write=False)
    check(label_overlaps(cropped, transposed), cropped, transposed)
    check(label_overlaps(frozen, transposed), frozen, transposed)


def test_no_pixels() -> None:
    for shape in ((0, 5), (5, 0)):
        empty = np.empty(shape, np.int32)
        assert all(array.size == 0 for array in vars(label_overlaps(empty, empty)).values())


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((2, 3), np.int64), "prediction: expected a 2-D int32 label map, found 2-D int64"),
        (np.zeros((1, 2, 3), np.int32), "prediction: expected a 2-D int32 label map, found 3-D int32"),
        (np.zeros((3, 2), np.int32), r"ground_truth is \(2, 3\), prediction is \(3, 2\)"),
    ],
)
def test_refuses_other_maps(prediction: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_overlaps(np.zeros((2, 3), np.int32), prediction)


def test_relabelled_overlaps_are_those_of_the_other_map() -> None:
    random = np.random.default_rng(0)
    segments = np.repeat(random.integers(-1, 12, (20, 10)), 3, axis=1).astype(np.int32)
    prediction = np.repeat(random.integers(0, 9, (20, 15)), 2, axis=1).astype(np.int32)
    labels = random.integers(0, 5, 13).astype(np.int32)
    found = relabelled(label_overlaps(segments, prediction), labels)
    expected = label_overlaps(labels[segments], prediction)
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), array)
