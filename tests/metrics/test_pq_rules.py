"""Each rule of panoptic quality on cases worked out by hand, and both ends against the implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.metrics.overlap import label_overlaps
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.pq_rules import (
    INTERNAL,
    OFFICIAL,
    TORCHMETRICS,
    ImageCounts,
    Rules,
    count_image,
    join_predicted_stuff,
    join_stuff,
    mean_in_order,
    on_void,
    on_void_or_crowd,
    on_void_or_last_own_crowd,
    on_void_or_own_crowd,
    product_of_means,
    quotient_of_sums,
    quotients_in_single_precision,
    sum_exactly,
    sum_in_order,
)
from zoo.metrics.segments import ImageSegments, OfficialTruth

ROAD, CAR, PERSON = 0, 1, 2
NUM_CLASSES, DIVISOR, IGNORE = 3, 1000, 255
THINGS = (CAR, PERSON)
VOID = -1

# A name stands for one segment of the ground truth: class, and whether it is a crowd. "." is void.
KINDS = {
    "r": (ROAD, False),
    "s": (ROAD, False),
    "c": (CAR, False),
    "d": (CAR, False),
    "p": (PERSON, False),
    "C": (CAR, True),
    "D": (CAR, True),
    "P": (PERSON, True),
}
PREDICTED = {".": IGNORE * DIVISOR, "r": 0, "s": 1, "c": 1001, "d": 1002, "p": 2001}


def segments_of(truth: str, prediction: str) -> ImageSegments:
    """Returns the segments of an image of one row, each pixel a letter."""
    letters = [letter for letter in KINDS if letter in truth]
    return ImageSegments.measure(
        OfficialTruth(
            segment_map=np.array([[letters.index(c) if c != "." else VOID for c in truth]], np.int32),
            segment_ids=np.arange(1, len(letters) + 1, dtype=np.int32),
            class_ids=np.array([KINDS[letter][0] for letter in letters], np.int32),
            is_crowd=np.array([KINDS[letter][1] for letter in letters], np.bool_),
        ),
        np.array([[PREDICTED[c] for c in prediction]], np.int32),
        label_divisor=DIVISOR,
        ignore_label=IGNORE,
    )


def count(truth: str, prediction: str, rules: Rules) -> ImageCounts:
    return count_image(segments_of(truth, prediction), rules, num_classes=NUM_CLASSES, thing_class_ids=THINGS)


def outcome(truth: str, prediction: str, rules: Rules) -> tuple[list[float], int, int]:
    """Returns the IoU of the matches, and how many false positives and false negatives there are."""
    counts = count(truth, prediction, rules)
    return counts.match_iou.tolist(), int(counts.fp.sum()), int(counts.fn.sum())


def rules(**changed: object) -> Rules:
    choices: dict[str, object] = {
        "joins_stuff": False,
        "outside_union": on_void,
        "excuses": on_void_or_own_crowd,
    }
    return Rules(**{**choices, **changed})  # type: ignore[arg-type]


# ---- one rule each ----


def test_void_is_outside_the_union_in_both() -> None:
    for either in (INTERNAL, OFFICIAL):
        assert outcome("cccccc....", "cccccccccc", either) == ([1.0], 0, 0)


def test_a_crowd_of_another_class_in_the_union() -> None:
    truth, prediction = "ccccccPPPP", "cccccccccc"
    assert outcome(truth, prediction, rules(outside_union=on_void_or_crowd)) == ([1.0], 0, 0)
    assert outcome(truth, prediction, rules(outside_union=on_void_or_own_crowd)) == ([0.6], 0, 0)
    assert outcome(truth, prediction, rules(outside_union=on_void)) == ([0.6], 0, 0)


def test_a_crowd_of_the_own_class_in_the_union() -> None:
    truth, prediction = "ccccccCCCC", "cccccccccc"
    assert outcome(truth, prediction, rules(outside_union=on_void_or_crowd)) == ([1.0], 0, 0)
    assert outcome(truth, prediction, rules(outside_union=on_void_or_own_crowd)) == ([1.0], 0, 0)
    assert outcome(truth, prediction, rules(outside_union=on_void)) == ([0.6], 0, 0)


def test_a_crowd_in_the_union_can_cost_the_match() -> None:
    truth, prediction = "ccccCCCC", "cccccccc"
    assert outcome(truth, prediction, rules(outside_union=on_void_or_own_crowd)) == ([1.0], 0, 0)
    # Half of the prediction lies on the crowd, and more than half would excuse it.
    assert outcome(truth, prediction, rules(outside_union=on_void)) == ([], 1, 1)


def test_a_crowd_of_another_class_excuses_nothing() -> None:
    truth, prediction = "PPPr", "cccc"
    assert outcome(truth, prediction, rules(excuses=on_void_or_crowd)) == ([], 0, 1)
    assert outcome(truth, prediction, rules(excuses=on_void_or_own_crowd)) == ([], 1, 1)


def test_a_crowd_of_the_own_class_excuses() -> None:
    for either in (on_void_or_crowd, on_void_or_own_crowd, on_void_or_last_own_crowd):
        assert outcome("CCCr", "cccc", rules(excuses=either)) == ([], 0, 1)
    assert outcome("CCCr", "cccc", rules(excuses=on_void)) == ([], 1, 1)


def test_void_and_crowd_excuse_together_and_half_is_not_enough() -> None:
    assert outcome("CC.r", "cccc", rules()) == ([], 0, 1)
    assert outcome("C.rr", "cccc", rules()) == ([], 1, 1)


def test_of_two_crowds_of_a_class_the_last_excuses() -> None:
    truth, prediction = "CCCDDD", "cccccc"
    assert outcome(truth, prediction, rules(excuses=on_void_or_own_crowd)) == ([], 0, 0)
    assert outcome(truth, prediction, rules(excuses=on_void_or_last_own_crowd)) == ([], 1, 0)
    assert outcome("CCDDDD", "cccccc", rules(excuses=on_void_or_last_own_crowd)) == ([], 0, 0)
    # A crowd of another class after it is not in its way.
    assert outcome("CCCPPP", "cccc..", rules(excuses=on_void_or_last_own_crowd)) == ([], 0, 0)


def test_stuff_segments_of_a_class_joined_or_apart() -> None:
    truth, prediction = "rrrrssss", "rrrrrrrr"
    assert outcome(truth, prediction, rules(joins_stuff=True)) == ([1.0], 0, 0)
    assert outcome(truth, prediction, rules(joins_stuff=False)) == ([], 1, 2)
    # Things stay apart.
    assert outcome("ccccdddd", "cccccccc", rules(joins_stuff=True)) == ([], 1, 2)


def test_joining_stuff_adds_areas_and_overlaps() -> None:
    joined = join_stuff(segments_of("rrcsss.C", "rrrrrc.c"), THINGS)
    assert joined.gt_class.tolist() == [ROAD, CAR, CAR]
    assert joined.gt_area.tolist() == [5, 1, 1]
    assert joined.gt_is_crowd.tolist() == [False, False, True]
    pairs = zip(joined.overlap_gt.tolist(), joined.overlap_pred.tolist(), strict=True)
    assert dict(zip(pairs, joined.overlap_area.tolist(), strict=True)) == {
        (0, 0): 4,
        (0, 1): 1,
        (1, 0): 1,
        (2, 1): 1,
    }


def test_predicted_stuff_joined_or_apart() -> None:
    truth, prediction = "rrrrrrpp", "rrrsss.c"
    assert outcome(truth, prediction, rules(joins_predicted_stuff=True)) == ([1.0], 1, 1)
    assert outcome(truth, prediction, rules()) == ([], 3, 2)
    joined = join_predicted_stuff(segments_of("rrrr..pp", "rssr.sc."), THINGS)
    assert joined.pred_class.tolist() == [ROAD, CAR]
    assert joined.pred_area.tolist() == [5, 1]
    assert joined.pred_void_area.tolist() == [1, 0]
    pairs = zip(joined.overlap_gt.tolist(), joined.overlap_pred.tolist(), strict=True)
    assert dict(zip(pairs, joined.overlap_area.tolist(), strict=True)) == {(0, 0): 4, (1, 1): 1}


def test_crowds_as_segments_like_any_other() -> None:
    assert outcome("CCCC", "cccc", rules(counts_crowds=True)) == ([1.0], 0, 0)
    assert outcome("CCCCr", "r....", rules(counts_crowds=True)) == ([], 1, 2)
    # They excuse nothing, neither by themselves nor together with void.
    assert outcome("CCDD", "cccc", rules(counts_crowds=True, excuses=on_void)) == ([], 1, 2)
    assert outcome("CC.DD", "cc.cc", TORCHMETRICS) == ([], 1, 2)


def test_void_in_the_prediction() -> None:
    truth, prediction = "cccccccc", "ccccc..."
    assert outcome(truth, prediction, rules()) == ([5 / 8], 0, 0)
    assert outcome(truth, prediction, rules(leaves_out_predicted_void=True)) == ([1.0], 0, 0)
    # Half is not more than half.
    assert outcome("cccc", "rr..", rules(excuses_half_void=True)) == ([], 1, 1)
    assert outcome("cccc", "r...", rules(excuses_half_void=True)) == ([], 1, 0)
    assert outcome("cccc", "r...", rules()) == ([], 1, 1)


def test_single_precision_of_torchmetrics() -> None:
    assert outcome("ccc", "ccr", TORCHMETRICS)[0] == [float(np.float32(2) / np.float32(3))]
    sums = sum_exactly([count("cccc.rrrp", "ccc..pp.r", TORCHMETRICS)])
    pq, sq, rq = quotients_in_single_precision(sums)
    assert sums.tp.tolist() == [0, 1, 0]
    assert pq.tolist()[1] == 1.0
    assert (pq[0], sq[0], rq[0]) == (0.0, 0.0, 0.0)
    thirds = quotients_in_single_precision(sum_exactly([count("ccdd", "cc..", rules())]))
    assert thirds[2][CAR] == float(np.float32(2 / 3))
    assert np.isnan(thirds[0][[ROAD, PERSON]]).all()


# ---- what is the same in both ----


@pytest.mark.parametrize("either", [INTERNAL, OFFICIAL])
def test_what_is_the_same_in_both(either: Rules) -> None:
    assert outcome("cccc", "cc..", either) == ([], 1, 1), "an IoU of one half is no match"
    assert outcome("ccc.", "cc..", either) == ([2 / 3], 0, 0)
    assert outcome("....", "cccc", either) == ([], 0, 0), "wholly on void is no false positive"
    assert outcome("CCCC", "....", either) == ([], 0, 0), "a crowd that is not found is no false negative"
    assert outcome("CCCC", "cccc", either) == ([], 0, 0), "and is no match"
    assert outcome("cccc", "pppp", either) == ([], 1, 1), "classes have to be equal"
    assert outcome("rr", "..", either) == ([], 0, 1)


def test_absent_classes_are_left_out_of_the_mean() -> None:
    sums = sum_exactly([count("cccc.rrr", "ccc.....", OFFICIAL)])
    assert sums.occurs.tolist() == [True, True, False]
    for per_class in (product_of_means(sums), 100 * quotient_of_sums(sums)):
        assert per_class[:2].tolist() == [0.0, 75.0]
        assert np.isnan(per_class[2])
    assert 100 * mean_in_order(quotient_of_sums(sums)) == 37.5
    assert np.isnan(mean_in_order([np.nan]))


def test_sums_in_order_depend_on_the_parts_and_exact_ones_do_not() -> None:
    def image(*ious: float) -> ImageCounts:
        zeros = np.zeros(1, np.int64)
        return ImageCounts(np.zeros(len(ious), np.int32), np.array(ious), zeros, zeros)

    values = [[0.7, 0.9], [0.8], [0.6, 0.55, 0.51], [0.99]]
    images = [image(*ious) for ious in values]
    one_by_one = 0.0
    for iou in np.concatenate(values).tolist():
        one_by_one += iou
    assert sum_in_order(images).iou.tolist() == [one_by_one]
    assert sum_in_order(images, 2).iou.tolist() == [(0.7 + 0.9 + 0.8) + (0.6 + 0.55 + 0.51 + 0.99)]
    assert sum_in_order(images, 9).iou[0] == pytest.approx(one_by_one, abs=1e-14)
    assert sum_exactly(images).iou.tolist() == sum_exactly(images[::-1]).iou.tolist()
    assert sum_in_order(images).tp.tolist() == [7]


# ---- both ends against the implementations themselves ----


def random_case(seed: int) -> tuple[OfficialTruth, np.ndarray]:
    """Blobs of segments with many crowds, stuff in pieces, void, and a prediction that is partly right."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(-1, 12, (6, 8)).astype(np.int32)
    segment_map = np.kron(coarse, np.ones((5, 5), np.int32)).astype(np.int32)
    class_ids = generator.integers(0, NUM_CLASSES, 12).astype(np.int32)
    truth = OfficialTruth(
        segment_map=segment_map,
        segment_ids=np.sort(generator.choice(np.arange(1, 60000), 12, replace=False)).astype(np.int32),
        class_ids=class_ids,
        is_crowd=(class_ids != ROAD) & (generator.random(12) < 0.5),
    )
    guessed = np.where(generator.random(12) < 0.7, class_ids, generator.integers(0, NUM_CLASSES, 12))
    labels = np.where(guessed == ROAD, 0, guessed * DIVISOR + np.arange(1, 13)).astype(np.int32)
    labels = np.append(labels, generator.choice([0, IGNORE * DIVISOR, 1001]))
    prediction = np.roll(labels[segment_map], generator.integers(-2, 3, 2), (0, 1))
    return truth, prediction.astype(np.int32)


