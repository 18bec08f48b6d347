"""`zoo predict`: pictures of all kinds, videos, what is written of them, messages, exit codes, resuming."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.fetch.fetcher import Fetcher
from zoo.registry import load_registry

CITY = "minicity/mobilenet_v3_small_os16"
COCO = "minicoco/mobilenet_v3_small_os16"

Call = Callable[..., Any]


@pytest.fixture(scope="session")
def scenes(zoo_cache: Path) -> list[Path]:
    """The pictures of the bundled Cityscapes-like data set."""
    from zoo.files.cache import Cache

    folder = Fetcher(cache=Cache(zoo_cache)).dataset(load_registry().dataset("minicity"))
    return sorted(Path(folder).rglob("leftImg8bit/val/*/*.png"))


@pytest.fixture
def mixed(scenes: list[Path], tmp_path: Path) -> Path:
    """A folder of twelve pictures of mixed kinds, two of which cannot be used, and a text."""
    folder = tmp_path / "mixed"
    (folder / "day 1").mkdir(parents=True)
    scene = Image.open(scenes[0]).convert("RGB")
    grey = scene.convert("L")
    scene.save(folder / "plain.png")
    grey.save(folder / "day 1" / "grey.png")
    transparent = scene.copy()
    transparent.putalpha(grey)
    transparent.save(folder / "rgba.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    scene.rotate(90, expand=True).save(folder / "rotated.jpg", exif=exif.tobytes(), quality=95)
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    scene.resize((6000, 4000)).save(folder / "large.jpg", quality=50)
    scene.quantize(64).save(folder / "palette.png")
    scene.save(folder / "animated.gif", save_all=True, append_images=[scene.rotate(180)])
    scene.convert("CMYK").save(folder / "cmyk.jpg")
    scene.save(folder / "truncated.jpg")
    whole = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "page.png").write_text("<html>not found</html>")
    (folder / "notes.txt").write_text("of the holiday")
    return folder


def test_twelve_pictures_of_mixed_kinds(zoo_call: Call, one_line: Call, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("predict", CITY, mixed, "--out", out)
    message = one_line(zoo_call(*command), 3, after_progress=True)
    assert message == (
        f"{mixed / 'page.png'}: expected a PNG, JPEG, GIF, BMP, TIFF or WebP picture, found something else; "
        "convert it; 5 of 12 written; the same command resumes once the file is mended, or --keep-going "
        "leaves such files out"
    )
    done = zoo_call(*command, "--keep-going", "--json")
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("zoo: ") for line in done.stderr.splitlines()]
    assert "1 file left alone: neither a picture nor a video by its name" in lines
    assert "resuming: 5 of 12 are written already" in lines
    assert sum(line.startswith("left out: ") for line in lines) == 2
    assert any("truncated.jpg: expected a whole JPEG picture of 512 x 256 pixels" in line for line in lines)
    assert lines[-1] == f"10 of 12 written, 2 left out; in {out}"

    summary = json.loads(done.stdout)
    assert {key: summary[key] for key in ("entry", "inputs", "written", "resumed")} == {
        "entry": CITY,
        "inputs": 12,
        "written": 5,
        "resumed": 5,
    }
    assert sorted(summary["left_out"]) == [str(mixed / "page.png"), str(mixed / "truncated.jpg")]
    overlays = {path.relative_to(out).as_posix(): path for path in out.rglob("*.jpg")}
    usable = "animated cmyk day_1/grey large one palette plain rgba rotated sixteen"
    assert sorted(overlays) == [f"{name.replace('_', ' ')}_overlay.jpg" for name in usable.split()]
    pixels = {name: np.asarray(Image.open(path)).astype(int) for name, path in overlays.items()}
    assert pixels.pop("large_overlay.jpg").shape == (4000, 6000, 3)
    assert pixels.pop("one_overlay.jpg").shape == (1, 1, 3)
    assert {each.shape for each in pixels.values()} == {(256, 512, 3)}
    # Turned upright, it shows what the plain one does.
    assert np.abs(pixels["rotated_overlay.jpg"] - pixels["plain_overlay.jpg"]).mean() < 8


def test_an_interrupted_call_says_what_is_done_and_resumes(
    zoo_call: Call, one_line: Call, scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.network.network import Network

    command = ("predict", CITY, *scenes[:6], "--out", tmp_path / "out")
    maps = Network.maps
    calls = []

    def interrupted(network: Network, images: Any) -> Any:
        calls.append(len(images))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return maps(network, images)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "maps", interrupted)
        message = one_line(zoo_call(*command), 130, after_progress=True)
    assert message.endswith(f" of 6 written to {tmp_path / 'out'}; run the same command again to resume")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.jpg")}
    assert 0 < len(before) < 6
    done = zoo_call(*command)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == f"zoo: 6 of 6 written; in {tmp_path / 'out'}"
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.jpg")}
    assert len(after) == 6
    noted = int(message.split("interrupted with ")[1].split(" ")[0])
    assert sum(after[name] == time for name, time in before.items()) == noted
    # Nothing is left to do: no network is loaded.
    with monkeypatch.context() as patch:
        patch.setattr("zoo.network.predicting.load_entry", None)
        assert zoo_call(*command).returncode == 0


def test_a_video_becomes_a_video_and_rows_for_each_frame(
    zoo_call: Call, scenes: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("av")
    from zoo.inputs.video import Video, VideoWriter

    scene = np.asarray(Image.open(scenes[0]).convert("RGB"))
    writer = VideoWriter(
        tmp_path / "clip.mp4", SimpleNamespace(rate=Fraction(2), time_base=Fraction(1, 12800))
    )
    for number in range(20):
        writer.write(np.roll(scene, 8 * number, axis=1), Fraction(number, 2))
    writer.finish()
    out = tmp_path / "out"
    done = zoo_call("predict", CITY, tmp_path / "clip.mp4", "--out", out, "--write", "overlay,table")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"zoo: 1 of 1 written; in {out}"
    with Video(out / "clip_overlay.mp4", print) as video:
        assert video.rate == 2
        frames = list(video)
    assert [frame.seconds for frame in frames] == [Fraction(number, 2) for number in range(20)]
    assert {frame.pixels.shape for frame in frames} == {(256, 512, 3)}
    # Coloured, and still the scene.
    assert 5 < np.abs(frames[0].pixels.astype(int) - scene).mean() < 90
    with (out / "instances.csv").open() as file:
        images = [row["image"] for row in csv.DictReader(file)]
    assert set(images) <= {f"clip/{number:06d}" for number in range(1, 21)}
    assert len(set(images)) >= 15
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock",
        "clip_overlay.mp4",
        "instances.csv",
        "predict.json",
        "predicted.jsonl",
        "table",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("atlantis/resnet", "{scene}"), 2, "atlantis/resnet"),
        ((CITY, "{folder}/missing.png"), 3, "expected a file, a folder or a pattern, found nothing there"),
        ((CITY, "{folder}/*.webp"), 3, "expected a pattern that matches files, found none"),
        (
            (CITY, "{scene}", "--write", "overlay,paintings"),
            2,
            "--write: expected one or more of overlay, coco, cityscapes, table, video, commas between, found "
            "'paintings'",
        ),
        (
            (CITY, "{scene}", "--write", "overlay,overlay.png"),
            2,
            "expected each form once, found overlay twice",
        ),
        ((CITY, "{scene}", "--write", "overlay,"), 2, "commas between, found ''"),
        ((CITY, "{scene}", "--write", "table.xlsx"), 2, "--write table.xlsx: "),
        ((CITY, "{scene}", "--write", "video"), 2, "--write video: expected videos, found "),
        ((CITY, "{scene}", "--scales", "many"), 2, "--scales many: expected numbers"),
        ((CITY, "{scene}", "--device", "abacus"), 2, "--device abacus: expected auto"),
        (("cityscapes/resnet50_os32", "{scene}", "--out", "{folder}"), 2, "is a folder of inputs"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(
    zoo_call: Call,
    one_line: Call,
    scenes: list[Path],
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    expected: str,
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    words = [each.format(scene=scenes[0], folder=folder) for each in arguments]
    if "--out" in words:
        words.append(str(folder))
    else:
        words += ["--out", str(tmp_path / "out")]
    message = one_line(zoo_call("predict", *words), code)
    assert expected in message
    assert not (tmp_path / "out").exists()
    assert list(folder.iterdir()) == []


def test_a_folder_holds_predictions_of_one_network(
    zoo_call: Call, one_line: Call, scenes: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert zoo_call("predict", CITY, scenes[0], "--out", out).returncode == 0
    message = one_line(zoo_call("predict", COCO, scenes[0], "--out", out), 2)
    assert message == f"{out}: holds predictions made with {CITY}; give another --out"
    message = one_line(zoo_call("predict", CITY, scenes[0], "--out", out, "--write", "coco"), 2)
    assert message == f"{out}: holds predictions made with --write overlay; give another --out"


def test_a_picture_too_long_for_a_jpeg_is_said_with_its_name(
    zoo_call: Call, one_line: Call, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (66_000, 2), "green").save(folder / "strip.png")
    Image.new("RGB", (66, 40), "green").save(folder / "tile.png")
    message = one_line(zoo_call("predict", CITY, folder, "--out", out), 3, after_progress=True)
    assert message.startswith(
        f"{folder / 'strip.png'}: expected at most 65,500 pixels a side for a JPEG, found 2 x 66000; write a "
        "PNG with --write overlay.png; 0 of 2 written; "
    )
    assert list(out.glob("*.*g")) == []
    done = zoo_call("predict", CITY, folder, "--out", out, "--keep-going")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        0,
        f"zoo: 1 of 2 written, 1 left out; in {out}",
    )
    assert [path.name for path in out.glob("*.*g")] == ["tile_overlay.jpg"]
    as_png = tmp_path / "as_png"
    assert zoo_call("predict", CITY, folder, "--out", as_png, "--write", "overlay.png").returncode == 0
    with Image.open(as_png / "strip_overlay.png") as strip:
        assert strip.size == (66_000, 2)


def test_odd_names_are_kept_or_left_out_with_a_line(
    zoo_call: Call, one_line: Call, scenes: list[Path], tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    names = ["<b>&.png", "=1+1.png", "a\nb.png", 'a;b, "c".png', " ü.png"]
    for name, scene in zip(names, scenes, strict=False):
        (folder / name).write_bytes(scene.read_bytes())
    (folder / "x\ny.png").write_text("not a picture")
    broken = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")
    try:
        Path(broken).write_bytes(scenes[0].read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    command = ("predict", CITY, folder, "--out", out, "--write", "cityscapes,table")
    assert "a name in UTF-8" in one_line(
        zoo_call("predict", CITY, broken, *command[3:5], "--write", "coco"), 3, after_progress=True
    )
    out = tmp_path / "all"
    done = zoo_call(*command[:4], out, *command[5:], "--keep-going", "--json")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("zoo: ") for line in lines)
    assert lines[-1] == f"zoo: 5 of 7 written, 2 left out; in {out}"
    assert sorted(json.loads(done.stdout)["left_out"]) == sorted([broken, str(folder / "x\ny.png")])
    with (out / "instances.csv").open(newline="", encoding="utf-8") as file:
        # A spreadsheet would compute it.
        found = {row["image"].replace("'=", "=") for row in csv.DictReader(file)}
    assert found == {name.removesuffix(".png") for name in names}
    for name in found:
        mask, _, _ = (out / f"instance/{name}.txt").read_text().splitlines()[0].split()
        assert (out / "instance" / mask).is_file()
