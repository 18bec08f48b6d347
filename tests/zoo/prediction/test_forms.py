"""Predictions as files: every form gives back what was predicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image

from zoo.errors import UsageError, ZooError
from zoo.prediction.forms import FORMS, writer_of
from zoo.prediction.prediction import Prediction

PredictTruth = Callable[[str, int], Prediction]


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def segment_ids(path: Path) -> np.ndarray:
    ids: np.ndarray = np.asarray(Image.open(path)).astype(np.int64) @ [1, 256, 65536]
    return ids


@pytest.mark.parametrize("name", ["minicity", "minicoco"])
def test_instances_are_a_table_of_what_is_in_the_map(predict_truth: PredictTruth, name: str) -> None:
    prediction = predict_truth(name, 3)
    found = prediction.instances
    assert dict(found.dtypes.astype(str)) == {
        **dict.fromkeys(("label", "class_id"), "int64"),
        "class_name": "string",
        "area_px": "int64",
        "score": "float64",
        **dict.fromkeys(("x0_px", "y0_px", "x1_px", "y1_px"), "int64"),
    }
    assert found.label.tolist() == prediction.scored.labels.tolist() != []
    assert found.score.tolist() == prediction.scored.score.tolist()
    for each in found.itertuples():
        y, x = np.nonzero(prediction.panoptic == each.label)
        assert (each.x0_px, each.y0_px, each.x1_px, each.y1_px) == (
            x.min(),
            y.min(),
            x.max() + 1,
            y.max() + 1,
        )
        assert each.area_px == x.size
        assert each.class_name == prediction.class_name(each.label) == prediction.class_names[each.class_id]
    assert prediction.instances is found


@pytest.mark.parametrize("name", ["minicity", "minicoco"])
@pytest.mark.parametrize("form", ["coco", "cityscapes"])
def test_coco_and_cityscapes_hold_everything(
    predict_truth: PredictTruth, name: str, form: str, tmp_path: Path
) -> None:
    predictions = [predict_truth(name, index) for index in (0, 4)]
    for prediction in predictions:
        prediction.save(tmp_path, form)
    written = json.loads((tmp_path / "panoptic.json").read_text())
    info = predictions[0].classes
    assert {each["id"]: each["name"] for each in written["categories"]} == {
        original: info.class_names[i]
        for i, original in enumerate(info.original_ids)
        if i != info.ignore_label
    }
    assert sum(each["isthing"] for each in written["categories"]) == len(info.thing_class_ids)
    for prediction, annotation in zip(predictions, written["annotations"], strict=True):
        image_id = annotation["image_id"]
        assert image_id == (int(prediction.name) if name == "minicoco" else prediction.name)
        ids = segment_ids(tmp_path / "panoptic" / annotation["file_name"])
        found = np.full(ids.shape, prediction.void_label)
        scores = {}
        for segment in annotation["segments_info"]:
            class_id = info.original_ids.index(segment["category_id"])
            is_thing = class_id in info.thing_class_ids
            label = class_id * info.label_divisor + is_thing * (segment["id"] - 1000 * segment["category_id"])
            here = ids == segment["id"]
            found[here] = label
            assert segment["area"] == np.count_nonzero(here)
            if is_thing:
                scores[label] = segment["score"]
        np.testing.assert_array_equal(found, prediction.panoptic)
        # To the last bit: average precision depends on their order.
        assert scores == dict(
            zip(prediction.scored.labels.tolist(), prediction.scored.score.tolist(), strict=True)
        )
        semantic = np.asarray(Image.open(tmp_path / "semantic" / annotation["file_name"]))
        np.testing.assert_array_equal(semantic, np.array(info.original_ids)[prediction.semantic])
        lines = tmp_path / f"instance/{prediction.name}.txt"
        assert lines.exists() == (form == "cityscapes")
        if form == "cityscapes":
            for line in lines.read_text().splitlines():
                mask, category, score = line.split(" ")
                segment_id = int(Path(mask).stem)
                here = np.asarray(Image.open(tmp_path / "instance" / mask)) > 0
                np.testing.assert_array_equal(here, ids == segment_id)
                assert (segment_id // 1000, float(score) in scores.values()) == (int(category), True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_gives_every_number_back(
    city: Prediction, coco: Prediction, suffix: str, tmp_path: Path
) -> None:
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    path = tmp_path / f"cars{suffix}"
    city.save(path)
    found = read(path)
    assert found.pop("image").tolist() == [city.name] * len(city.instances)
    assert_frame_equal(found, city.instances, check_dtype=False, check_exact=True)

    for prediction, name in ((city, "b"), (coco, 'a "quoted", =1')):
        prediction.save(tmp_path, "table", name=name, suffix=suffix)
    both = read(tmp_path / f"instances{suffix}")
    assert set(both.image) == {"b", 'a "quoted", =1'}
    assert both.score.tolist() == [*coco.instances.score, *city.instances.score]


def test_overlays_are_written_as_pictures(city: Prediction, tmp_path: Path) -> None:
    city.save(tmp_path / "one.png", labels=False)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "one.png")), city.overlay(labels=False))
    city.save(tmp_path / "one.JPG")
    city.save(tmp_path / "all", "overlay", name="trip/my street", alpha=0.3)
    for name, overlay in (
        ("one.JPG", city.overlay()),
        ("all/trip/my street_overlay.jpg", city.overlay(alpha=0.3)),
    ):
        with Image.open(tmp_path / name) as written:
            assert written.format == "JPEG"
            assert np.abs(np.asarray(written).astype(np.int32) - overlay).mean() < 4


def test_forms_share_a_folder_and_a_stream_can_go_on(predict_truth: PredictTruth, tmp_path: Path) -> None:
    predictions = {f"street {index}": predict_truth("minicity", index) for index in range(3)}

    def write(folder: Path, names: list[str]) -> None:
        writers = [writer_of(form, folder, predictions["street 0"].classes) for form in FORMS]
        for name in names:
            for writer in writers:
                if not writer.has(name):
                    writer.write(name, predictions[name])
                assert writer.has(name)
        for writer in writers:
            writer.finish(names)

    write(tmp_path / "whole", list(predictions))
    write(tmp_path / "parts", ["street 1"])
    first = files_in(tmp_path / "parts")
    assert json.loads(first["panoptic.json"])["annotations"][0]["image_id"] == "street 1"
    write(tmp_path / "parts", list(predictions))
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")
    # Every form, alone, writes the same files.
    for form in FORMS:
        for name, prediction in predictions.items():
            prediction.save(tmp_path / form, form, name=name)
    alone = {name: data for form in FORMS for name, data in files_in(tmp_path / form).items()}
    assert alone == files_in(tmp_path / "whole")


def test_what_cannot_be_written_is_said_in_one_line(
    city: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = replace(city, name=None)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    calls: list[tuple[str, Callable[[], None]]] = [
        (
            r"out: expected a file that ends in \.jpg, .*, or a folder and form=\"coco\"",
            lambda: city.save("out"),
        ),
        (
            "expected one of the forms overlay, coco, cityscapes, table, found 'voc'",
            lambda: city.save("out", "voc"),
        ),
        ("for this file, found alpha", lambda: city.save("a.csv", alpha=0.3)),
        ("for this file, found suffix", lambda: city.save("a.png", suffix=".jpg")),
        ("expected the name of the image", lambda: nameless.save("out", "coco")),
        (
            r"overlay: expected a suffix of .*, found '\.gif'",
            lambda: city.save("o", "overlay", suffix=".gif"),
        ),
        ("coco: expected no such options, found suffix", lambda: city.save("out", "coco", suffix=".png")),
        (r"table: expected a table that ends in", lambda: city.save("out", "table", suffix=".xls")),
        (r"Parquet needs `pip install 'panoptic-zoo\[parquet\]'`", lambda: city.save("out.parquet")),
        ("file", lambda: city.save(tmp_path / "file/one.png")),
        ("file", lambda: city.save(tmp_path / "file", "cityscapes")),
    ]
    monkeypatch.chdir(tmp_path)
    for message, call in calls:
        with pytest.raises(ZooError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError) is False
    assert list(files_in(tmp_path)) == ["file"]
