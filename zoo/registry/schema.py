"""The schema of a registry: entries, backbones and data sets.

The hyper-parameters keep the names of the published configurations (google-research/deeplab2, config.proto),
so that an entry can be compared with the file it was transcribed from. Everything is frozen, and an unknown
key is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from zoo.registry.formats import FORMATS
from zoo.registry.network_options import (
    BackboneArchitecture,
    Count,
    Declared,
    EvaluationOptions,
    Factor,
    Flag,
    KMaxOptions,
    MaskEvaluationOptions,
    NetworkOptions,
    Positive,
    SizePixels,
    Text,
    wrong_key,
)

# The largest whose instances 1 to 535, or more for smaller ids, fit 16 bits.
_LARGEST_THING_ID = 65

MetricName = Literal["pq", "pq_things", "pq_stuff", "miou", "ap"]
Evaluator = Literal["official", "internal"]
# Whose numbers are published: those of a data set's server, on images without public ground truth, as well.
ClaimedEvaluator = Literal["official", "internal", "server"]
Channel = Annotated[Count, Field(le=255)]
Percent = Annotated[Decimal, Field(ge=0, le=100)]


class RemoteFile(Declared):
    """A file somewhere else, with digest and length where known; in a registry a mapping, or just its URL."""

    # `https://`, `http://`, `gs://`, `s3://`, `file://`, or `package://<package>/<path>` for a bundled asset.
    url: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    bytes: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_known_scheme(self) -> Self:
        if not re.fullmatch(r"(https?|gs|s3a?|file|package)://\S*[^\s/]", self.url):
            message = "a URL that starts with https, http, gs, s3, file or package, and names a file"
            raise wrong_key("url", message, repr(self.url))
        return self

    @property
    def file_name(self) -> str:
        """Last part of the URL's path, for example `model.tar.gz`."""
        return self.url.partition("?")[0].rsplit("/", 1)[-1]


class TrainingOptions(Declared):
    """Facts about the training; nothing here changes an evaluation."""

    steps: Positive
    batch_size: Positive
    base_learning_rate: Factor


class Scores(Declared):
    """Numbers of one evaluator, in percent, with the decimals that were printed."""

    pq: Percent | None = None
    pq_things: Percent | None = None
    pq_stuff: Percent | None = None
    miou: Percent | None = None
    ap: Percent | None = None

    def printed(self) -> Iterator[tuple[MetricName, Decimal]]:
        """Yields the metrics that have a number, in the order of the published tables."""
        for metric in get_args(MetricName):
            if (value := getattr(self, metric)) is not None:
                yield metric, value


class Tolerance(Declared):
    """The tolerance of the claims on each metric, in percentage points; PQ's holds for its parts too."""

    pq: Percent = Decimal(0)
    miou: Percent = Decimal(0)
    ap: Percent = Decimal(0)


class Claim(Declared):
    """One published number."""

    metric: MetricName
    evaluator: ClaimedEvaluator
    value: Percent  # exactly as printed: `Decimal("36.80")`
    source: Text  # file and line
    # Percentage points by which a measured number may leave the interval that the printed digits stand for,
    # and still be "within"; 0 leaves only "match".
    tolerance: Percent

    @property
    def decimals(self) -> int:
        """Number of printed decimals."""
        return max(0, -int(self.value.as_tuple().exponent))


class PublishedNumbers(Declared):
    """The numbers of one row of a published table, and the line on which they stand."""

    official: Scores = Scores()
    internal: Scores = Scores()
    server: Scores = Scores()
    source: Text

    def claims(self, tolerance: Tolerance) -> Iterator[Claim]:
        """Yields the numbers one by one, official ones first and the server's last."""
        for evaluator in get_args(ClaimedEvaluator):
            for metric, value in getattr(self, evaluator).printed():
                yield Claim(
                    metric=metric,
                    evaluator=evaluator,
                    value=value,
                    source=self.source,
                    tolerance=getattr(tolerance, metric.partition("_")[0]),
                )


class RelatedFile(Declared):
    """Files published beside a row that are not the row's own."""

    title: Text
    note: Text
    checkpoint: RemoteFile | None = None
    saved_model: RemoteFile | None = None


