"""Predicts a user's pictures and videos, any number of them, into a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.errors import DataError, InterruptedRunError, UsageError, ZooError
from zoo.files.keras_backend import chosen_backend
from zoo.files.progress import Progress, say
from zoo.files.words import counted
from zoo.inputs.finding import Input, find_inputs
from zoo.inputs.picture import read_picture
from zoo.inputs.video import Video, VideoWriter, import_av
from zoo.network.building import LoadOptions
from zoo.network.loading import load_entry, model_file_of, weights_of
from zoo.network.network import classes_of
from zoo.network.stream import StageTimes, stream
from zoo.prediction.folder import PredictionFolder, Source, frame_name
from zoo.prediction.forms import FORMS, writer_of
from zoo.prediction.prediction import Prediction

if TYPE_CHECKING:
    from zoo.model.postprocess.result import Maps
    from zoo.network.network import Network
    from zoo.prediction.forms import Writer
    from zoo.registry import Entry, Registry
    from zoo.registry.dataset_info import DatasetInfo


@dataclass(frozen=True)
class PredictOptions:
    """What a user may choose about predictions.

    Attributes:
      write: forms of `writer_of`, which may end in a suffix (`table.parquet`), or "video" for the overlays of
        videos alone.
      device, precision, scales, flip, runtime, model: as for `zoo.load`.
      keep_going: whether to leave out, with a line, what cannot be used.
    """

    write: tuple[str, ...] = ("overlay",)
    device: str = "auto"
    precision: str = "float32"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    keep_going: bool = False
    runtime: str = ""
    model: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime", self.runtime or chosen_backend())
        # Refuses what does not go together before anything is read.
        LoadOptions(**self.for_loading())

    def for_loading(self) -> dict[str, Any]:
        """Returns the options of `load_entry`, whose networks predict what `zoo reproduce` scores."""
        return {
            "precision": self.precision,
            "optimize": True,
            "scales": self.scales,
            "flip": self.flip,
            "device": self.device,
            "runtime": self.runtime,
            "model": self.model,
        }


def predict_files(
    entry: Entry, registry: Registry, what: Sequence[str], out: Path, options: PredictOptions
) -> dict[str, Any]:
    """Predicts pictures and videos into a folder, and returns what became of them, as JSON values.

    What an earlier call with the same network and options has written is not made again.

    Args:
      entry, registry: the network, and where its data set is declared.
      what: files, folders and patterns; see `find_inputs`.
      out: the folder.
      options: what the user chose.

    Raises:
      ZooError: it could not be done; one line says why.
    """
    from zoo.fetch.fetcher import Fetcher

    start = time.perf_counter()
    inputs = _usable_inputs(what, out, options.write)
    LoadOptions(**options.for_loading()).checked(entry)
    classes = classes_of(entry, registry.dataset(entry.dataset))
    writers = _writers(options.write, out, classes)
    model = model_file_of(entry, options.runtime, options.model)
    checkpoint = model.about.checkpoint if model else weights_of(entry, options.model, Fetcher())
    folder = PredictionFolder(
        out,
        {
            "entry": entry.name,
            "entry_digest": entry.digest(),
            "checkpoint_sha256": checkpoint.sha256,
            "precision": options.precision,
            "scales": list(options.scales),
            "flip": options.flip,
            "write": sorted(options.write),
            **({"model_sha256": model.sha256} if model else {}),
        },
    )
    loaded, device = start, {}
    with folder.in_use():
        folder.open()
        makes_videos = "overlay" in writers or "video" in options.write
        run = InputPrediction(inputs, folder, writers, video=makes_videos, keep_going=options.keep_going)
        if run.outcome.resumed:
            say(f"resuming: {run.outcome.resumed} of {run.outcome.inputs} are written already")
        if run.waiting:
            network = load_entry(entry, checkpoint, classes=classes, **options.for_loading())
            loaded, device = time.perf_counter(), network.device
            run.run(network)
        run.finish()
    say(f"{run.outcome}; in {out}")
    return {
        "entry": entry.name,
        "out": str(out),
        "write": list(options.write),
        **asdict(run.outcome),
        "device": device,
        "timings": {**run.times.to_json(), "load_s": loaded - start, "total_s": time.perf_counter() - start},
    }


def _usable_inputs(what: Sequence[str], out: Path, write: Sequence[str]) -> list[Input]:
    inputs, others = find_inputs(what, out)
    if others:
        say(f"{counted(others, 'file')} left alone: neither a picture nor a video by its name")
    for each in inputs:
        if each.is_video:
            import_av(each.path)
        elif set(write) == {"video"}:
            raise UsageError(f"--write video: expected videos, found {each.path}; add `overlay` for pictures")
    return inputs


def _writers(write: Sequence[str], out: Path, classes: DatasetInfo) -> dict[str, Writer]:
    """Returns the writer of each form that pictures have."""
    writers: dict[str, Writer] = {}
    for name in write:
        form, dot, suffix = name.partition(".")
        if name == "video":
            continue
        if form not in FORMS:
            known = ", ".join((*FORMS, "video"))
            raise UsageError(f"--write: expected one or more of {known}, commas between, found {name!r}")
        if form in writers:
            raise UsageError(f"--write {name}: expected each form once, found {form} twice")
        try:
            writers[form] = writer_of(form, out, classes, **{"suffix": dot + suffix} if dot else {})
        except UsageError as error:
            raise UsageError(f"--write {name}: {error}") from None
    return writers


@dataclass
class Outcome:
    """What became of the inputs.

    Attributes:
      inputs: how many pictures and videos there are.
      resumed: how many of them an earlier call had done.
      written: how many were done now.
      images: how many pictures and frames the network saw now.
      left_out: why others could not be used, by path.
    """

    inputs: int
    resumed: int = 0
    written: int = 0
    images: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many inputs are done, now or before."""
        return self.resumed + self.written

    def __str__(self) -> str:
        left_out = f", {len(self.left_out)} left out" if self.left_out else ""
        return f"{self.done} of {self.inputs} written{left_out}"


