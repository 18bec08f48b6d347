"""Data sets of one's own: five classes, seven images, in both formats, from the folder to the scores."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.errors import DataError, UsageError
from zoo.fetch.fetcher import Fetcher
from zoo.files.cache import Cache
from zoo.network.network import classes_of
from zoo.registry.lookup import load_registry
from zoo.registry.registry_text import with_dataset
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets.colours import class_colours
from zoo.repro.datasets.dataset import Dataset
from zoo.repro.datasets.opening import open_dataset, open_files
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.official.scripts import OfficialScores, start_official
from zoo.repro.run.pictures import read_panoptic
from zoo.repro.run.scores import InternalScores

OWN = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "own_data.py")))
COCO_NAMES = ("void", "street", "auto", "pedestrian", "heaven", "house")


def scored_as_its_own_truth(dataset: Dataset, folder: Path) -> tuple[InternalScores, OfficialScores]:
    scores = InternalScores(dataset.info)
    for index, image_id in enumerate(dataset.image_ids):
        sample = dataset.load(index)
        classes = sample.panoptic // dataset.info.label_divisor
        is_thing = np.isin(classes, dataset.info.thing_class_ids)
        labels = np.unique(sample.panoptic[is_thing])
        things: Any = SimpleNamespace(labels=labels, score=np.full(labels.size, 0.5, np.float32))
        maps = {"panoptic": sample.panoptic, "semantic": sample.semantic, "instances": things}
        write_predictions(folder / "predictions", image_id, info=dataset.info, **maps)
        again = read_panoptic(folder / "predictions", image_id, dataset.info)
        np.testing.assert_array_equal(again // dataset.info.label_divisor, classes)
        scores.add(scores.measure(sample, **maps))
    with start_official(dataset, dataset.image_ids, folder / "predictions", folder / "official", 2) as run:
        return scores, run.finish()


def test_a_coco_data_set_goes_from_its_folder_to_its_scores(
    zoo_call: Callable[..., Any], own_coco: Path, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    added = zoo_call("data", "add", "mine", "--data", own_coco, "--out", file)
    assert added.returncode == 0, added.stderr
    lines = [line.removeprefix("zoo: ") for line in added.stderr.splitlines()]
    assert lines[:3] == [
        f"mine: 7 images in {own_coco}, format coco, split val",
        "  5 classes: 2 things (auto, pedestrian), 3 stuff (street, heaven, house)",
        "  4 sizes from 256 x 256 to 320 x 240 px (height x width)",
    ]
    truth = json.loads((own_coco / "annotations/panoptic_val.json").read_text())["annotations"]
    crowds = [sum(part["iscrowd"] for part in image["segments_info"]) for image in truth]
    assert sum(crowds) > 0
    segments = sum(len(image["segments_info"]) for image in truth)
    assert lines[3] == f"  {segments} segments, {sum(crowds)} crowds in {np.count_nonzero(crowds)} images"
    assert f"`zoo --registry {file} data check mine` checks it" in lines[-1]

    check = zoo_call("--registry", file, "data", "check", "mine")
    assert check.returncode == 0, check.stdout
    assert "complete; 7 images decoded" in check.stdout
    assert "no official ap, ap50: annotations/instances_val.json is not there" in check.stdout

    dataset = open_dataset(load_registry(file).dataset("mine"), None, Fetcher(Cache(tmp_path / "cache")))
    info = dataset.info
    assert (info.class_names, info.thing_class_ids) == (COCO_NAMES, (2, 3))
    # 0 is a category, so that void is another number.
    assert (info.original_ids, info.void_ids) == ((255, 0, 3, 7, 40, 1200), (255,))
    assert class_colours(info)[[3, 4]].tolist() == [[255, 0, 0], [0, 0, 255]]
    internal, official = scored_as_its_own_truth(dataset, tmp_path)
    found = internal.compute()
    assert found.metrics == pytest.approx(dict.fromkeys(("pq", "sq", "rq", "miou", "ap"), 100.0))
    assert official.metrics["pq"] == official.metrics["pq_things"] == official.metrics["pq_stuff"] == 100
    assert "ap" not in official.metrics
    assert "instances_val.json is not there" in official.provenance["not_measured"]["ap"]
    assert set(official.provenance["scripts"]) == {"evalPanopticSemanticLabeling"}
    assert set(official.per_class["pq"]) == set(COCO_NAMES[1:])
    png = Image.open(tmp_path / "predictions/semantic" / f"{dataset.image_ids[0]}.png")
    written = np.array(png, np.int64)
    np.testing.assert_array_equal(written, np.array(info.original_ids)[dataset.load(0).semantic])


def test_instance_annotations_of_own_categories_give_official_ap(minicoco: Path, tmp_path: Path) -> None:
    root = OWN.make_own_coco(tmp_path / "coco", minicoco, instances=True)
    dataset = open_files(CocoDataset, root, "val", cache=tmp_path / "cache")
    _, official = scored_as_its_own_truth(dataset, tmp_path)
    assert official.metrics["ap"] == pytest.approx(100)
    assert official.per_class["ap"] == pytest.approx({"auto": 100.0, "pedestrian": 100.0})
    assert "not_measured" not in official.provenance


def test_a_city_data_set_with_a_table_goes_from_its_folder_to_its_scores(
    zoo_call: Callable[..., Any], own_city: Path, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("# Mine.\nversion: 1\n")
    added = zoo_call("data", "add", "town", "--data", own_city, "--out", file)
    assert "4 classes: 2 things (class 4, class 64), 2 stuff (class 3, class 200)" in added.stderr
    assert "no file names these classes" in added.stderr
    named = ("--classes", own_city / "classes.json", "--out", file, "--replace")
    added = zoo_call("data", "add", "town", "--data", own_city, *named)
    assert added.returncode == 0, added.stderr
    assert "5 classes: 2 things (pedestrian, auto), 3 stuff (street, house, heaven)" in added.stderr
    assert file.read_text().startswith("# Mine.\nversion: 1\n")
    # Again, without the file of classes: what was edited meanwhile is kept.
    file.write_text(file.read_text().replace("name: heaven", "name: sky").replace("images: 7", "images: 5"))
    check = zoo_call("--registry", file, "data", "check", "town")
    assert check.returncode == 3
    assert f"has 7 images, expected 5; change `images:` in {file}:9, or `zoo data add town" in check.stderr
    assert zoo_call("data", "add", "town", "--data", own_city, "--out", file, "--replace").returncode == 0
    assert zoo_call("--registry", file, "data", "check", "town").returncode == 0

    checked = zoo.check_data("town", registry=file, full=True)
    assert (checked.ok, checked.images, checked.samples) == (True, 7, 7)
    declared = load_registry(file).dataset("town")
    dataset = open_dataset(declared, None, Fetcher(Cache(tmp_path / "cache")))
    info = dataset.info
    assert info.class_names == ("pedestrian", "auto", "street", "house", "sky")
    assert (info.thing_class_ids, info.original_ids, info.void_ids) == ((0, 1), (4, 64, 0, 200, 3), (255,))
    internal, official = scored_as_its_own_truth(dataset, tmp_path)
    found = internal.compute()
    assert found.metrics == pytest.approx(dict.fromkeys(("pq", "sq", "rq", "miou", "ap"), 100.0))
    official.take_semantic(found.official_miou, found.official_iou)
    assert official.metrics["pq"] == official.metrics["pq_things"] == official.metrics["pq_stuff"] == 100
    assert official.metrics["miou"] == 100
    assert set(official.provenance["not_measured"]) == {"iiou", "ap", "ap50"}
    assert "fixed to the classes of Cityscapes, so zoo counts" in official.provenance["miou"]
    assert official.provenance["panoptic_ground_truth"].startswith("made by zoo")

    # Other names of classes are another data set.
    renamed = open_dataset(
        declared.model_copy(update={"classes": declared.classes[::-1]} if declared.classes else {}),
        None,
        Fetcher(Cache(tmp_path / "cache")),
    )
    assert renamed.fingerprint() != dataset.fingerprint()


def test_an_entry_needs_as_many_outputs_as_the_data_set_has_classes(
    zoo_call: Callable[..., Any], one_line: Callable[..., str], own_coco: Path, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "entries:\n  mine/net:\n    extends: minicoco/mobilenet_v3_small_os16\n    title: Net\n"
        "    dataset: mine\n    checkpoint: net.tar.gz\n"
    )
    assert zoo_call("data", "add", "mine", "--data", own_coco, "--out", file).returncode == 0
    message = one_line(zoo_call("--registry", file, "reproduce", "mine/net"), 2)
    assert "expected a network of 6 classes, as its data set mine has with void, found one of 134" in message
    registry = load_registry(file)
    entry, declared = registry.resolve("mine/net"), registry.dataset("mine")
    with pytest.raises(UsageError, match="expected a network of 6 classes"):
        classes_of(entry, declared)
    head = entry.network.semantic_head.model_copy(update={"output_channels": 6})
    network = entry.network.model_copy(update={"semantic_head": head})
    assert classes_of(entry.model_copy(update={"network": network}), declared).class_names == COCO_NAMES


def test_an_own_network_on_own_data_is_scored_explained_and_shown(
    zoo_call: Callable[..., Any], one_line: Callable[..., str], minicoco: Path, own_city: Path, tmp_path: Path
) -> None:
    from zoo.repro.cityscapes.classes import CITYSCAPES
    from zoo.repro.coco.classes import COCO

    own_coco = OWN.make_own_coco(tmp_path / "coco", minicoco, instances=True)
    outputs = {
        "coco": [0, *(COCO.train_ids[i] for i in (149, 3, 1, 187, 197))],
        "city": [CITYSCAPES.train_ids[i] for i in (24, 26, 7, 11, 23)],
    }
    file, entries = tmp_path / "own.yaml", ""
    for name, train_ids in outputs.items():
        (tmp_path / name).mkdir(exist_ok=True)
        base = f"mini{name}/mobilenet_v3_small_os16"
        archive = OWN.cut_checkpoint(tmp_path / name / "cut.tar.gz", base, train_ids)
        entries += (
            f"  mine/{name}:\n    extends: {base}\n    title: {name}\n    dataset: my{name}\n"
            f"    checkpoint: {archive}\n"
            f"    network: {{semantic_head: {{output_channels: {len(train_ids)}}}}}\n"
        )
    file.write_text(f"entries:\n{entries}")
    assert zoo_call("data", "add", "mycoco", "--data", own_coco, "--out", file).returncode == 0
    table = ("--classes", own_city / "classes.json", "--out", file)
    assert zoo_call("data", "add", "mycity", "--data", own_city, *table).returncode == 0
    names = ("mine/coco", "mine/city")
    done = zoo_call("--registry", file, "reproduce", *names, "--out", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    for record, least in zip(json.loads(done.stdout), (75, 85), strict=True):
        assert record["images"] == record["images_in_dataset"] == OWN.IMAGES
        official, internal = record["metrics"]["official"], record["metrics"]["internal"]
        # These networks know nothing else than what is there.
        assert least < official["pq"] <= internal["pq"] + 1e-9
        assert official["miou"] > 90
        assert ("ap" in official) == (record["entry"] == "mine/coco")
        if "ap" in official:
            assert official["ap"] == pytest.approx(internal["ap"], abs=0.5)
            assert list(record["per_class"]["internal"]["pq"]) == list(COCO_NAMES)
        else:
            assert official["pq"] == pytest.approx(internal["pq"], abs=1e-9)
            assert record["official_scripts"]["not_measured"].keys() == {"iiou", "ap", "ap50"}
        run = tmp_path / "runs" / record["entry"].replace("/", "__")
        # Predictions on disk give the same numbers without the network.
        given = ("--dataset", f"my{record['entry'][5:]}", "--out", tmp_path / "runs", "--json")
        scored = json.loads(zoo_call("--registry", file, "score", run, *given).stdout)
        assert scored["metrics"]["official"] == official
        explained = zoo_call("explain", run)
        assert explained.returncode == 0, explained.stderr
        page = run / "page.html"
        assert zoo_call("report", "html", run, "--out", page).returncode == 0
        text = page.read_text(encoding="utf-8")
        assert "heaven" in text
        assert ("No official iIoU, AP, AP50: " in text) == ("ap" not in official)
        # Own pictures have these classes, too.
        pictures = own_coco / "val" if record["entry"] == "mine/coco" else own_city / "leftImg8bit/val/town"
        seen = tmp_path / "seen" / record["dataset"]["name"]
        done = zoo_call(
            "--registry", file, "predict", record["entry"], pictures, "--out", seen, "--write", "coco"
        )
        assert done.returncode == 0, done.stderr
        scored = json.loads(zoo_call("--registry", file, "score", seen, *given).stdout)
        assert scored["metrics"]["internal"] == record["metrics"]["internal"]
        # From Python, too, a registry file says where the data set is.
        own, copy = record["dataset"]["name"], seen.with_name(f"{seen.name}_copy")
        assert zoo.check_predictions(seen, own, registry=file).ok
        assert zoo.fix_predictions(seen, copy, own, registry=file, form="coco").left == ()
        again = zoo.score(copy, dataset=own, registry=file, out=tmp_path / "runs", evaluators=("internal",))
        assert again["metrics"]["internal"] == record["metrics"]["internal"]
    network = zoo.load("mine/coco", registry=file)
    assert network.predict(next((own_coco / "val").iterdir())).classes.class_names == COCO_NAMES

    # Without its folder nothing names the classes.
    text = file.read_text()
    file.write_text(text.replace(f"path: {own_coco}", ""))
    assert file.read_text() != text
    command = ("predict", "mine/coco", own_coco / "val", "--out", tmp_path / "nothing")
    message = one_line(zoo_call("--registry", file, *command), 2)
    assert "mine/coco: predict: expected the classes of its data set mycoco, found neither `path:`" in message


def test_a_label_id_that_the_table_lacks_is_told(own_city: Path) -> None:
    from zoo.repro.datasets.survey import read_classes, survey_folder

    classes = read_classes(own_city / "classes.json")
    with pytest.raises(DataError, match=r"holds id 200, neither a label id that is declared") as error:
        survey_folder("town", own_city, classes=[row for row in classes if row.id != 200])
    assert "add the class to `classes:`, or its label id to `void_ids:`" in str(error.value)
    found = survey_folder("town", own_city, classes=classes)
    assert found.body()["classes"][0] == {
        "name": "pedestrian",
        "id": 4,
        "isthing": True,
        "colour": [255, 0, 0],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("minicoco", "--data", "."),
            2,
            "datasets.minicoco: expected a new name, found one that is defined in zoo/reg",
        ),
        (
            ("mine", "--data", "empty"),
            3,
            "holds no data set of a known format; expected cityscapes: leftImg8bit",
        ),
        (("mine", "--data", "nowhere"), 3, "nowhere: expected the folder of a data set, found none"),
        (("mine", "--data", ".", "--split", "train"), 3, "has no split train; splits found: val"),
        (("mine", "--data", ".", "--format", "cityscapes"), 3, "expected cityscapes: leftImg8bit"),
        (("a/b", "--data", "."), 2, "datasets.a/b: expected a name without '/' and spaces, found 'a/b'"),
        (
            ("mine", "--data", ".", "--classes", "c.json"),
            3,
            "c.json: class 1: isthing: expected a value, found",
        ),
    ],
)
def test_what_cannot_be_added_is_said_in_one_line(
    zoo_call: Callable[..., Any],
    own_coco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "c.json").write_text('{"categories": [{"id": 1, "name": "a", "supercategory": "b"}]}')
    monkeypatch.chdir(tmp_path)
    given = [str(own_coco) if each == "." else each for each in arguments]
    done = zoo_call("data", "add", *given, "--out", tmp_path / "own.yaml")
    assert done.returncode == code, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "own.yaml").exists()


def test_pictures_without_ground_truth_are_not_counted_silently(own_coco: Path, tmp_path: Path) -> None:
    from zoo.repro.datasets.survey import survey_folder

    root = tmp_path / "copy"
    shutil.copytree(own_coco, root)
    next((root / "val").iterdir()).unlink()
    with pytest.raises(
        DataError, match=r"1 of 7 images cannot be used, first: val/.* is missing, but annotated"
    ):
        survey_folder("mine", root)


def test_a_folder_that_is_gone_is_told_with_the_line_that_names_it(
    zoo_call: Callable[..., Any], one_line: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    body = {"title": "Mine", "format": "coco", "split": "val", "images": 7, "path": "pictures"}
    file.write_text(with_dataset("", str(file), "mine", body))
    message = one_line(zoo_call("--registry", file, "data", "check", "mine"), 3)
    assert f"{tmp_path / 'pictures'}: `path:` of the data set mine, declared in {file}:" in message
