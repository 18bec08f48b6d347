"""The forms in which models write predictions: what is read of each, and what is wrong with some."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths

import zoo
from zoo.errors import DataError, UsageError
from zoo.metrics.overlap import label_overlaps
from zoo.registry.dataset_info import DatasetInfo
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.predictions.check import all_findings, check_predictions
from zoo.repro.predictions.fix import fix_predictions
from zoo.repro.predictions.naming import ClassIds
from zoo.repro.predictions.predictions import open_predictions


def same_segments(one: np.ndarray, other: np.ndarray, divisor: int) -> bool:
    """Whether two label maps have the same segments of the same classes, however they are numbered."""
    found = label_overlaps(one, other)
    pairs = len(found.area) == len(found.gt_labels) == len(found.pred_labels)
    classes = found.gt_labels[found.gt_index] // divisor == found.pred_labels[found.pred_index] // divisor
    return pairs and bool(classes.all())


@pytest.fixture
def encoded(city: CityscapesDataset, tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes the ground truth as class * divisor + instance."""

    def write(divisor: int, suffix: str, *, original: bool = False, void: int | None = None) -> Path:
        folder = tmp_path / "encoded"
        folder.mkdir()
        for index, image_id in enumerate(city.image_ids):
            panoptic = city.load(index, picture=False).panoptic
            class_id, instance = panoptic // 1000, panoptic % 1000
            table = np.arange(256)
            if original:
                table[:19] = city.info.original_ids
            values = table[class_id] * divisor + instance
            values[class_id == 255] = 255 * divisor if void is None else void
            if suffix == ".npy":
                np.save(folder / f"{image_id}.npy", values.astype(np.int32))
            else:
                Image.fromarray(values.astype(np.uint16)).save(folder / f"{image_id}_pred.png")
        return folder

    return write


@pytest.mark.parametrize(
    ("divisor", "suffix", "ids", "void"),
    [
        (1000, ".npy", None, None),
        (256, ".png", None, None),
        (1000, ".png", None, 65535),
        (1000, ".npy", "original", 0),
    ],
)
def test_class_times_divisor_plus_instance_is_read(
    encoded: Callable[..., Path],
    city: CityscapesDataset,
    divisor: int,
    suffix: str,
    ids: str | None,
    void: int | None,
) -> None:
    folder = encoded(divisor, suffix, original=ids == "original", void=void)
    predictions = open_predictions(folder, city, divisor=divisor, ids=ids)  # type: ignore[arg-type]
    assert (predictions.form, predictions.holds) == ("divisor", {"panoptic"})
    assert [*predictions.problems, *all_findings(predictions)] == []
    for index, image_id in enumerate(city.image_ids):
        found = predictions.read(image_id)[0].panoptic
        assert found is not None
        assert same_segments(city.load(index, picture=False).panoptic, found, 1000)


@pytest.mark.parametrize(
    ("written", "read", "kind", "found", "fixable"),
    [
        ({"divisor": 1000, "suffix": ".npy"}, 256, "divisor", "with the divisor 1000 all classes", False),
        ({"divisor": 1000, "suffix": ".npy", "void": -1}, 1000, "void", "-1", True),
        ({"divisor": 256, "suffix": ".png", "void": 65535}, 256, None, "", False),
        ({"divisor": 1000, "suffix": ".npy", "original": True}, 1000, "original-ids", "original ids", True),
    ],
)
def test_other_numbers_than_the_divisor_gives_are_found(
    encoded: Callable[..., Path],
    city: CityscapesDataset,
    tmp_path: Path,
    written: dict[str, object],
    read: int,
    kind: str | None,
    found: str,
    fixable: bool,
) -> None:
    folder = encoded(**written)
    check = check_predictions(folder, city, divisor=read)
    assert set(check.counts) == ({kind} if kind else set()), check
    if kind:
        assert found in check.findings[0].found
        assert check.findings[0].fixable is fixable
    if fixable:
        fix_predictions(folder, tmp_path / "fixed", city, divisor=read)
        assert check_predictions(tmp_path / "fixed", city, divisor=read).ok
        for index, image_id in enumerate(city.image_ids):
            image = open_predictions(tmp_path / "fixed", city, divisor=read).read(image_id)[0]
            assert image.panoptic is not None
            assert same_segments(city.load(index, picture=False).panoptic, image.panoptic, 1000)


