"""What can go wrong with `zoo reproduce`: one line, the right exit code, nothing lost."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from zoo.files.json_files import write_json
from zoo.repro.records.run_folder import RunFolder

NAME = "minicity/mobilenet_v3_small_os16"
FOLDER = "minicity__mobilenet_v3_small_os16"

Call = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["minicity/mobilenet_v3_smal_os16"], ["did you mean", NAME, "zoo list"]),
        ([NAME, "nothing/like_it"], ["no entry 'nothing/like_it'"]),
        (["imagenet/resnet50"], ["backbone"]),
        ([NAME, "--precision", "float16"], ["--precision float16", "float32 or bfloat16"]),
        ([NAME, "--device", "graphics"], ["--device graphics", "expected auto, cpu, gpu"]),
        ([NAME, "--device", "gpu:x"], ["--device gpu:x", "expected a number"]),
        *(
            ([NAME, "--scales", scales], [f"--scales {scales}", "0.75,1,1.25"])
            for scales in ("a", "1,,2", "9")
        ),
        ([NAME, "--scales", "nan"], ["--scales nan"]),
        ([NAME, "--limit", "0"], ["--limit", "zoo reproduce --help"]),
        ([NAME, "--limit", "many"], ["--limit"]),
        ([], ["NAME", "zoo reproduce --help"]),
        ([NAME, "--what"], ["--what", "zoo reproduce --help"]),
    ],
)
def test_a_wrong_call_is_exit_code_2(
    zoo_call: Call, one_line: Call, tmp_path: Path, arguments: list[str], expected: list[str]
) -> None:
    out = tmp_path / "out"
    write_json(out / FOLDER / "record.json", {"kept": True})
    message = one_line(zoo_call("reproduce", *arguments, "--out", out), 2)
    for part in expected:
        assert part in message
    # A slip of the pen does not cost the last run's results.
    assert json.loads((out / FOLDER / "record.json").read_text(encoding="utf-8")) == {"kept": True}


def test_a_process_of_its_own_says_one_line_too(zoo_command: Call, one_line: Call) -> None:
    message = one_line(zoo_command("reproduce", "cityscapes/resnet50_os32"), 3)
    assert "cityscapes/resnet50_os32: needs --data DIR" in message


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_data_that_are_not_there(zoo_call: Call, one_line: Call, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    data = tmp_path / folder
    message = one_line(zoo_call("reproduce", "cityscapes/resnet50_os32", "--data", data), 3)
    assert str(data) in message
    assert "leftImg8bit" in message


def test_data_of_which_a_part_is_missing(
    zoo_call: Call, one_line: Call, copy_images: Callable[..., Path]
) -> None:
    data = copy_images(2)
    message = one_line(zoo_call("reproduce", NAME, "--data", data), 3)
    assert str(data) in message
    assert "30" in message


def test_an_unfinished_run_of_something_else_is_kept(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / f"{FOLDER}__limit1.unfinished")
    folder.create({"entry": NAME, "checkpoint_sha256": "0"})
    folder.write_statistics("frankfurt_000000_000000", {})
    message = one_line(zoo_call("reproduce", NAME, "--limit", 1, "--out", tmp_path), 3, after_progress=True)
    assert str(folder.root) in message
    assert "another checkpoint" in message
    assert "--restart" in message
    assert folder.done(["frankfurt_000000_000000"])


def test_a_device_that_is_not_there_costs_nothing(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    write_json(tmp_path / FOLDER / "record.json", {"kept": True})
    zoo_call("reproduce", NAME, "--limit", 1, "--out", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for words in (["--limit", 1], []):
        call = ["reproduce", NAME, *words, "--device", "tpu", "--out", tmp_path]
        assert "TPU" in one_line(zoo_call(*call), 3, after_progress=True)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} <= {
        tmp_path,
        *tmp_path.glob(".*.lock"),
    }
    assert after.keys() >= before.keys()
    # The first command works as before, and its results of the same settings are replaced.
    assert zoo_call("reproduce", NAME, "--limit", 1, "--out", tmp_path).returncode == 0


def test_other_settings_live_beside_each_other(zoo_call: Call, tmp_path: Path) -> None:
    for words in (["--limit", 2], ["--limit", 1], ["--limit", 1, "--precision", "bfloat16"]):
        assert zoo_call("reproduce", NAME, *words, "--out", tmp_path).returncode == 0
    found = {
        path.parent.name: json.loads(path.read_text())["images"] for path in tmp_path.glob("*/record.json")
    }
    assert found == {f"{FOLDER}__limit2": 2, f"{FOLDER}__limit1": 1, f"{FOLDER}__limit1__bfloat16": 1}
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_place_that_cannot_be_written(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = one_line(
        zoo_call("reproduce", NAME, "--limit", 1, "--out", tmp_path / "file"), 3, after_progress=True
    )
    assert f"cannot write {tmp_path / 'file'}: " in message
    assert "--out" in message


# ---- damaged checkpoints ----


@pytest.fixture
def own_entry(tmp_path: Path) -> Callable[[Path], list[object]]:
    """Returns a function that declares an entry with another checkpoint, and says how to reproduce it."""

    def declare(checkpoint: Path) -> list[object]:
        registry = tmp_path / "registry.yaml"
        registry.write_text(
            "entries:\n"
            "  mine/damaged:\n"
            f"    extends: {NAME}\n"
            "    title: Small\n"
            f"    checkpoint: {checkpoint}\n"
            "    published: {official: {pq: 74.2}, source: here}\n"
        )
        out = tmp_path / "out"
        return ["--registry", registry, "reproduce", "mine/damaged", "--limit", 1, "--out", out]

    return declare


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoint's archive, copied."""
    copy = tmp_path_factory.mktemp("bundled") / "minicity_mobilenet_v3_small_os16.tar.gz"
    copy.write_bytes(resources.files("zoo.assets").joinpath(copy.name).read_bytes())
    return copy


