"""Data sets of one's own: five classes, seven images, in both formats, from the folder to the scores."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.errors import DataError, RegistryError, UsageError
from zoo.fetch.fetcher import Fetcher
from zoo.files.cache import Cache
from zoo.network.network import classes_of
from zoo.registry.lookup import load_registry
from zoo.registry.registry_text import with_dataset
from zoo.registry.yaml_file import parse
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


@pytest.fixture(scope="module")
def own_coco(minicoco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(OWN.make_own_coco(tmp_path_factory.mktemp("own") / "coco", minicoco))


@pytest.fixture(scope="module")
def own_city(minicity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = OWN.make_own_city(tmp_path_factory.mktemp("own") / "city", minicity)
    (root / "classes.json").write_text(json.dumps(OWN.CLASSES))
    return Path(root)


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


def test_an_entry_on_own_data_is_reproduced_with_the_names_of_its_table(
    zoo_call: Callable[..., Any], minicity: Path, tmp_path: Path
) -> None:
    from zoo.repro.cityscapes.classes import CITYSCAPES

    root = OWN.make_own_city(tmp_path / "city", minicity, own_labels=False)
    rows = [
        {"id": i, "name": f"kind {i}", "isthing": int(n in CITYSCAPES.thing_class_ids)}
        for n, i in enumerate(CITYSCAPES.original_ids)
    ]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    file = tmp_path / "own.yaml"
    named = ("--classes", tmp_path / "classes.json", "--out", file)
    added = zoo_call("data", "add", "mine", "--data", root, *named)
    assert added.returncode == 3
    assert "neither a label id that is declared" in added.stderr
    assert not file.exists()
    stub = "datasets:\n  mine: {title: x, format: cityscapes, split: val, images: 1, void_ids: %s}\n"
    file.write_text(stub % list(CITYSCAPES.void_ids))
    added = zoo_call("data", "add", "mine", "--data", root, *named, "--replace")
    assert added.returncode == 0, added.stderr
    with file.open("a") as text:
        text.write(
            "entries:\n  mine/net:\n    extends: minicity/mobilenet_v3_small_os16\n    title: Net\n"
            "    dataset: mine\n    checkpoint: package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz\n"
        )
    done = zoo_call("--registry", file, "reproduce", "mine/net", "--out", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["images"] == record["images_in_dataset"] == OWN.IMAGES
    assert list(record["per_class"]["internal"]["pq"]) == [row["name"] for row in rows]
    assert set(record["per_class"]["official"]["pq"]) == {row["name"] for row in rows}
    assert 5 < record["metrics"]["official"]["pq"] < 100
    assert record["official_scripts"]["not_measured"].keys() == {"iiou", "ap", "ap50"}


def edited(root: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    content = json.loads((root / "annotations/panoptic_val.json").read_text())
    change(content["categories"])
    copy = tmp_path / "copy"
    (copy / "annotations").mkdir(parents=True)
    (copy / "val").symlink_to(root / "val")
    (copy / "annotations/panoptic_val").symlink_to(root / "annotations/panoptic_val")
    (copy / "annotations/panoptic_val.json").write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.clear(), "lists 0 categories, expected 1 to 255"),
        (lambda rows: rows[1].update(id=7), "two categories have the id 7; give each its own"),
        (lambda rows: rows[1].update(name="auto"), "two categories have the name 'auto'"),
        (lambda rows: rows[1].pop("isthing"), "categories.1.isthing: Field required; make the file again"),
        (lambda rows: rows[1].update(isthing=2), "categories.1.isthing"),
        (lambda rows: rows[1].update(id="12a"), "categories.1.id: Input should be a valid integer"),
        (lambda rows: rows[1].update(id=-1), "categories.1.id: Input should be greater than or equal to 0"),
        (
            lambda rows: rows[1].update(id=70000),
            "categories.1.id: Input should be less than or equal to 65534",
        ),
        (lambda rows: rows[1].update(name=""), "categories.1.name: String should have at least 1 character"),
        (
            lambda rows: rows.extend({"id": 2000 + i, "name": f"n{i}", "isthing": 0} for i in range(251)),
            "256 cat",
        ),
        (
            lambda rows: rows.pop(1),
            "has category 1200, which is not one of the 4 categories of the annotations",
        ),
    ],
)
def test_categories_that_cannot_be_used_are_named(
    own_coco: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    root = edited(own_coco, tmp_path, change)
    with pytest.raises(DataError) as error:
        open_files(CocoDataset, root, "val", cache=tmp_path / "cache").check_headers(0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_order_of_categories_in_the_file_changes_nothing(own_coco: Path, tmp_path: Path) -> None:
    root = edited(own_coco, tmp_path, lambda rows: rows.reverse())
    assert open_files(CocoDataset, root, "val").info == open_files(CocoDataset, own_coco, "val").info


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "classes: [{name: a, id: 1, isthing: true}, {name: a, id: 2, isthing: false}]",
            "another name for each",
        ),
        (
            "classes: [{name: a, id: 1, isthing: true}, {name: b, id: 1, isthing: false}]",
            "another id for each",
        ),
        ("classes: [{name: a, id: 66, isthing: true}]", "label ids from 1 to 65 for things"),
        ("classes: [{name: a, id: 255, isthing: false}]", "expected 254 or less, found 255"),
        ("classes: [{name: a, id: 1}]", "classes.0.isthing: expected a value, found none"),
        ("classes: [{name: a, id: 1, isthing: false, colour: red}]", "classes.0.colour: expected a list"),
        ("void_ids: [256]", "expected 255 or less, found 256"),
        ("classes: []", "expected a list of 1 or more values"),
        (
            "classes: [{name: a, id: 1, isthing: true}]\n    void_ids: [1]",
            "expected label ids that are not of a class, found 1",
        ),
    ],
)
def test_tables_of_classes_that_cannot_be_used_are_named(lines: str, message: str) -> None:
    text = "datasets:\n  town:\n    title: t\n    format: cityscapes\n    split: val\n    images: 7\n    "
    text += f"{lines}\n"
    with pytest.raises(RegistryError) as error:
        load_registry([], [parse(text, "own.yaml")])
    assert message in str(error.value)
    assert str(error.value).startswith("own.yaml:")


def test_a_table_is_not_for_the_coco_format() -> None:
    row = "{name: a, id: 1, isthing: true}"
    text = f"datasets:\n  a: {{title: t, format: coco, split: val, images: 7, classes: [{row}]}}\n"
    with pytest.raises(RegistryError, match="expected none, as the annotations of the format coco list them"):
        load_registry([], [parse(text, "own.yaml")])


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

    root = edited(own_coco, tmp_path, lambda rows: None)
    (root / "val").unlink()
    (root / "val").mkdir()
    for path in list((own_coco / "val").iterdir())[:-1]:
        (root / "val" / path.name).write_bytes(path.read_bytes())
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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# first\nversion: 1\ndatasets:\n",
        "datasets: {}\nversion: 1",
        "datasets:\n    # of old\n    old: {title: o, format: coco, split: v, images: 1}  # tail\n\n# end\n",
        "datasets:\n  new:\n    title: before\n  # about old\n  old:\n    title: o\nversion: 1\n",
        "entries:\n  a/b: {title: x}\n",
    ],
)
def test_a_declaration_is_added_and_every_other_line_kept(text: str) -> None:
    body = {
        "title": "12e3",
        "split": "2017",
        "images": 3,
        "classes": [{"name": "on", "id": 1, "colour": [1, 2, 3]}],
    }
    changed = with_dataset(text, "own.yaml", "new", body)
    assert parse(changed, "own.yaml").content["datasets"]["new"] == body
    gone = {"datasets: {}", "    title: before"}
    kept = [line for line in text.splitlines() if line.strip() and line not in gone]
    assert [line for line in changed.splitlines() if line in kept] == kept
    assert with_dataset(changed, "own.yaml", "new", body) == changed


def test_lines_that_cannot_be_added_are_refused() -> None:
    with pytest.raises(RegistryError, match="expected `datasets:` with each data set on lines of its own"):
        with_dataset("{version: 1}", "own.yaml", "new", {"title": "x"})
    with pytest.raises(RegistryError, match="expected `datasets:` with each data set on lines of its own"):
        with_dataset("datasets: {old: {title: o}}\n", "own.yaml", "new", {"title": "x"})