class Quirk(Declared):
    """An irregularity in how upstream printed a row or named its files, which a faithful table repeats."""

    # The row's links as a whole, `([config](...), [ckpt](...))`, or what one of them leads to.
    place: Literal["links", "config", "checkpoint"]
    regular: Text  # the part that the rule of the table gives (see `PublishedTable`)
    printed: Text  # there instead
    note: Text


class ColumnQuirk(Declared):
    """A column that upstream set wider than its widest cell: the rule and the rows, not the header.

    Where `rows` names entries by their short names, only their rows are wider, than the column itself.
    """

    column: Literal["Backbone", "Output stride", "Input resolution"]
    extra_width: Positive
    rows: tuple[Text, ...] = ()
    note: Text


def _known_cell(cell: str) -> str:
    evaluator, _, metric = cell.partition(".")
    numbers = evaluator in get_args(ClaimedEvaluator) and metric in get_args(MetricName)
    if not numbers and cell not in ("output_stride", "input_resolution"):
        raise PydanticCustomError(
            "wrong_cell", "output_stride, input_resolution, or a number such as official.pq"
        )
    return cell


TableCell = Annotated[str, AfterValidator(_known_cell)]


class PublishedTable(Declared):
    """The table in which upstream published the entries of one data set.

    Rows are the entries whose numbers stand in the file `source`, in the order of their lines. The patterns
    make a configuration's path and the URL of a checkpoint's archive, with `{model}` for the short name.
    """

    heading: Text  # of the section in which the table stands
    source: Text
    config_pattern: Annotated[str, Field(pattern=r"\{model\}")]
    checkpoint_pattern: Annotated[str, Field(pattern=r"\{model\}")]
    name_prefix: str = ""  # of the short names, which `{model}` lacks
    # What follows the backbone in a row, by the column's title; the usual columns where none are given.
    columns: dict[Text, TableCell] = Field(default_factory=dict)
    quirks: tuple[ColumnQuirk, ...] = ()

    def regular(self, pattern: str, model: str) -> str:
        """Returns what one of the patterns makes of the short name of an entry."""
        return pattern.replace("{model}", model.removeprefix(self.name_prefix))

    @property
    def project(self) -> str:
        """Name of the project in whose file the table stands, for example "panoptic_deeplab"."""
        return self.source.rpartition("/")[2].partition(".")[0]


