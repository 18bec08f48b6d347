"""Ground truth in the form that the panoptic script reads: made once, or the user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.cityscapes.ground_truth import panoptic_ground_truth
from zoo.repro.datasets.opening import open_files
from zoo.repro.official.jobs import Jobs

open_cityscapes = partial(open_files, CityscapesDataset, split="val")


def test_panoptic_ground_truth_is_made_once_and_in_the_cache(
    copy_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cityscapesscripts.preparation import createPanopticImgs

    dataset = open_cityscapes(copy_images(9), cache=tmp_path / "cache")
    assert isinstance(dataset, CityscapesDataset)
    jobs = Jobs(tmp_path / "jobs")
    made = panoptic_ground_truth(dataset, dataset.image_ids, jobs, processes=2)
    assert made.source == "made by createPanopticImgs"
    assert (tmp_path / "jobs/make_panoptic1/log.txt").exists()

    # Made in two parts, it is byte for byte what one run of the script gives.
    expected = tmp_path / "expected"
    expected.mkdir()
    createPanopticImgs.convert2panoptic(str(dataset.root / "gtFine"), str(expected), False, ["val"])
    assert made.json.read_bytes() == (expected / "cityscapes_panoptic_val.json").read_bytes()
    names = sorted(path.name for path in (expected / "cityscapes_panoptic_val").iterdir())
    assert sorted(path.name for path in made.folder.iterdir()) == names
    for name in names:
        assert (made.folder / name).read_bytes() == (expected / "cityscapes_panoptic_val" / name).read_bytes()

    monkeypatch.setattr(Jobs, "run", lambda *_, **__: pytest.fail("made again"))
    for image_ids in (dataset.image_ids, dataset.image_ids[:3]):
        again = panoptic_ground_truth(dataset, image_ids, jobs)
        assert (again.source, again.folder) == (made.source, made.folder)
    left = [path.name for path in (tmp_path / "cache/panoptic_ground_truth").iterdir() if path.is_file()]
    assert left == ["CACHEDIR.TAG"]


@pytest.mark.parametrize("use_train_id", [False, True])
def test_panoptic_ground_truth_of_the_user_is_taken_if_it_fits(
    tiny: CityscapesDataset, tmp_path: Path, use_train_id: bool
) -> None:
    from cityscapesscripts.preparation import createPanopticImgs

    truth = tiny.root / "gtFine"
    createPanopticImgs.convert2panoptic(str(truth), str(truth), use_train_id, ["val"])
    if use_train_id:
        # The right name with the wrong ids.
        for path in sorted(truth.glob("cityscapes_panoptic_val_trainId*")):
            path.rename(path.with_name(path.name.replace("_trainId", "")))
    found = panoptic_ground_truth(tiny, tiny.image_ids, Jobs(tmp_path / "jobs"))
    assert found.source == ("made by createPanopticImgs" if use_train_id else "data folder")
    assert found.folder.is_relative_to(tiny.root) != use_train_id


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_incomplete_panoptic_ground_truth_of_the_user_is_not_taken(
    tiny: CityscapesDataset, tmp_path: Path, damage: str
) -> None:
    from cityscapesscripts.preparation import createPanopticImgs

    truth = tiny.root / "gtFine"
    createPanopticImgs.convert2panoptic(str(truth), str(truth), False, ["val"])
    png = next((truth / "cityscapes_panoptic_val").iterdir())
    if damage == "missing":
        png.unlink()
    else:
        png.write_bytes(png.read_bytes()[:-100])
    found = panoptic_ground_truth(tiny, tiny.image_ids, Jobs(tmp_path / "jobs"))
    assert found.source == "made by createPanopticImgs"
