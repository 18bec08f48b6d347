"""Predicting inputs into a folder: few pictures in memory, what is left out, and what an interrupt leaves."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zoo.errors import DataError, InterruptedRunError
from zoo.inputs.finding import find_inputs
from zoo.network import predicting
from zoo.network.predicting import InputPrediction
from zoo.prediction.folder import PredictionFolder


class CountingNetwork:
    """Takes pictures as a network does, and knows how many are alive."""

    replicas = 1

    def __init__(self) -> None:
        self.seen = self.alive = self.most = 0

    def maps(self, images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        self.seen += len(images)
        return [{"image": image} for image in images]

    def prediction(self, maps: dict[str, np.ndarray], image: np.ndarray, name: str) -> Any:
        assert maps["image"] is image
        return SimpleNamespace(name=name, overlay=lambda: image)

    def read(self, path: Path, note: object) -> np.ndarray:
        if path.read_bytes() == b"damaged":
            raise DataError(f"{path}: damaged")
        pixels = np.zeros((8, 8, 3), np.uint8)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(pixels, self._forget)
        return pixels

    def _forget(self) -> None:
        self.alive -= 1


class NameWriter:
    """Writes a file for each name; fails where it is told to."""

    def __init__(self, folder: Path, fails_at: int | None = None) -> None:
        self._folder, self._fails_at = folder, fails_at
        self.finished: list[str] | None = None

    def has(self, name: str) -> bool:
        return (self._folder / f"{name}.txt").exists()

    def require_fit(self, name: str, image: Any = None) -> None:
        pass

    def write(self, name: str, prediction: Any) -> None:
        assert prediction.name == name
        if self._fails_at is not None and name >= f"{self._fails_at:03d}":
            raise KeyboardInterrupt
        (self._folder / f"{name}.txt").parent.mkdir(exist_ok=True)
        (self._folder / f"{name}.txt").touch()

    def finish(self, names: Any) -> None:
        self.finished = list(names)


def make(
    out: Path, what: Path, fails_at: int | None = None, **options: Any
) -> tuple[InputPrediction, NameWriter]:
    folder = PredictionFolder(out, {"entry": "a/b"})
    folder.open()
    writer = NameWriter(out, fails_at)
    run = InputPrediction(
        find_inputs([what]).inputs, folder, {"table": writer}, **{"video": False, **options}
    )
    return run, writer


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> CountingNetwork:
    network = CountingNetwork()
    monkeypatch.setattr(predicting, "read_picture", network.read)
    return network


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:03d}.png").write_bytes(b"picture")
    return folder


def test_few_pictures_are_in_memory(network: CountingNetwork, pictures: Path, tmp_path: Path) -> None:
    run, writer = make(tmp_path / "out", pictures)
    run.run(network)  # type: ignore[arg-type]
    run.finish()
    assert str(run.outcome) == "40 of 40 written"
    assert writer.finished == [f"{number:03d}" for number in range(40)]
    assert 0 < network.most <= 8
    assert network.alive == 0
    assert set(run.times.to_json()) == {"read_s", "network_s", "post_processing_s", "write_s"}


def test_what_cannot_be_used_is_left_out_or_stops(
    network: CountingNetwork, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (3, 39):
        (pictures / f"{number:03d}.png").write_bytes(b"damaged")
    run, _ = make(tmp_path / "out", pictures)
    with pytest.raises(DataError, match=r"003.png: damaged; 3 of 40 written; the same command resumes once"):
        run.run(network)  # type: ignore[arg-type]
    assert run.outcome.written == 3
    run, writer = make(tmp_path / "out", pictures, keep_going=True)
    assert (run.outcome.resumed, len(run.waiting)) == (3, 37)
    run.run(network)  # type: ignore[arg-type]
    run.finish()
    assert str(run.outcome) == "38 of 40 written, 2 left out"
    assert list(run.outcome.left_out) == [str(pictures / "003.png"), str(pictures / "039.png")]
    assert len(writer.finished or ()) == 38
    assert f"zoo: left out: {pictures / '003.png'}: damaged\n" in capsys.readouterr().err


def test_nothing_that_can_be_used_is_an_error(network: CountingNetwork, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"damaged")
    run, _ = make(tmp_path / "out", tmp_path / "a.png", keep_going=True)
    run.run(network)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="0 of 1 written"):
        run.finish()


def test_an_interrupt_says_how_much_is_done_and_the_next_call_resumes(
    network: CountingNetwork, pictures: Path, tmp_path: Path
) -> None:
    run, _ = make(tmp_path / "out", pictures, fails_at=10)
    with pytest.raises(InterruptedRunError) as raised:
        run.run(network)  # type: ignore[arg-type]
    done = run.outcome.done
    assert 0 < done <= 10
    assert str(raised.value) == (
        f"interrupted with {done} of 40 written to {tmp_path / 'out'}; run the same command again to resume"
    )
    network.seen = 0
    run, writer = make(tmp_path / "out", pictures)
    run.run(network)  # type: ignore[arg-type]
    run.finish()
    assert network.seen == 40 - done
    assert str(run.outcome) == "40 of 40 written"
    assert len(writer.finished or ()) == 40
    # Whatever is removed is made again.
    (tmp_path / "out" / "005.txt").unlink()
    assert [each.name for each in make(tmp_path / "out", pictures)[0].waiting] == ["005"]


def test_an_interrupted_video_leaves_no_part_of_it(network: CountingNetwork, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from fractions import Fraction

    from zoo.inputs.video import Video, VideoWriter

    clip, out = tmp_path / "007.mp4", tmp_path / "out"
    with_rate: Any = SimpleNamespace(rate=Fraction(6), time_base=Fraction(1, 12800))
    video = VideoWriter(clip, with_rate)
    for number in range(60):
        video.write(np.full((32, 48, 3), number, np.uint8), Fraction(number, 6))
    video.finish()

    class Interrupted(NameWriter):
        def write(self, name: str, prediction: Any) -> None:
            if name.endswith("30"):
                raise KeyboardInterrupt
            super().write(name, prediction)

    run, writer = make(out, clip, video=True)
    run._frame_writers[:] = [Interrupted(out)]
    with pytest.raises(InterruptedRunError, match="interrupted with 0 of 1 written"):
        run.run(network)  # type: ignore[arg-type]
    assert [each.name for each in out.iterdir() if "overlay" in each.name or each.suffix == ".mp4"] == []
    run, writer = make(out, clip, video=True)
    assert len(run.waiting) == 1
    run.run(network)  # type: ignore[arg-type]
    run.finish()
    assert writer.finished == [f"007/{number:06d}" for number in range(1, 61)]
    with Video(out / "007_overlay.mp4", print) as made:
        frames = list(made)
        assert made.rate == 6
    assert [round(6 * frame.seconds) for frame in frames] == list(range(60))
    assert frames[0].pixels.shape == (32, 48, 3)
    assert make(out, clip, video=True)[0].waiting == []
    (out / "007_overlay.mp4").unlink()
    assert len(make(out, clip, video=True)[0].waiting) == 1
