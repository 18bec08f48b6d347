"""The official scripts on a cluster: workers look at parts of the images, the run's machine adds up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import EvaluationError
from zoo.files.progress import Progress, say
from zoo.repro.cluster.crew import Crew
from zoo.repro.cluster.workers import LOCAL, Workers
from zoo.repro.datasets.predictions import prediction_files
from zoo.repro.official.scripts import OfficialRun, start_official

if TYPE_CHECKING:
    from zoo.repro.datasets.dataset import Dataset

# A part costs the start of a process for each script: with fewer images that would be most of it.
_IMAGES_AT_LEAST = 4
_PARTS_FOR_EACH_WORKER = 3


@dataclass(frozen=True)
class Part:
    """Some images of a run; their prediction files travel with it."""

    number: int
    image_ids: tuple[str, ...]
    predictions: Path | None = None  # the folder, where the run is
    files: Mapping[str, bytes] | None = None  # by name below that folder, on a worker

    def __str__(self) -> str:
        return f"official scripts on {self.image_ids[0]} to {self.image_ids[-1]}"

    def __reduce__(self) -> tuple[Any, ...]:
        files = self.files
        if self.predictions is not None:
            # Read when the part is sent: those that wait take no memory.
            paths = (path for each in self.image_ids for path in prediction_files(self.predictions, each))
            files = {path.relative_to(self.predictions).as_posix(): path.read_bytes() for path in paths}
        return Part, (self.number, self.image_ids, None, files)


def look_at_parts(
    official: OfficialRun,
    image_ids: Sequence[str],
    predictions: Path,
    *,
    open_dataset: Callable[[], Dataset],
    holds: Collection[str],
    workers: Workers,
) -> None:
    """Lets workers do what the scripts do image by image, for `official.finish` to go on with.

    What workers fail at is left to `official.finish`, and so is all where there is this machine alone.

    Args:
      official: the run's scripts.
      image_ids: the images.
      predictions: the folder of the complete predictions.
      open_dataset: opens the data set on a worker; is pickled.
      holds: what the predictions hold.
      workers: where.
    """
    if workers.address == LOCAL or len(image_ids) <= _IMAGES_AT_LEAST:
        return
    make_worker = partial(_Looker, open_dataset, frozenset(holds))
    of_one_core = replace(workers, actors=None, cpus_per_actor=1.0, gpus_per_actor=0.0)
    try:
        with Crew[Part, dict[str, bytes]](
            make_worker, of_one_core, most=len(image_ids) // _IMAGES_AT_LEAST
        ) as crew:
            parts = _parts(image_ids, predictions, _PARTS_FOR_EACH_WORKER * crew.share.actors)
            with Progress("parts of the official scripts' work", len(parts)) as progress:
                for dealt in crew.deal(parts):
                    if dealt.result is not None:
                        official.take_part(dealt.item.number, dealt.result)
                    else:
                        say(f"{dealt.failure}; it is done here instead")
                    progress.advance()
    except EvaluationError as error:
        say(f"the official scripts run here alone: {error}")


def _parts(image_ids: Sequence[str], predictions: Path, wanted: int) -> list[Part]:
    size = max(_IMAGES_AT_LEAST, -(-len(image_ids) // wanted))
    starts = range(0, len(image_ids), size)
    return [
        Part(number, tuple(image_ids[start : start + size]), predictions)
        for number, start in enumerate(starts)
    ]


class _Looker:
    """Runs the scripts on parts of the images."""

    def __init__(self, open_dataset: Callable[[], Dataset], holds: Collection[str]) -> None:
        self._dataset, self._holds = open_dataset(), holds

    def __call__(self, part: Part) -> dict[str, bytes]:
        assert part.files is not None
        with tempfile.TemporaryDirectory(prefix="zoo-official-") as name:
            predictions = Path(name) / "predictions"
            for file, content in part.files.items():
                path = predictions / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            with start_official(
                self._dataset, part.image_ids, predictions, Path(name) / "official", 1, self._holds
            ) as run:
                return run.finish_part()
