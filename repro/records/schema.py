"""What a run record and a night's summary must hold, so that every reader can rely on it.

Only what readers use is declared; further keys are kept as they are, so that records of other versions stay
readable. Numbers are finite: what could not be measured is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

from zoo.errors import DataError
from zoo.registry.messages import describe_value, explain_error, models_in
from zoo.registry.network_options import Positive, wrong_key
from zoo.registry.schema import ClaimedEvaluator, Evaluator, MetricName

SCHEMA_VERSION = 1
MEASURE_AGAIN = "`zoo reproduce` measures again"


def _time_with_zone(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time with its zone, as 2026-11-25T02:11:09+00:00")
    return text


Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
NumberOrNone = Number | None
Whole = Annotated[int, Strict(), Field(ge=0)]
String = Annotated[str, Strict()]
Time = Annotated[String, AfterValidator(_time_with_zone)]
PerClass = dict[str, dict[str, NumberOrNone]]
Interval = tuple[Number, Number]
# A file of the run's own folder, of a kind that a page can show.
PictureFile = Annotated[String, Field(pattern=r"^pictures/\w[\w.-]*\.(jpg|png)$")]


class _Part(BaseModel):
    """Base of the schema; allows further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ClaimRow(_Part):
    """A published number, what was measured, and the verdict."""

    metric: MetricName
    evaluator: ClaimedEvaluator
    published: Number
    decimals: Annotated[int, Strict(), Field(ge=0, le=9)]
    tolerance: Annotated[Number, Field(ge=0)] = 0.0
    measured: NumberOrNone
    difference: NumberOrNone
    verdict: Literal["match", "within", "mismatch", "not judged", "not measurable here"]
    reason: String | None = None
    interval: Interval | None = None

    @model_validator(mode="after")
    def _verdict_is_about_a_number(self) -> Self:
        if self.measured is None:
            if self.verdict in ("match", "within"):
                raise wrong_key("measured", f"a number under the verdict {self.verdict!r}", "none")
            if self.difference is not None:
                raise wrong_key("difference", "none where nothing was measured", str(self.difference))
        elif self.difference is None or abs(self.measured - self.published - self.difference) > 1e-6:
            expected = f"{self.measured - self.published:.6f}, what was measured minus what was published"
            raise wrong_key("difference", expected, str(self.difference))
        return self


class PictureRow(_Part):
    """A drawn image, and where its files are."""

    image_id: String
    rank: String
    pq: NumberOrNone
    size: tuple[Positive, Positive]
    files: dict[str, PictureFile]
    wrong_class: NumberOrNone
    wrong_segment: NumberOrNone
    classes: dict[str, Annotated[String, Field(pattern=r"^#[0-9a-f]{6}$")]]


class InternalPerClass(_Part):
    """Class name -> value of each internal metric; these name the data set's classes, in their order.

    A scored folder of predictions has only those metrics whose maps it holds.
    """

    pq: dict[str, NumberOrNone] = {}
    iou: dict[str, NumberOrNone] = {}
    ap: dict[str, NumberOrNone] = {}
    boundary_pq: dict[str, NumberOrNone] = {}
    boundary_iou: dict[str, NumberOrNone] = {}


class PerClassValues(_Part):
    """The values of the classes, by evaluator."""

    internal: InternalPerClass
    official: PerClass = {}


class _Timings(_Part):
    started: Time | None = None
    images_s: Number | None = None
    images_computed: Whole | None = None


class Efficiency(_Part):
    """What a run needed; the times are of the device that the record names.

    Attributes:
      parameters: values of the network's trainable variables and of its batch normalisation.
      multiply_adds: of all convolutions for one image of the published size.
      seconds_per_image: of the network alone, without reading, post-processing and scoring.
      peak_memory_bytes: the most main memory that the process of the run has held, all its parts included.
    """

    parameters: Whole | None = None
    multiply_adds: Whole | None = None
    seconds_per_image: Annotated[Number, Field(ge=0)] | None = None
    peak_memory_bytes: Whole | None = None


class _Device(_Part):
    kind: String | None
    replicas: Positive | None = None
    names: list[String] = []


class _DatasetPart(_Part):
    name: String | None
    fingerprint: String | None


class _CheckpointPart(_Part):
    sha256: String | None


class RuntimePart(_Part):
    """What ran the network: its name and version, and the file where it runs one of `zoo export`."""

    name: String
    version: String
    model_sha256: String | None = None


class PredictionsPart(_Part):
    """The folder of predictions that a run without an entry has scored.

    Attributes:
      holds: which maps it holds: panoptic, semantic, instances.
    """

    name: Annotated[String, Field(min_length=1)]
    path: String | None = None
    form: String | None = None
    sha256: String | None = None
    holds: list[String] = []