def test_a_divisor_is_asked_for_where_it_is_needed(
    encoded: Callable[..., Path], city: CityscapesDataset, city_predictions: Path
) -> None:
    folder = encoded(1000, ".npy")
    with pytest.raises(DataError, match=r"no divisor for 3 files of this kind; give --divisor"):
        open_predictions(folder, city)
    with pytest.raises(UsageError, match="--divisor 1: expected 2 or more"):
        open_predictions(folder, city, divisor=1)
    with pytest.raises(
        UsageError, match=r"--divisor 1000: expected maps of .*, found coco \+ instances \+ label"
    ):
        open_predictions(city_predictions, city, divisor=1000)
    with pytest.raises(UsageError, match="there is no form 'voc' of predictions; expected one of coco"):
        open_predictions(folder, city, form="voc")


def test_instances_beyond_8_bits_are_not_read_from_8_bits(
    encoded: Callable[..., Path], city: CityscapesDataset
) -> None:
    folder = encoded(256, ".png")
    for path in folder.glob("*.png"):
        Image.fromarray((np.array(Image.open(path)) >> 8).astype(np.uint8)).save(path)
    check = check_predictions(folder, city, divisor=256)
    assert check.counts == {"bit-depth": 3}
    assert "write 16 bits" in str(check)


@pytest.mark.parametrize("suffix", ["", "_leftImg8bit", "_pred", "_gtFine_labelIds"])
def test_label_ids_go_by_the_names_that_the_official_script_takes(
    city_predictions: Path, city: CityscapesDataset, tmp_path: Path, suffix: str
) -> None:
    for path in (city_predictions / "semantic").glob("*.png"):
        target = tmp_path / "results" / "frankfurt" / f"{path.stem}{suffix}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    predictions = open_predictions(tmp_path / "results", city)
    assert (predictions.form, predictions.holds) == ("label_ids", {"semantic"})
    assert [*predictions.problems, *all_findings(predictions)] == []
    for index, image_id in enumerate(city.image_ids):
        image = predictions.read(image_id)[0]
        assert image.panoptic is None
        np.testing.assert_array_equal(image.semantic, city.load(index, picture=False).semantic)


def test_masks_may_overlap(city_predictions: Path, city: CityscapesDataset) -> None:
    for path in (city_predictions / "instance/masks").glob("*/*.png"):
        mask = np.array(Image.open(path))
        Image.fromarray(mask | np.roll(mask, 40, 1)).save(path)
    predictions = open_predictions(city_predictions / "instance", city)
    assert (predictions.form, predictions.holds) == ("instances", {"instances"})
    assert [*predictions.problems, *all_findings(predictions)] == []
    (city_predictions / "panoptic.json").write_text(
        (city_predictions / "panoptic.json").read_text().replace('"score"', '"confidence"')
    )
    image = open_predictions(city_predictions, city).read(city.image_ids[0])[0]
    # They are no segments of the panoptic map any more: their scores are not those of segments.
    assert image.instances is None
    assert image.masks