def test_a_flipped_bit_in_a_tensor(
    zoo_call: Call, one_line: Call, own_entry: Call, bundled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "unpacked"
    with tarfile.open(bundled) as archive:
        # The `filter` argument is not in every 3.10 and 3.11; the archive is our own.
        for member in archive.getmembers():
            source = archive.extractfile(member)
            if source is not None:
                (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
                (folder / member.name).write_bytes(source.read())
    (data,) = folder.rglob("*.data-*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0x10
    data.write_bytes(content)
    damaged = tmp_path / "damaged.tar.gz"
    with tarfile.open(damaged, "w:gz", compresslevel=1) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    message = one_line(zoo_call(*own_entry(damaged)), 3, after_progress=True)
    assert "mine/damaged" in message
    assert "checksum" in message.lower() or "corrupt" in message.lower()
    assert not (tmp_path / "out" / "mine__damaged" / "record.json").exists()


def test_a_truncated_archive(
    zoo_call: Call, one_line: Call, own_entry: Call, bundled: Path, tmp_path: Path, zoo_cache: Path
) -> None:
    truncated = tmp_path / "truncated.tar.gz"
    truncated.write_bytes(bundled.read_bytes()[:-4096])
    before = sorted(zoo_cache.glob("checkpoints/*"))
    message = one_line(zoo_call(*own_entry(truncated)), 3)
    assert "truncated.tar.gz" in message
    assert sorted(zoo_cache.glob("checkpoints/*")) == before
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_not_there(
    zoo_call: Call, one_line: Call, own_entry: Call, tmp_path: Path
) -> None:
    message = one_line(zoo_call(*own_entry(tmp_path / "nowhere.tar.gz")), 3)
    assert "nowhere.tar.gz" in message


# ---- what a data set holds is declared, not what a folder happens to have ----


def first_images_gone(folder: Path, kind: str, minicity: Path, minicoco: Path) -> str:
    """Makes a copy without six images, neither pictures nor ground truth, and returns the entry for it."""
    if kind == "coco":
        shutil.copytree(minicoco, folder)
        for name in ("panoptic", "instances"):
            path = folder / f"annotations/{name}_val2017.json"
            content = json.loads(path.read_text(encoding="utf-8"))
            gone = {image["id"] for image in sorted(content["images"], key=lambda image: image["id"])[:6]}
            content["images"] = [image for image in content["images"] if image["id"] not in gone]
            content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in gone]
            path.write_text(json.dumps(content), encoding="utf-8")
        for image_id in gone:
            next(folder.glob(f"val2017/*{image_id}.jpg")).unlink()
        return "minicoco/mobilenet_v3_small_os16"
    shutil.copytree(minicity, folder)
    for number in range(6):
        for path in folder.rglob(f"frankfurt_{number:06d}_*"):
            path.unlink()
    return NAME


@pytest.mark.parametrize("kind", ["cityscapes", "coco"])
def test_images_without_a_trace_are_counted_as_missing(
    zoo_call: Call, tmp_path: Path, minicity: Path, minicoco: Path, kind: str
) -> None:
    data = tmp_path / "data"
    name = first_images_gone(data, kind, minicity, minicoco)
    call = ["reproduce", name, "--data", data, "--out", tmp_path / "out", "--limit", 2, "--json"]
    done = zoo_call(*call)
    assert done.returncode == 3
    assert "has 24 images, expected 30" in done.stderr
    done = zoo_call(*call, "--keep-going")
    record = json.loads(done.stdout)
    assert "missing: 6 of 30 images" in done.stderr
    assert "2 of 30 images of" in done.stderr
    assert (record["images"], record["images_in_dataset"]) == (2, 30)
    assert record["claims"]
    for claim in record["claims"]:
        assert claim["verdict"] == "not judged"
        assert "6 of 30 images skipped" in claim["reason"]


# ---- files that only the official scripts read ----


def test_what_an_official_script_cannot_read_is_found_before_the_network_runs(
    zoo_call: Call, one_line: Call, tmp_path: Path, minicity: Path
) -> None:
    data = shutil.copytree(minicity, tmp_path / "data")
    path = next(data.rglob("frankfurt_000001_*_labelIds.png"))
    path.write_bytes(b"")
    call = ["reproduce", NAME, "--data", data, "--out", tmp_path / "out", "--limit", 2]
    message = one_line(zoo_call(*call), 3)
    assert message.startswith(f"1 of 2 images cannot be used, first: {path}: is empty")
    assert "--keep-going" in message
    done = zoo_call(*call, "--keep-going", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["images"] == 1
    assert record["metrics"]["official"]["miou"] > 0
    assert {claim["verdict"] for claim in record["claims"]} == {"not judged"}


# ---- official scripts that fail ----


def test_what_was_measured_is_kept_where_a_script_fails(
    zoo_call: Call, one_line: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["reproduce", NAME, "--limit", 2, "--out", tmp_path / "out"]
    with monkeypatch.context() as impatient:
        # The scripts are started, and ended at once as ones that are stuck.
        impatient.setattr("zoo.repro.official.scripts._PATIENCE_S", 0.0)
        impatient.setattr("zoo.repro.official.scripts._PATIENCE_S_PER_IMAGE", 0.0)
        message = one_line(zoo_call(*call), 3, after_progress=True)
    assert "was ended after 0 s" in message
    assert "resume at the scripts" in message
    (file,) = (tmp_path / "out").rglob("record.json")
    failed = json.loads(file.read_text(encoding="utf-8"))
    assert failed["metrics"]["official"] == {}
    assert failed["metrics"]["internal"]["pq"] > 0
    assert "was ended after 0 s" in failed["official_scripts"]["failed"]
    assert {claim["verdict"] for claim in failed["claims"] if claim["evaluator"] == "official"} == {
        "not judged"
    }
    done = zoo_call(*call, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["timings"]["images_computed"] == 0
    assert record["metrics"]["internal"] == failed["metrics"]["internal"]
    assert record["metrics"]["official"]["pq"] > 0
    assert "failed" not in record["official_scripts"]
