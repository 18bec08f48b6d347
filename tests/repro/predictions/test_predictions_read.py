"""What a run wrote is read back, from a folder, an archive, or a JSON file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DataError
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets.predictions import assemble_panoptic_json
from zoo.repro.predictions.check import all_findings
from zoo.repro.predictions.predictions import open_predictions


@pytest.fixture
def written(tiny: CityscapesDataset, predict: Callable[..., None], tmp_path: Path) -> Path:
    folder = tmp_path / "predictions"
    predict(tiny, folder, move=(3, 5))
    assemble_panoptic_json(folder, tiny.image_ids)
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


@pytest.mark.parametrize("give", [lambda folder: folder, zipped])
def test_the_maps_that_were_written_are_read(
    give: Callable[[Path], Path], written: Path, tiny: CityscapesDataset
) -> None:
    predictions = open_predictions(give(written), tiny)
    assert predictions.form == "coco + instances + label_ids"
    assert predictions.holds == {"panoptic", "semantic", "instances"}
    assert [*predictions.problems, *all_findings(predictions)] == []
    assert predictions.image_ids == tiny.image_ids
    for index, image_id in enumerate(tiny.image_ids):
        image = predictions.read(image_id)[0]
        truth = np.roll(tiny.load(index).panoptic, (3, 5), (0, 1))
        np.testing.assert_array_equal(image.panoptic, truth)
        assert image.semantic is not None
        assert image.semantic.dtype == np.uint8
        np.testing.assert_array_equal(image.semantic[truth < 255000], truth[truth < 255000] // 1000)
        assert image.instances is not None
        assert image.masks is not None
        np.testing.assert_allclose(image.instances.score, 0.5 + image.instances.labels % 7 / 20, rtol=1e-6)
        assert len(image.masks) == len(image.instances.labels) > 0


def test_a_json_file_stands_for_its_folder(written: Path, tiny: CityscapesDataset) -> None:
    annotations = json.loads((written / "panoptic.json").read_text())
    assert len(annotations["annotations"]) == len(tiny)
    predictions = open_predictions(written / "panoptic.json", tiny)
    assert (predictions.form, predictions.holds) == ("coco", {"panoptic", "instances"})
    assert [*predictions.problems, *all_findings(predictions)] == []
    image = predictions.read(tiny.image_ids[0])[0]
    assert image.semantic is None
    assert image.masks is None
    assert image.instances is not None


def test_a_json_file_is_read_without_others_in_the_folders_beside_it(
    written: Path, tiny: CityscapesDataset
) -> None:
    content = json.loads((written / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        annotation["file_name"] = f"panoptic/{annotation['file_name']}"
    (written / "older").mkdir()
    (written / "panoptic.json").rename(written / "older/panoptic.json")
    (written / "mine.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"expected one panoptic JSON, found mine.json and older/panoptic.json"
    ):
        open_predictions(written, tiny)
    predictions = open_predictions(written / "mine.json", tiny)
    assert predictions.form == "coco + instances + label_ids"
    assert [*predictions.problems, *all_findings(predictions)] == []
    # What is given is not passed over for what lies beside it.
    for text, found in (("[]", "or COCO results, found neither; give the folder"), ("{", "broken.json: ")):
        (written / "broken.json").write_text(text)
        with pytest.raises(DataError, match=found):
            open_predictions(written / "broken.json", tiny)


def test_the_digest_depends_on_contents_alone(written: Path, tiny: CityscapesDataset, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(written, tmp_path / "copy"))
    digest = open_predictions(written, tiny).digest
    assert open_predictions(copy, tiny).digest == digest
    (copy / "panoptic.json").write_text((copy / "panoptic.json").read_text() + "\n")
    assert open_predictions(copy, tiny).digest != digest


def test_masks_that_are_not_the_segments_count_before_scores_in_the_json(
    written: Path, tiny: CityscapesDataset
) -> None:
    cut, whole = tiny.image_ids[:2]
    mask = min((written / "instance/masks" / cut).glob("*.png"))
    pixels = np.array(Image.open(mask))
    row, column = np.argwhere(pixels)[0]
    pixels[row, column] = 0
    Image.fromarray(pixels).save(mask)
    scored = (written / f"instance/{whole}.txt").read_text().splitlines()
    lines = "".join(f"{line.rpartition(' ')[0]} 0.125\n" for line in scored)
    (written / f"instance/{whole}.txt").write_text(lines)
    predictions = open_predictions(written, tiny)
    assert [*predictions.problems, *all_findings(predictions)] == []
    image = predictions.read(cut)[0]
    assert image.instances is None
    assert image.masks is not None
    assert any(np.array_equal(found.mask, pixels != 0) for found in image.masks)
    # Where they are the segments, their scores count.
    image = predictions.read(whole)[0]
    assert image.instances is not None
    assert image.instances.score.tolist() == [0.125] * len(scored)