@pytest.fixture
def results(coco_predictions: Path, coco: CocoDataset) -> Path:
    """Things in COCO's results format: compressed and plain run lengths, and polygons."""
    entries = []
    predictions = open_predictions(coco_predictions, coco)
    for image_id in coco.image_ids:
        image = predictions.read(image_id)[0]
        assert image.panoptic is not None
        assert image.instances is not None
        for label in image.instances.labels.tolist():
            mask = np.asfortranarray(image.panoptic == label)
            rle = run_lengths.encode(mask.astype(np.uint8))
            plain = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel("F"), [0]]))).tolist()
            counts = np.diff([0, *plain, mask.size]).tolist()
            compressed = {"size": rle["size"], "counts": rle["counts"].decode()}
            segmentation = compressed if label % 2 else {"size": rle["size"], "counts": counts}
            category = coco.info.original_ids[label // coco.info.label_divisor]
            number = coco.official_image_id(image_id)
            entries.append(
                {"image_id": number, "category_id": category, "segmentation": segmentation, "score": 0.5}
            )
    (coco_predictions / "results.json").write_text(json.dumps(entries))
    return coco_predictions


def test_run_lengths_are_read(results: Path, coco: CocoDataset) -> None:
    plain = json.loads((results / "panoptic.json").read_text())
    for row in plain["annotations"]:
        for segment in row["segments_info"]:
            del segment["score"]
    (results / "panoptic.json").write_text(json.dumps(plain))
    predictions = open_predictions(results, coco)
    assert predictions.form == "coco + instances"
    assert [*predictions.problems, *all_findings(predictions)] == []
    image = predictions.read(coco.image_ids[0])[0]
    assert image.instances is not None
    assert set(image.instances.score.tolist()) == {0.5}
    assert image.masks is not None
    assert len(image.masks) == len(image.instances.labels)


@pytest.mark.parametrize(
    ("change", "kind", "found"),
    [
        (lambda entry: entry["segmentation"].update(size=[9, 9]), "size", "9 x 9"),
        (lambda entry: entry["segmentation"].update(counts="00"), "mask-form", "run lengths that add up"),
        (lambda entry: entry.update(segmentation="mask"), "mask-form", "mask"),
        (lambda entry: entry["segmentation"].update(counts=[-1]), "mask-form", "-1"),
        (lambda entry: entry.update(category_id=float("inf")), "key-missing", "inf"),
        (lambda entry: entry.update(segmentation=[[1, 1, 9, 1, 9, 9, 1, 9]]), None, ""),
        (lambda entry: entry.pop("score"), "key-missing", "category_id"),
        (lambda entry: entry.update(category_id=999), "category-unknown", "999, no class"),
        (lambda entry: entry.update(image_id=str(entry["image_id"])), "image-id", "'1000'"),
        (lambda entry: entry.update(image_id=5), "image-unknown", "5"),
    ],
)
def test_broken_run_lengths_are_found(
    results: Path, coco: CocoDataset, change: Callable[[dict], object], kind: str | None, found: str
) -> None:
    entries = json.loads((results / "results.json").read_text())
    change(entries[0])
    (results / "results.json").write_text(json.dumps(entries))
    check = check_predictions(results, coco)
    assert set(check.counts) == ({kind} if kind else set()), check
    assert not kind or found in check.findings[0].found


def test_an_archive_is_read_as_a_mac_makes_it(
    coco_predictions: Path, coco: CocoDataset, tmp_path: Path
) -> None:
    archive = tmp_path / "submission.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(coco_predictions.rglob("*.*")):
            file.write(path, f"my model/results/{path.relative_to(coco_predictions)}")
        file.writestr("__MACOSX/my model/._results", b"\0")
    check = check_predictions(archive, coco)
    assert check.counts == {"junk": 1}
    assert "submission.zip/__MACOSX" in str(check)
    fixed = fix_predictions(archive, tmp_path / "fixed", coco)
    assert fixed.changed == {"junk": 1}
    assert check_predictions(tmp_path / "fixed", coco).ok


def test_unsafe_and_broken_archives_are_refused(coco: CocoDataset, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("panoptic.json", bytes(100_000_000))
    with pytest.raises(DataError, match=r"bomb\.zip: expected at most 64\.0 MB in .* files, found 100\.0 MB"):
        open_predictions(bomb, coco)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as file:
        file.writestr("a.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.json", "{}")
    with pytest.raises(DataError, match=r"found a\.json twice"):
        open_predictions(tmp_path / "twice.zip", coco)
    data = bomb.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.zip: expected a \.zip archive, found a damaged one"):
        open_predictions(tmp_path / "cut.zip", coco)


def test_links_to_folders_are_followed_but_not_for_ever(
    coco_predictions: Path, coco: CocoDataset, tmp_path: Path
) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/results").symlink_to(coco_predictions, target_is_directory=True)
    (coco_predictions / "above").symlink_to(coco_predictions, target_is_directory=True)
    check = check_predictions(tmp_path / "linked", coco)
    assert check.ok, check


def test_a_pipe_among_predictions_is_one_line(coco_predictions: Path, coco: CocoDataset) -> None:
    os.mkfifo(coco_predictions / "panoptic/1.png")
    with pytest.raises(
        DataError, match=r"1\.png: expected a file, found a pipe, socket or device; remove it"
    ):
        open_predictions(coco_predictions, coco)


def test_a_data_set_may_call_a_class_0() -> None:
    info = DatasetInfo("coco", 3, ("void", "sky", "cat"), (2,), 1000, 0, (255, 0, 7), void_ids=(255,))
    ids = ClassIds(info, "original")
    assert ids.train_id_of == {0: 1, 7: 2}
    assert ids.number_of == {0: 255, 1: 0, 2: 7}
    assert ids.unknown([0, 7, 255], with_void=True) == []
    assert ids.other_numberings([0, 1], with_void=False) == ["contiguous"]
    assert ClassIds(info, "train").other_numberings([0, 7], with_void=False) == ["original"]


def test_what_cannot_be_predictions_is_one_line(
    coco_predictions: Path, coco: CocoDataset, city: CityscapesDataset, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="does not exist; expected a folder of predictions"):
        open_predictions(tmp_path / "nothing", coco)
    (tmp_path / "empty").mkdir()
    check = check_predictions(tmp_path / "empty", coco)
    assert (check.form, check.counts) == ("", {"form": 1})
    assert "found no file" in str(check)
    # Predictions for another data set.
    check = check_predictions(coco_predictions, city)
    assert check.counts == {"image-unknown": 1}
    assert "give the data set that they are predictions for" in str(check)


def test_entries_of_one_image_each_are_joined(coco_predictions: Path, coco: CocoDataset) -> None:
    rows = json.loads((coco_predictions / "panoptic.json").read_text())["annotations"]
    (coco_predictions / "panoptic.json").unlink()
    for row in rows:
        name = Path(row["file_name"]).stem
        (coco_predictions / f"panoptic/{name}.json").write_text(json.dumps({**row, "image_id": name}))
    assert check_predictions(coco_predictions, coco).ok


def test_what_is_for_people_is_passed_over(
    city_predictions: Path, city: CityscapesDataset, edit: Callable[..., None]
) -> None:
    def as_pictures_are_called(rows: list) -> None:
        for row in rows:
            row["image_id"] = f"frankfurt/{row['image_id']}_leftImg8bit"

    edit(city_predictions, as_pictures_are_called)
    for image_id in city.image_ids:
        Image.new("RGB", (9, 9)).save(city_predictions / f"{image_id}_overlay.jpg")
        Image.new("RGB", (9, 9)).save(city_predictions / f"{image_id}_color.png")
        (city_predictions / "table").mkdir(exist_ok=True)
        (city_predictions / f"table/{image_id}.json").write_text('[{"image": "a", "score": 1}]')
    (city_predictions / "settings.json").write_text("{}")
    (city_predictions / "instances.csv").write_text("image,score\n")
    check = check_predictions(city_predictions, city)
    assert check.ok, check
    assert check.form == "coco + instances + label_ids"


def test_a_corrected_copy_leaves_what_is_ambiguous(
    coco_predictions: Path, coco: CocoDataset, tmp_path: Path, edit: Callable[..., None]
) -> None:
    edit(coco_predictions, lambda rows: rows[0]["segments_info"].pop())
    edit(coco_predictions, lambda rows: rows[0]["segments_info"][0].update(iscrowd=1))
    edit(coco_predictions, lambda rows: rows[1]["segments_info"][0].update(iscrowd=1))
    fixed = fix_predictions(coco_predictions, tmp_path / "fixed", coco)
    assert fixed.changed == {"crowd": 1}
    assert sorted(finding.kind for finding in fixed.left) == ["crowd", "segment-unlisted"]
    assert check_predictions(tmp_path / "fixed", coco).counts == {"crowd": 1, "segment-unlisted": 1}
    with pytest.raises(UsageError, match="expected a new or an empty folder"):
        fix_predictions(coco_predictions, tmp_path / "fixed", coco)
    assert [path.name for path in tmp_path.glob("*unfinished*")] == []


def test_many_alike_are_counted(coco_predictions: Path, coco: CocoDataset) -> None:
    for path in (coco_predictions / "panoptic").glob("*.png"):
        path.write_bytes(b"")
    check = check_predictions(coco_predictions, coco)
    assert check.counts == {"broken-file": 30}
    lines = str(check).splitlines()
    assert len(lines) == 1 + 5 + 2
    assert lines[-2:] == ["  and 25 more of this kind (broken-file)", "  30 findings: broken-file 30"]
    assert check.to_json()["counts"] == {"broken-file": 30}


def test_a_bundled_data_set_is_named(
    city_predictions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    check = zoo.check_predictions(city_predictions, "minicity")
    assert (check.images, check.expected_images) == (3, 30)
    assert set(check.counts) == {"image-missing"}
    with pytest.raises(UsageError, match="no data set 'minicty'"):
        zoo.check_predictions(city_predictions, "minicty")
