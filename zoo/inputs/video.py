"""Reads the frames of videos, and writes videos of the same times."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import DataError, ZooError
from zoo.files.atomic import writing

_DEFAULT_RATE = Fraction(25)
# Fewer frames than that, of those that the header declares, and the file was cut short.
_LEAST_SHARE = 0.95

_SHARP = {"crf": "20", "preset": "veryfast"}
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": _SHARP,
    "libopenh264": {},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
}
_H264 = ("libx264", "libopenh264", "mpeg4")
_ENCODERS_OF = {".webm": ("libvpx-vp9",), ".avi": ("mpeg4",)}
_BT709 = 1
_MILLISECONDS = Fraction(1, 1000)


class Frame(NamedTuple):
    """A frame of a video."""

    number: int  # from 1
    pixels: np.ndarray  # [H, W, 3] uint8, RGB, the way up that players show
    seconds: Fraction  # since the first frame


def import_av(path: Path) -> Any:
    """Returns the module `av`; raises a ZooError that names the extra where it is not installed."""
    try:
        import av
    except ImportError:
        raise ZooError(f"{path}: videos need PyAV; `pip install 'panoptic-zoo[video]'`") from None
    return av


class Video:
    """A video that is read frame by frame.

    Attributes:
      path: its file.
      num_frames: how many frames its header declares, None where it does not say.
      rate: frames in a second, on average.
      time_base: the unit of its times, in seconds.
    """

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        """Opens a video; `note` is called with one line where it ends early.

        Raises:
          DataError: it cannot be read, or is not a video.
          ZooError: PyAV is not installed.
        """
        av = import_av(path)
        self.path = path
        self._note = note
        self._error = av.error.FFmpegError
        try:
            self._container = av.open(str(path))
        except (OSError, self._error) as error:
            raise DataError(
                f"{path}: expected a video, found a file that cannot be opened as one "
                f"({_reason(error)}); download or convert it again"
            ) from None
        if not self._container.streams.video:
            self.close()
            raise DataError(f"{path}: expected a video, found a file without frames; leave it out")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.num_frames: int | None = self._stream.frames or None
        self.rate = self._stream.average_rate or self._stream.guessed_rate or _DEFAULT_RATE
        self.time_base = self._stream.time_base or 1 / self.rate

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in the order in which they are shown.

        Raises:
          DataError: a frame cannot be decoded, or there is none.
        """
        number, start, last = 0, None, Fraction(-1)
        try:
            for frame in self._container.decode(self._stream):
                seconds = last + 1 / self.rate if frame.pts is None else frame.pts * frame.time_base
                start = seconds if start is None else start
                number, last = number + 1, seconds
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                yield Frame(number, np.ascontiguousarray(pixels), seconds - start)
        except (OSError, ValueError, self._error) as error:
            raise DataError(
                f"{self.path}: frame {number + 1} cannot be decoded ({_reason(error)}); "
                "download or convert it again"
            ) from None
        if not number:
            raise DataError(f"{self.path}: expected a video, found no frame in it; download it again")
        # An .avi counts the times at which there could be a frame.
        if number < _LEAST_SHARE * (self.num_frames or 0) and self.path.suffix.lower() != ".avi":
            self._note(f"{self.path}: has {number} of the {self.num_frames} frames that its header declares")


class VideoWriter:
    """Writes a video of another's times, whole or not at all: `finish` gives it its name.

    H.264 (VP9 in .webm, MPEG-4 in .avi) without sound; FFmpeg's own MPEG-4 where its build lacks H.264.
    """

    def __init__(self, path: Path, like: Video) -> None:
        """Prepares to write `path`, whose ending says in which container.

        Raises:
          ZooError: it cannot be written, or nothing here encodes such a video.
        """
        av = import_av(path)
        known = _ENCODERS_OF.get(path.suffix.lower(), _H264)
        codec = next((name for name in known if name in av.codecs_available), None)
        if codec is None:
            raise ZooError(f"cannot write {path}: PyAV has no {known[0]} encoder; convert the video to .mp4")
        self.path = path
        self._av = av
        self._part = path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}{path.suffix}")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            options = {"movflags": "faststart"} if path.suffix.lower() in (".mp4", ".m4v", ".mov") else {}
            self._container = av.open(str(self._part), "w", options=options)
        self._stream: Any = self._container.add_stream(codec, rate=like.rate, options=_ENCODERS[codec])
        # .avi knows no times but multiples of the rate, and MPEG-4 none that are very fine.
        steps = {".avi": 1 / like.rate}.get(path.suffix.lower(), _MILLISECONDS)
        self._time_base = Fraction(steps if codec == "mpeg4" else like.time_base)
        self._stream.codec_context.time_base = self._time_base
        self._last = -1

    def write(self, pixels: np.ndarray, seconds: Fraction) -> None:
        """Adds a frame, [H, W, 3] uint8, `seconds` after the first one."""
        if self._last < 0:
            self._begin(*pixels.shape[:2])
        stream = self._stream
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(stream.width, stream.height, stream.pix_fmt, dst_colorspace=self._colours)
        # Times of a damaged file may stand still or go back, which no container holds.
        self._last = max(round(seconds / self._time_base), self._last + 1)
        frame.pts, frame.time_base = self._last, self._time_base
        self._mux(frame)

    def finish(self) -> None:
        """Ends the video, and gives it its name."""
        self._mux(None)
        with writing(self.path):
            self._container.close()
            os.replace(self._part, self.path)

    def discard(self) -> None:
        """Removes what was written, unless it is finished."""
        if self._part.exists():
            self._container.close()
            self._part.unlink()

    def _begin(self, height: int, width: int) -> None:
        stream, context = self._stream, self._stream.codec_context
        stream.width, stream.height = width, height
        # H.264 shares colours between pairs of pixels.
        is_odd = stream.codec.name == "libx264" and (height % 2 or width % 2)
        stream.pix_fmt = "yuv444p" if is_odd else "yuv420p"
        if stream.codec.name == "mpeg4":
            # Players take this, as the file does not say.
            self._colours = "ITU601"
        else:
            self._colours = "ITU709"
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709

    def _mux(self, frame: Any) -> None:
        with writing(self.path):
            for packet in self._stream.encode(frame):
                self._container.mux(packet)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