class _Picture(NamedTuple):
    """A picture, or a frame of a video, on its way through the network."""

    name: str
    pixels: np.ndarray
    origin: Any  # the `Source` of a picture, the `Frame` of a video


class InputPrediction:
    """Predicts inputs into a folder.

    Reading runs ahead of the network in one thread; post-processing and writing follow behind it in another.
    Few images are in memory, however many inputs there are. What is done is noted, and not done again.

    Attributes:
      outcome: what became of the inputs so far.
      times: seconds of each stage; stages overlap.
      waiting: the inputs that are not done yet.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        folder: PredictionFolder,
        writers: Mapping[str, Writer],
        *,
        video: bool,
        keep_going: bool = False,
    ) -> None:
        """Looks which inputs are done.

        Args:
          inputs: of `find_inputs`.
          folder: where the predictions go; it is open.
          writers: what writes each form of a picture, and of a frame, whose overlays become a video.
          video: whether to make videos with overlays.
          keep_going: whether to leave out, with a line, what cannot be used.

        Raises:
          UsageError: the folder holds predictions of the same name for another file.
        """
        self._folder = folder
        self._keep_going = keep_going
        self._writers = list(writers.values())
        self._frame_writers = [writer for form, writer in writers.items() if form != "overlay"]
        self._makes_videos = video
        self.times = StageTimes()
        self.waiting = [each for each in inputs if not self._is_done(each)]
        self.outcome = Outcome(len(inputs), resumed=len(inputs) - len(self.waiting))

    def run(self, network: Network) -> None:
        """Predicts what is waiting, pictures before videos.

        Raises:
          DataError: a file cannot be used, and is not to be left out.
          ZooError: a prediction cannot be written.
          InterruptedRunError: the user stopped it.
        """
        outcome = self.outcome
        try:
            self._predict_pictures(network, [each for each in self.waiting if not each.is_video])
            for each in self.waiting:
                if each.is_video:
                    self._predict_video(network, each)
        except DataError as error:
            raise DataError(
                f"{error}; {outcome.done} of {outcome.inputs} written; the same command resumes once the "
                "file is mended, or --keep-going leaves such files out"
            ) from None
        except ZooError as error:
            raise type(error)(f"{error}; {outcome.done} of {outcome.inputs} written") from None
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted with {outcome.done} of {outcome.inputs} written to {self._folder.root}; "
                "run the same command again to resume",
                images_done=outcome.done,
                images=outcome.inputs,
            ) from None

    def finish(self) -> None:
        """Writes the files that hold all predictions of the folder together.

        Raises:
          DataError: no input could be used.
        """
        outcome = self.outcome
        if not outcome.done:
            raise DataError(f"0 of {outcome.inputs} written: none could be used; the lines above say why")
        for writer in self._writers:
            writer.finish(self._folder.names())

    def _is_done(self, each: Input) -> bool:
        done = self._folder.find(each.name, each.path)
        if done is None:
            return False
        writers = self._frame_writers if each.is_video else self._writers
        if each.is_video and self._makes_videos and not self._video_path(each).exists():
            return False
        return all(writer.has(name) for name in done.names(each.name) for writer in writers)

    def _predict_pictures(self, network: Network, inputs: Sequence[Input]) -> None:
        if not inputs:
            return
        outcome = self.outcome
        before = outcome.resumed

        def write(picture: _Picture, prediction: Prediction) -> None:
            for writer in self._writers:
                writer.write(picture.name, prediction)

        pictures = filter(None, map(self._read, inputs))
        results = self._predicted(network, pictures, write)
        with Progress("pictures", before + len(inputs), done=before) as progress, closing(results):
            for picture in results:
                self._folder.note(picture.name, picture.origin)
                outcome.written += 1
                progress.at(before + outcome.written + len(outcome.left_out))

    def _read(self, each: Input) -> _Picture | None:
        """Returns a picture, or None where it is left out."""
        with self.times.of("read_s"):
            try:
                source = Source.of(each.path)
                pixels = read_picture(each.path, say)
                _require_fit(each, self._writers, pixels)
                return _Picture(each.name, pixels, source)
            except DataError as error:
                self._leave_out(each, error)
                return None

    def _predict_video(self, network: Network, each: Input) -> None:
        path = self._video_path(each)

        def write(picture: _Picture, prediction: Prediction) -> None:
            for writer in self._frame_writers:
                writer.write(picture.name, prediction)
            if overlays:
                overlays.write(prediction.overlay(), picture.origin.seconds)

        try:
            source = Source.of(each.path)
            _require_fit(each, self._frame_writers)
            with Video(each.path, say) as video:
                frames = (
                    _Picture(frame_name(each.name, frame.number), frame.pixels, frame) for frame in video
                )
                overlays = VideoWriter(path, video) if self._makes_videos else None
                try:
                    results = self._predicted(network, frames, write)
                    with Progress(each.path.name, video.num_frames) as progress, closing(results):
                        for picture in results:
                            progress.at(picture.origin.number)
                    if overlays:
                        overlays.finish()
                finally:
                    if overlays:
                        overlays.discard()
        except DataError as error:
            self._leave_out(each, error)
        else:
            self._folder.note(each.name, source, frames=picture.origin.number)
            self.outcome.written += 1

    def _video_path(self, each: Input) -> Path:
        return self._folder.root / f"{each.name}_overlay{each.path.suffix.lower()}"

    def _leave_out(self, each: Input, error: DataError) -> None:
        if not self._keep_going:
            raise error
        say(f"left out: {error}")
        self.outcome.left_out[str(each.path)] = str(error)

    def _predicted(
        self,
        network: Network,
        pictures: Iterable[_Picture],
        write: Callable[[_Picture, Prediction], None],
    ) -> Generator[_Picture, None, None]:
        """Yields pictures, in their order, once their predictions are written."""

        def maps(batch: list[_Picture]) -> list[Maps]:
            with self.times.of("network_s"):
                return network.maps([picture.pixels for picture in batch])

        def finish(picture: _Picture, maps: Maps) -> _Picture:
            with self.times.of("post_processing_s"):
                prediction = network.prediction(maps, picture.pixels, picture.name)
            with self.times.of("write_s"):
                write(picture, prediction)
            self.outcome.images += 1
            return picture

        return stream(pictures, maps, finish, batch=network.replicas)


def _require_fit(each: Input, writers: Iterable[Writer], pixels: np.ndarray | None = None) -> None:
    """Raises a DataError where the predictions of a picture, or of a video, cannot be written."""
    for writer in writers:
        try:
            writer.require_fit(each.name, pixels)
        except UsageError as error:
            raise DataError(f"{each.path}: {error}") from None
