"""Predictions on disk are scored as the run that made them, in whatever form; reports take such a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import DataError, InterruptedRunError, UsageError
from zoo.reports.explain.steps import explain
from zoo.reports.page.html import page
from zoo.reports.runs import find_runs
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.predictions.predictions import Predictions
from zoo.repro.run.folder_pass import FolderPass
from zoo.repro.run.score import UnsoundPredictionsError

IMAGES = 30
Whole = Any  # Of conftest.py: an undisturbed run over all images.

# Beside the run that all of these files compare with.
pytestmark = pytest.mark.xdist_group("minicity")

NUMBERS = ("metrics", "per_class", "ap12")


@pytest.fixture
def part_of(whole: Whole, tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that copies some of a run's predictions to a folder of its own."""

    def copy(name: str, *parts: str) -> Path:
        folder = tmp_path / name
        for part in parts:
            source = whole.folder / "predictions" / part
            target = folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.json"))
            else:
                shutil.copy(source, target)
        return folder

    return copy


def score(predictions: Path, tmp_path: Path, **options: Any) -> dict[str, Any]:
    record: dict[str, Any] = zoo.score(predictions, dataset="minicity", out=tmp_path / "runs", **options)
    return record


@pytest.fixture(scope="module")
def scored(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("scored")
    record = zoo.score(whole.folder, dataset="minicity", out=out, claims=["pq=74.2", "internal.pq=74.20"])
    return record, out / f"score__{whole.folder.name}"


def test_a_runs_predictions_have_its_numbers_to_the_last_bit(
    whole: Whole, scored: tuple[dict[str, Any], Path]
) -> None:
    record, folder = scored
    for part in (*NUMBERS, "pictures", "official_scripts", "skipped"):
        assert record[part] == whole.record[part], part
    assert record["entry"] is None
    assert record["predictions"]["name"] == whole.folder.name
    assert record["predictions"]["holds"] == ["instances", "panoptic", "semantic"]
    assert len(record["predictions"]["sha256"]) == 64
    assert [claim["verdict"] for claim in record["claims"]] == ["match", "match"]
    assert json.loads((folder / "record.json").read_text(encoding="utf-8")) == record
    for name in ("best_input.jpg", "worst_difference.png"):
        drawn = (folder / "pictures" / name).read_bytes()
        assert drawn == (whole.folder / "pictures" / name).read_bytes()


def test_every_report_takes_the_run(whole: Whole, scored: tuple[dict[str, Any], Path]) -> None:
    _, folder = scored
    assert [waterfall.residual for waterfall in explain(folder).waterfalls if waterfall.is_measured] == [0, 0]
    assert whole.folder.name in page(find_runs([folder]))
    assert set(zoo.results(folder)["entry"]) == {whole.folder.name}


def test_panoptic_maps_alone_give_pq_and_ap_and_their_own_miou(
    whole: Whole, part_of: Callable[..., Path], tmp_path: Path
) -> None:
    record = score(part_of("panoptic_form", "panoptic", "panoptic.json"), tmp_path)
    found, expected = record["metrics"], whole.record["metrics"]
    for evaluator, metrics in (("official", ("pq", "ap", "ap50")), ("internal", ("pq", "sq", "ap"))):
        assert {name: found[evaluator][name] for name in metrics} == {
            name: expected[evaluator][name] for name in metrics
        }
    assert record["predictions"]["semantic_from_panoptic"] is True
    assert found["official"]["miou"] != expected["official"]["miou"]
    # What the map leaves void is missed, by the script and by the internal rules.
    assert found["internal"]["miou"] == pytest.approx(found["official"]["miou"], abs=0.2)
    assert found["internal"]["miou"] < expected["internal"]["miou"]


def test_label_ids_alone_give_miou(whole: Whole, part_of: Callable[..., Path], tmp_path: Path) -> None:
    record = score(part_of("maps", "semantic"), tmp_path, claims=["ap=1.0"])
    assert record["metrics"] == {
        "official": {name: whole.record["metrics"]["official"][name] for name in ("miou", "iiou")},
        "internal": {"miou": whole.record["metrics"]["internal"]["miou"]},
    }
    assert set(record["official_scripts"]["scripts"]) == {"evalPixelLevelSemanticLabeling"}
    assert record["claims"][0]["reason"] == "the official evaluator did not measure it"
    assert record["pictures"][0]["pq"] is None
    assert record["pictures"][0]["wrong_segment"] is None


def test_masks_alone_give_ap(whole: Whole, part_of: Callable[..., Path], tmp_path: Path) -> None:
    record = score(part_of("things", "instance"), tmp_path)
    assert record["metrics"]["official"] == {
        name: whole.record["metrics"]["official"][name] for name in ("ap", "ap50")
    }
    assert record["metrics"]["internal"] == {"ap": whole.record["metrics"]["internal"]["ap"]}
    assert record["pictures"] == []


def test_boundary_quality_is_measured_where_it_is_asked_for(
    part_of: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"evaluators": ("internal",), "metrics": ("boundary",), "limit": 3}
    record = score(part_of("maps_of_things", "panoptic", "panoptic.json"), tmp_path, **options)
    found = record["metrics"]["internal"]
    assert 0 < found["boundary_pq"] < found["pq"]
    assert 0 < found["boundary_iou"] < found["miou"]
    assert list(record["per_class"]["internal"]["boundary_iou"]) == list(CITYSCAPES.class_names)
    found = score(part_of("maps", "semantic"), tmp_path, **options)["metrics"]["internal"]
    assert found.keys() == {"miou", "boundary_iou"}


def test_an_interrupted_run_goes_on(
    part_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = part_of("maps", "semantic")
    expected = score(folder, tmp_path, evaluators=("internal",), name="undisturbed")
    evaluate = FolderPass._evaluate

    def interrupted(self: FolderPass, index: int) -> Any:
        if index >= 7:
            raise KeyboardInterrupt
        return evaluate(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(FolderPass, "_evaluate", interrupted)
        with pytest.raises(
            InterruptedRunError, match=f"maps: interrupted with [4-7] of {IMAGES} images done"
        ):
            score(folder, tmp_path, evaluators=("internal",))
    record = score(folder, tmp_path, evaluators=("internal",))
    assert IMAGES - 7 <= record["timings"]["images_computed"] <= IMAGES - 4
    for part in (*NUMBERS, "pictures"):
        assert record[part] == expected[part]


def test_broken_predictions_are_not_scored_or_left_out(part_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = part_of("maps", "semantic")
    broken, empty = sorted((folder / "semantic").iterdir())[3:5]
    broken.write_bytes(broken.read_bytes()[:200])
    empty.unlink()
    with pytest.raises(UnsoundPredictionsError, match="so nothing was scored") as caught:
        score(folder, tmp_path)
    assert len(caught.value.check.findings) == 2
    assert not list(tmp_path.glob("runs/score*"))
    options = {"keep_going": True, "evaluators": ("internal",), "claims": ["miou=1"]}
    record = score(folder, tmp_path, **options)
    assert record["images"] == IMAGES - 2
    assert set(record["skipped"]) == {broken.stem, empty.stem}
    assert "2 of 30 images skipped" in record["claims"][0]["reason"]
    assert record["claims"][0]["verdict"] == "not judged"
    for path in (folder / "semantic").iterdir():
        path.write_bytes(broken.read_bytes())
    with pytest.raises(DataError, match="none of 30 images can be used; the lines above say why"):
        score(folder, tmp_path, **options, name="broken")
    assert not list(tmp_path.glob("runs/score__broken*"))


def test_each_prediction_is_read_once_where_broken_ones_are_left_out(
    part_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = part_of("maps", "semantic")
    broken = max((folder / "semantic").iterdir())
    broken.write_bytes(broken.read_bytes()[:200])
    read, seen = Predictions.read, []

    def counted(self: Predictions, image_id: str) -> Any:
        seen.append(image_id)
        return read(self, image_id)

    monkeypatch.setattr(Predictions, "read", counted)
    record = score(folder, tmp_path, keep_going=True)
    assert set(record["skipped"]) == {broken.stem}
    # The official scripts, too, were asked for the others alone.
    assert record["metrics"]["official"].keys() == {"miou", "iiou"}
    shown = {picture["image_id"] for picture in record["pictures"]}
    assert sorted(seen) == sorted([*(path.stem for path in (folder / "semantic").iterdir()), *shown])


def test_findings_while_scoring_leave_no_number_and_no_folder(
    part_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = part_of("maps", "semantic")
    broken = max((folder / "semantic").iterdir())
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(UnsoundPredictionsError, match="broken-file 1"):
        score(folder, tmp_path, evaluators=("internal",))
    assert not list(tmp_path.glob("runs/score*"))


def test_a_run_is_not_kept_among_the_predictions(part_of: Callable[..., Path]) -> None:
    folder = part_of("maps", "semantic")
    with pytest.raises(UsageError, match="expected a folder outside of the predictions"):
        zoo.score(folder, dataset="minicity", out=folder / "runs")