class _PostProcessing(_Part):
    thing_class_ids: list[Whole] = []


class OfficialScripts(_Part):
    """The official scripts, or why they were skipped.

    Attributes:
      processes: how many processes the panoptic script shared the images among; each adds up its own.
    """

    skipped: String | None = None
    scripts: dict[str, Any] = {}
    processes: Positive = 1


class RunRecord(_Part):
    """A run record; `entry` is null where predictions of another program were scored."""

    version: Annotated[Literal[1], Field(alias="schema")]
    entry: Annotated[String, Field(min_length=1)] | None
    predictions: PredictionsPart | None = None
    images: Positive
    images_in_dataset: Positive
    skipped: dict[str, String] = {}
    claims: list[ClaimRow]
    metrics: dict[Evaluator, dict[str, NumberOrNone]]
    per_class: PerClassValues | None = None
    ap12: dict[str, NumberOrNone] = {}
    pictures: list[PictureRow] = []
    post_processing: _PostProcessing = _PostProcessing()
    official_scripts: OfficialScripts = OfficialScripts()
    intervals: dict[Evaluator, dict[str, Interval]] = {}
    device: _Device | None = None
    checkpoint: _CheckpointPart | None = None
    runtime: RuntimePart | None = None
    dataset: _DatasetPart | None = None
    settings: dict[str, bool | int | float | str | list[float] | None] = {}
    versions: dict[str, String | None] = {}
    entry_digest: String | None = None
    code: String | None = None
    timings: _Timings = _Timings()
    efficiency: Efficiency = Efficiency()

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if self.entry is None and self.predictions is None:
            raise wrong_key("predictions", "the scored ones, as there is no entry", "none")
        return self


class OutcomeRow(_Part):
    """What became of an entry in a night."""

    entry: String
    result: Literal["held", "not judged", "missed", "failed", "unfinished", "not run"]
    reason: String | None
    wanted: Annotated[bool, Strict()]
    duration_s: NumberOrNone
    peak_memory_bytes: Whole | None
    begun_with: String | None


class NightSummary(_Part):
    """What a stopped night is resumed from."""

    version: Annotated[Literal[1], Field(alias="schema")]
    settings: dict[str, Any]
    started: Time
    finished: Time | None
    entries: list[OutcomeRow]


def read_checked(path: Path, schema: type[BaseModel], what: str, remedy: str) -> dict[str, Any]:
    """Returns the JSON object in a file once it follows the schema.

    It is unchanged but for nulls: keys that may be left out are left out where they are null.

    Args:
      path: the file.
      schema: what it must hold.
      what: what messages call such a file, with its article, as in "a run record".
      remedy: what to do about one that does not follow it.

    Raises:
      DataError: the file cannot be read or does not follow the schema: file, key, expected, found, remedy.
      FileNotFoundError: there is no such file.
    """

    def wrong(message: str) -> DataError:
        return DataError(f"{path}: not {what} that can be read: {message}; {remedy}")

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (ValueError, RecursionError, OSError) as error:
        raise wrong(str(error)) from None
    if not isinstance(value, dict):
        raise wrong(f"expected an object, found {describe_value(value)}")
    if "schema" in value and value["schema"] != SCHEMA_VERSION:
        found = f"{what.partition(' ')[2]} of schema {value['schema']!r}, expected {SCHEMA_VERSION}"
        raise wrong(f"{found}; use the version of zoo that wrote it")
    value = _without_nulls(value, schema)
    try:
        schema.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
        key, message = explain_error(schema, details[0])
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise wrong(f"{'.'.join(map(str, key))}: {message}{more}") from None
    not_finite = next(_not_finite(value), None)
    if not_finite is not None:
        raise wrong(f"{not_finite}: expected a finite number")
    return value


def _without_nulls(value: Any, schema: type[BaseModel]) -> Any:
    """Returns a value without the keys that are null, of those that the schema lets be left out."""
    if isinstance(value, list):
        return [_without_nulls(item, schema) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, part in value.items():
        field = schema.model_fields.get(key)
        if part is None and field is not None and not field.is_required():
            continue
        inner = None if field is None else next(models_in(field.annotation), None)
        kept[key] = part if inner is None else _without_nulls(part, inner)
    return kept


def _not_finite(value: Any, key: str = "") -> Iterator[str]:
    """Yields the keys of all numbers that are not finite, in parts without a schema too."""
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        yield key
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _not_finite(part, f"{key}.{name}" if key else str(name))
