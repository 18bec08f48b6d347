import numpy as np
import pytest

from zoo.errors import DataError
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.segments import ImageSegments, OfficialTruth
from zoo.repro.records.statistics import part_of


@pytest.fixture
def truth():
    #              stuff 11   car 26001   crowd of cars 26, and void
    segment_map = np.array([[0, 0, 1, 1], [0, -1, 2, 2]], np.int32)
    return OfficialTruth(
        segment_map,
        segment_ids=np.array([11, 26001, 26], np.int32),
        class_ids=np.array([2, 13, 13], np.int32),
        is_crowd=np.array([False, False, True]),
    )


def measure(truth, panoptic):
    return ImageSegments.measure(truth, np.array(panoptic, np.int32), label_divisor=1000, ignore_label=255)


def test_areas_and_intersections_with_void_and_crowd(truth):
    found = measure(truth, [[2000, 13001, 13001, 13001], [255000, 13001, 13001, 255000]])
    assert found.gt_id.tolist() == [11, 26001, 26]
    assert found.gt_is_crowd.tolist() == [False, False, True]
    assert found.gt_area.tolist() == [3, 2, 2]
    assert found.pred_label.tolist() == [2000, 13001]
    assert found.pred_class.tolist() == [2, 13]
    assert found.pred_area.tolist() == [1, 5]
    assert found.pred_void_area.tolist() == [0, 1]
    pairs = zip(
        found.overlap_gt.tolist(), found.overlap_pred.tolist(), found.overlap_area.tolist(), strict=True
    )
    assert list(pairs) == [(0, 0, 1), (0, 1, 1), (1, 1, 2), (2, 1, 1)]


def test_everything_void_gives_empty_arrays(truth):
    found = measure(truth, np.full((2, 4), 255000))
    assert found.pred_label.size == found.overlap_area.size == 0
    assert found.gt_area.tolist() == [3, 2, 2]


def test_semantic_map_includes_crowd(truth):
    assert truth.semantic(255).tolist() == [[2, 2, 13, 13], [2, 255, 13, 13]]


def test_arrays_there_and_back(truth):
    arrays = measure(truth, [[2000] * 4, [13001] * 4]).to_arrays()
    again = ImageSegments.from_arrays({**arrays, "something/else": np.zeros(1)}).to_arrays()
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    del arrays["gt_area"]
    with pytest.raises(DataError, match="expected an array 'gt_area'"):
        ImageSegments.from_arrays(arrays)


@pytest.mark.parametrize("seed", range(5))
def test_areas_add_up_on_random_maps(seed):
    generator = np.random.default_rng(seed)
    truth = OfficialTruth(
        generator.integers(-1, 6, (17, 23)).astype(np.int32),
        segment_ids=np.arange(6, dtype=np.int32),
        class_ids=generator.integers(0, 3, 6).astype(np.int32),
        is_crowd=np.zeros(6, bool),
    )
    panoptic = (generator.integers(0, 3, (17, 23)) * 1000 + generator.integers(0, 2, (17, 23))).astype(
        np.int32
    )
    found = measure(truth, panoptic)
    assert found.pred_area.sum() == 17 * 23
    by_prediction = np.bincount(found.overlap_pred, found.overlap_area, found.pred_area.size)
    assert (by_prediction + found.pred_void_area).tolist() == found.pred_area.tolist()
    by_truth = np.bincount(found.overlap_gt, found.overlap_area, found.gt_area.size)
    assert by_truth.tolist() == found.gt_area.tolist()


@pytest.mark.parametrize(
    ("name", "array", "found"),
    [
        ("segments/gt_class", np.zeros(2, np.int32), r"'gt_class': expected shape \(\d+,\), found \(2,\)"),
        ("segments/overlap_pred", None, "expected values of 0 to 22, found [0-9]+ to 9999"),
        ("segments/pred_class", np.full(23, 10**9), "expected values of 0 to 65535, found 1000000000 to"),
        ("miou/num_classes", np.int64(-1), "expected settings of a metric, found num_classes -1"),
        ("miou/num_classes", np.int64(10**9), "MeanIoU record"),
    ],
)
def test_statistics_that_do_not_fit_each_other(
    minicity_statistics: list[dict[str, np.ndarray]], name: str, array: np.ndarray | None, found: str
) -> None:
    arrays = dict(minicity_statistics[0])
    if array is None:
        array = arrays[name].copy()
        array[0] = 9999
    arrays[name] = array
    kind = ImageSegments if name.startswith("segments") else MeanIoU
    with pytest.raises(DataError, match=found):
        kind.from_arrays(part_of(arrays, name.partition("/")[0]))
