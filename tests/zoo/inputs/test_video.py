"""Videos: frames with their times, the way up they are shown, and what is written like them."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.errors import ZooError
from zoo.inputs.video import Frame, Video, VideoWriter

pytest.importorskip("av")

TENTHS = (0, 1, 3, 4, 9)
LIKE = SimpleNamespace(rate=Fraction(10), time_base=Fraction(1, 12800))


def write_video(path: Path, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Writes five frames at uneven times, red above and blue below, and returns them."""
    frames = []
    writer = VideoWriter(path, LIKE)
    for number, tenths in enumerate(TENTHS):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[: height // 2], pixels[height // 2 :] = (200, 30, 60), (20, 40 * number, 200)
        frames.append(pixels)
        writer.write(pixels, Fraction(tenths, 10))
    assert not path.exists()
    writer.finish()
    writer.discard()
    return frames


def read_video(path: Path, notes: list[str] | None = None) -> list[Frame]:
    with Video(path, ([] if notes is None else notes).append) as video:
        return list(video)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "webm", "mkv", "avi"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_video_keeps_size_colours_and_times(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"a.{suffix}"
    written = write_video(path, *size)
    notes: list[str] = []
    found = read_video(path, notes)
    assert [frame.number for frame in found] == [1, 2, 3, 4, 5]
    assert [round(10 * frame.seconds) for frame in found] == list(TENTHS)
    for frame, pixels in zip(found, written, strict=True):
        assert frame.pixels.shape == pixels.shape
        # Colours bleed where they change.
        for y in (3, -4):
            np.testing.assert_allclose(frame.pixels[y, 5].astype(int), pixels[y, 5], atol=6)
    assert notes == []
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_frames_are_turned_as_players_show_them(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    start = data.index(upright, data.index(b"tkhd"))
    (tmp_path / "turned.mp4").write_bytes(data[:start] + clockwise + data[start + len(upright) :])
    pixels = read_video(tmp_path / "turned.mp4")[0].pixels
    assert pixels.shape == (64, 48, 3)
    # What was above is now on the right.
    np.testing.assert_allclose(pixels[30, -4].astype(int), (200, 30, 60), atol=6)


def test_times_that_stand_still_are_moved_on(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", LIKE)
    for seconds in (0, 1, 1, Fraction(1, 2)):
        writer.write(np.zeros((48, 64, 3), np.uint8), Fraction(seconds))
    writer.finish()
    times = [frame.seconds for frame in read_video(tmp_path / "a.mp4")]
    assert len(times) == 4
    assert times == sorted(set(times))


def test_a_discarded_video_leaves_nothing(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "new" / "a.mp4", LIKE)
    writer.write(np.zeros((48, 64, 3), np.uint8), Fraction(0))
    writer.discard()
    assert list((tmp_path / "new").iterdir()) == []


def test_what_is_not_a_whole_video_is_one_line(refuses: Callable[..., None], tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "text.mp4").write_text("not a video" * 100)
    wrong = {
        "cut.mp4": "frame 1 cannot be decoded (",
        "text.mp4": "expected a video, found a file that cannot be opened as one (",
        "missing.mp4": "expected a video, found a file that cannot be opened as one (No such file",
    }
    refuses(read_video, wrong)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ZooError, match=r"videos need PyAV; `pip install 'panoptic-zoo\[video\]'`"):
        Video(tmp_path / "a.mp4", print)
