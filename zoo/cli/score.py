"""The command `zoo score`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import (
    AsJson,
    DataCache,
    KeepGoing,
    Limit,
    RayOptions,
    Restart,
    RunsFolder,
    Strict,
    chosen_registry,
    data_folders,
    reads_registry,
    takes_fields,
)
from zoo.cli.output import console, exit_with_verdict, print_each, print_reports
from zoo.files.progress import say

if TYPE_CHECKING:
    from zoo.repro.datasets.dataset import Dataset

Form = Enum(
    "Form",
    {"coco": "coco", "label_ids": "label_ids", "divisor": "divisor", "instances": "instances"},
    type=str,
)
Ids = Enum("Ids", {"original": "original", "train": "train"}, type=str)
Evaluator = Enum("Evaluator", {"both": "both", "official": "official", "internal": "internal"}, type=str)
Further = Enum("Further", {"boundary": "boundary"}, type=str)


@dataclass(frozen=True)
class ReadingOptions:
    """The options that say what the predictions are."""

    dataset: Annotated[
        str, typer.Option("--dataset", metavar="NAME", help="The data set whose images were predicted.")
    ]
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The data set's folder or URL. Bundled data sets bring their own."),
    ] = None
    data_cache: DataCache = None
    form: Annotated[
        Form | None, typer.Option(help="Read only this form; by default, every form that is found.")
    ] = None
    divisor: Annotated[
        int | None, typer.Option(min=2, help="The divisor of maps that hold class * divisor + instance.")
    ] = None
    ids: Annotated[
        Ids | None,
        typer.Option(help="What stands for classes; by default train ids with --divisor, else original ids."),
    ] = None


@dataclass(frozen=True)
class ScoringOptions:
    """The options that say how the run is made."""

    out: RunsFolder = None
    name: Annotated[
        str | None,
        typer.Option(help="Name of the predictions in reports; by default, that of their folder or file."),
    ] = None
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="A number to compare with, as pq=58.1 or internal.miou=70.25: equal if it rounds to it.",
        ),
    ] = None
    claims: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A YAML or JSON file of such numbers, as `official: {pq: 58.1}`."),
    ] = None
    evaluator: Annotated[
        Evaluator, typer.Option(help="Measure by the official scripts, the internal metrics, or both.")
    ] = Evaluator.both
    metrics: Annotated[
        list[Further] | None, typer.Option(help="Measure boundary PQ and boundary IoU too.")
    ] = None
    limit: Limit = None
    restart: Restart = False
    keep_going: KeepGoing = False


@reads_registry
@takes_fields
def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="A folder of predictions or of a run, a .zip, or a panoptic JSON file beside its PNG files.",
        ),
    ],
    reading: ReadingOptions,
    scoring: ScoringOptions,
    cluster: RayOptions,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the predictions; exit code 3 if anything is wrong.")
    ] = False,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Only write a copy of the predictions with what can be mended mended."
        ),
    ] = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Check and score predictions of any model.

    Reads COCO panoptic (JSON with PNG files), Cityscapes panoptic, label ids, instance files with masks, COCO
    results, and maps of class * divisor + instance; a folder may hold several of them. PQ needs panoptic
    maps, mIoU semantic or panoptic maps, AP panoptic maps with scores or masks with scores. Everything is
    checked first; if anything is wrong, a line for each says what, and nothing is scored. Then the official
    scripts and the internal metrics run, as for `zoo reproduce`; `zoo report` and `zoo explain` take the run.

    Exit code: 0 no claim was missed, 1 a claim was missed, 2 wrong usage, 3 something is wrong with the
    predictions, or it could not run, 4 with --strict: a claim was not judged.

    Examples: `zoo score out/panoptic --dataset coco --data ~/coco --claim pq=58.1`,
    `zoo score out --dataset cityscapes --data ~/cityscapes --check`
    """
    registry = chosen_registry()
    folders = data_folders(
        [reading.data] if reading.data else [], registry, reading.dataset, reading.data_cache
    )
    data = folders.get(registry.dataset(reading.dataset).name)
    form = {
        "form": reading.form and reading.form.value,
        "divisor": reading.divisor,
        "ids": reading.ids and reading.ids.value,
    }
    if check or fix is not None:
        from zoo.fetch.fetcher import Fetcher
        from zoo.repro.datasets.opening import open_dataset

        declared = registry.dataset(reading.dataset)
        opened = open_dataset(declared, data, Fetcher(), needed_by=str(predictions))
        _check_or_fix(predictions, opened, form, fix, as_json=as_json)
        return
    source = {"dataset": reading.dataset, "data": data, "registry": registry, **form}
    record = _scored(predictions, scoring, {**source, "workers": cluster.workers()})
    from zoo.reports.tables.claim_table import terminal

    if as_json:
        print_each([record])
    else:
        console().print(terminal([record]))
    exit_with_verdict([record], strict=strict)


def _scored(predictions: Path, scoring: ScoringOptions, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of a run; prints what is wrong with the predictions before the error about it."""
    from zoo.repro.run.own_claims import read_claims
    from zoo.repro.run.score import UnsoundPredictionsError
    from zoo.repro.run.score import score as score_predictions

    both = scoring.evaluator is Evaluator.both
    try:
        return score_predictions(
            predictions,
            **settings,
            out=scoring.out,
            claims=[*(read_claims(scoring.claims) if scoring.claims else []), *(scoring.claim or [])],
            evaluators=("official", "internal") if both else (scoring.evaluator.value,),
            metrics=tuple(each.value for each in scoring.metrics or []),
            name=scoring.name,
            limit=scoring.limit,
            keep_going=scoring.keep_going,
            restart=scoring.restart,
        )
    except UnsoundPredictionsError as error:
        for line in str(error.check).splitlines():
            say(line)
        raise


def _check_or_fix(
    predictions: Path, dataset: Dataset, form: dict[str, Any], fix: Path | None, *, as_json: bool
) -> None:
    """Checks predictions, or writes a corrected copy; exits with 3 where something is wrong, or still is."""
    if fix is None:
        from zoo.repro.predictions.check import check_predictions

        check = check_predictions(predictions, dataset, **form)
        print_reports([check], as_json=as_json)
        if not check.ok:
            raise typer.Exit(3)
        return
    from zoo.repro.predictions.fix import fix_predictions

    fixed = fix_predictions(predictions, fix, dataset, **form)
    print_reports([fixed], as_json=as_json)
    if fixed.left:
        raise typer.Exit(3)
    say(f"score the copy next: the same command with {fix} in place of {predictions}, without --fix")