def counts_of(cases: list[tuple[OfficialTruth, np.ndarray]], of: Rules) -> list[ImageCounts]:
    segments = [
        ImageSegments.measure(truth, prediction, label_divisor=DIVISOR, ignore_label=IGNORE)
        for truth, prediction in cases
    ]
    return [count_image(one, of, num_classes=NUM_CLASSES, thing_class_ids=THINGS) for one in segments]


CASES = [random_case(seed) for seed in range(40)]


def test_internal_rules_are_those_of_the_internal_metric() -> None:
    metric = PanopticQuality(NUM_CLASSES, IGNORE, DIVISOR)
    for truth, prediction in CASES:
        labels = np.where(truth.class_ids == ROAD, 0, truth.class_ids * DIVISOR + np.arange(1, 13))
        labels[truth.is_crowd] = IGNORE * DIVISOR
        panoptic = np.append(labels, IGNORE * DIVISOR)[truth.segment_map].astype(np.int32)
        metric.update(label_overlaps(panoptic, prediction))
    sums = sum_exactly(counts_of(CASES, INTERNAL))
    for name in ("iou", "tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(sums, name), getattr(metric, name))
    np.testing.assert_array_equal(product_of_means(sums), metric.compute().pq_per_class)
    assert (sums.tp > 0).all()
    assert (sums.fp > 0).all()


def test_official_rules_are_those_of_the_official_script(tmp_path: Path) -> None:
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as script
    from PIL import Image

    def write(name: str, ids: np.ndarray) -> None:
        rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
        Image.fromarray(rgb).save(tmp_path / name)

    pairs = []
    for number, (truth, prediction) in enumerate(CASES):
        write(f"truth{number}.png", np.append(truth.segment_ids, 0)[truth.segment_map])
        write(f"found{number}.png", np.where(prediction == IGNORE * DIVISOR, 0, prediction + 1))
        found = np.unique(prediction[prediction != IGNORE * DIVISOR])
        present = np.unique(truth.segment_map[truth.segment_map >= 0])
        segments = [
            {
                "id": int(truth.segment_ids[i]),
                "category_id": int(truth.class_ids[i]),
                "iscrowd": int(truth.is_crowd[i]),
                "area": int((truth.segment_map == i).sum()),
            }
            for i in present
        ]
        predicted = [{"id": int(label) + 1, "category_id": int(label) // DIVISOR} for label in found]
        pairs.append(
            (
                {"image_id": number, "file_name": f"truth{number}.png", "segments_info": segments},
                {"image_id": number, "file_name": f"found{number}.png", "segments_info": predicted},
            )
        )
    categories = {class_id: {"isthing": int(class_id in THINGS)} for class_id in range(NUM_CLASSES)}
    total = script.PQStat()
    for part in (pairs[:14], pairs[14:27], pairs[27:]):
        total += script.pq_compute_single_core(0, part, str(tmp_path), str(tmp_path), categories)

    counts = counts_of(CASES, OFFICIAL)
    sums = sum_in_order(counts, 3)
    for class_id in range(NUM_CLASSES):
        expected = total[class_id]
        found = [float(getattr(sums, name)[class_id]) for name in ("iou", "tp", "fp", "fn")]
        assert found == [expected.iou, expected.tp, expected.fp, expected.fn]
    averages, per_class = total.pq_average(categories, None)
    assert mean_in_order(quotient_of_sums(sums)) == averages["pq"]
    assert quotient_of_sums(sums).tolist() == [per_class[c]["pq"] for c in range(NUM_CLASSES)]
    # The cases tell each rule from the next.
    ladder = [
        INTERNAL,
        Rules(False, on_void_or_crowd, on_void_or_crowd),
        Rules(False, on_void_or_own_crowd, on_void_or_crowd),
        Rules(False, on_void, on_void_or_crowd),
        Rules(False, on_void, on_void_or_own_crowd),
        OFFICIAL,
    ]
    qualities = [mean_in_order(quotient_of_sums(sum_exactly(counts_of(CASES, of)))) for of in ladder]
    assert len(set(qualities)) == len(ladder), qualities