class Named(Declared):
    """What has a full name, such as `cityscapes/resnet50_os32`."""

    name: Text
    title: Text
    checkpoint: RemoteFile

    @property
    def short_name(self) -> str:
        """The name without its first part: `resnet50_os32`."""
        return self.name.partition("/")[2]

    def digest(self) -> str:
        """Returns the SHA-256 (hex) of the resolved declaration, however templates and files spell it."""
        import hashlib
        import json

        # Upstream's projects, and quirks of its print, change nothing that is measured.
        declared = self.model_dump(mode="json", exclude={"quirks", "project"})
        canonical = json.dumps(declared, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


class EntrySettings(Named):
    """What a row of the registry and the entry made from it have in common; see `Entry`."""

    kind: Literal["panoptic"] = "panoptic"
    project: Text = "panoptic_deeplab"  # upstream's, as its page and its folders of configurations are called
    dataset: Text
    config: Text | None = None  # the published one's path, in the repository of the reference implementation
    saved_model: RemoteFile | None = None  # published for the same row
    # Values in the checkpoint's variables: trainable ones, and the moving means and variances of batch
    # normalisation; no optimizer slots and no counters.
    parameters: Positive | None = None
    multiply_adds: Positive | None = None  # for one image of the published crop
    network: NetworkOptions | KMaxOptions
    evaluation: EvaluationOptions | MaskEvaluationOptions
    training: TrainingOptions | None = None
    tolerance: Tolerance = Tolerance()
    related: tuple[RelatedFile, ...] = ()
    note: Text | None = None
    quirks: tuple[Quirk, ...] = ()


class Entry(EntrySettings):
    """One model that can be reproduced: a row of a published table.

    Its full name is `<group>/<model>`, for Panoptic-DeepLab `<group>/<model>_os<output stride>`; `checkpoint`
    is the archive of a TensorFlow object checkpoint.
    """

    published: tuple[Claim, ...] = ()  # official first, in the order of the tables' columns

    @property
    def output_stride(self) -> int:
        """Pixels of the input per cell of the encoder's last feature map."""
        return self.network.backbone.output_stride

    @property
    def input_resolution(self) -> SizePixels:
        """(height, width) at which the numbers were made."""
        return self.evaluation.crop_size


class EntryRow(EntrySettings):
    """An entry as a registry writes it: the published numbers in columns, as in the table."""

    network: NetworkOptions
    evaluation: EvaluationOptions
    published: PublishedNumbers | None = None

    def entry(self) -> Entry:
        """Returns the entry that the row declares."""
        settings = {name: getattr(self, name) for name in EntrySettings.model_fields}
        published = () if self.published is None else tuple(self.published.claims(self.tolerance))
        return Entry(**settings, published=published)


class KMaxRow(EntryRow):
    """The row of a kMaX-DeepLab network."""

    network: KMaxOptions  # type: ignore[assignment]
    evaluation: MaskEvaluationOptions  # type: ignore[assignment]


class BackboneNetwork(Declared):
    """The network of an ImageNet checkpoint."""

    backbone: BackboneArchitecture


class Backbone(Named):
    """An ImageNet checkpoint: a backbone alone, to start a training from."""

    kind: Literal["backbone"] = "backbone"
    network: BackboneNetwork
    # strong: with AutoAugment, label smoothing and drop path; converted: from the weights of its authors
    strategy: Literal["simple", "strong", "converted"]
    data: Text  # that it was trained on, for example "ImageNet-1K"
    source: Text  # file and line where it is listed


class ClassDeclaration(Declared):
    """One class of a data set in the Cityscapes layout that has classes of its own."""

    name: Text
    id: Annotated[
        Count, Field(le=254)
    ]  # in `*_labelIds.png`; in `*_instanceIds.png` too, or id * 1000 + number
    isthing: Flag  # whether its instances are told apart
    colour: tuple[Channel, Channel, Channel] | None = None  # red, green, blue


class DatasetDeclaration(Declared):
    """A data set on which entries are measured."""

    name: Text
    title: Text
    format: Text  # folder layout and annotation format, one of `zoo.registry.formats.FORMATS`
    split: Text  # for example "val"
    images: Positive  # in the split
    path: Text | None = None  # its folder, so that no command needs `--data`
    # In the Cityscapes layout: the classes by train id where they are not those of Cityscapes, and the label
    # ids that stand for void. In the COCO format the annotations list the categories.
    classes: Annotated[tuple[ClassDeclaration, ...], Field(min_length=1, max_length=255)] | None = None
    void_ids: tuple[Annotated[Count, Field(le=255)], ...] = (0, 255)
    archive: RemoteFile | None = None  # where it may be downloaded without an account
    homepage: Text | None = None  # where to get it otherwise
    table: PublishedTable | None = None  # where upstream published numbers measured on it
    further_tables: tuple[PublishedTable, ...] = ()  # those of other projects
    _own_place: str = PrivateAttr("")

    @property
    def tables(self) -> tuple[PublishedTable, ...]:
        """All tables in which upstream published numbers measured on it."""
        return (*((self.table,) if self.table else ()), *self.further_tables)

    @property
    def own_place(self) -> str:
        """File and line of `images` in a registry file of the user; empty for a built-in data set."""
        return self._own_place

    @model_validator(mode="after")
    def _has_a_known_format(self) -> Self:
        if self.format not in FORMATS:
            raise wrong_key("format", " or ".join(map(repr, FORMATS)), repr(self.format))
        return self

    @model_validator(mode="after")
    def _has_classes_that_can_be_told_apart(self) -> Self:
        given = self.classes or ()
        if given and self.format != "cityscapes":
            raise wrong_key(
                "classes", f"none, as the annotations of the format {self.format} list them", "some"
            )
        for key in ("name", "id"):
            values = [getattr(each, key) for each in given]
            if twice := [value for value in values if values.count(value) > 1]:
                raise wrong_key("classes", f"another {key} for each class", f"{twice[0]!r} twice")
        if "void_ids" in self.model_fields_set and (both := {each.id for each in given} & {*self.void_ids}):
            raise wrong_key("void_ids", "label ids that are not of a class", str(min(both)))
        if wrong := [each.id for each in given if each.isthing and not 0 < each.id <= _LARGEST_THING_ID]:
            expected = (
                f"label ids from 1 to {_LARGEST_THING_ID} for things, as id * 1000 + number has 16 bits"
            )
            raise wrong_key("classes", expected, str(wrong[0]))
        return self
