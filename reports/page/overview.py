"""The page's first part: every run with its settings, and every number with its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zoo.reports.page.markup import Markup, breakable, scroll, tag
from zoo.reports.runs import Run
from zoo.reports.tables.history import moments
from zoo.repro.records.claim_words import EVALUATORS, HEADLINE_METRICS, metric_title

_VERDICTS = {"match": "✓", "within": "≈", "mismatch": "✕", "not judged": "○"}
# Longer tables scroll by themselves on a screen.
TALL_ROWS = 30


def overview(runs: Sequence[Run], newest: Mapping[str, Run], pictures: Mapping[str, Markup]) -> Markup:
    """Returns a row for each run, and the claims of the newest run of each entry and settings.

    Args:
      runs: all runs.
      newest: the anchor of each section of the page, and the run that it shows.
      pictures: by anchor, what is shown beside the claims.
    """
    reasons = [
        f"{claim['verdict']}: {claim['reason']}"
        for run in newest.values()
        for claim in run.record["claims"]
        if claim.get("reason")
    ]
    return tag(
        "section",
        tag("h2", "Published and measured", id="claims"),
        _tally(newest.values(), "legend tally", "Number of claims by verdict"),
        _runs_table(runs, newest) if len(runs) > 1 else None,
        [_summary(anchor, run, pictures.get(anchor)) for anchor, run in newest.items()],
        [tag("p", reason[0].upper(), reason[1:], ".", class_="note") for reason in dict.fromkeys(reasons)],
        tag(
            "p",
            "Match: the measured value prints as the published one. Within: it lies no further off than the "
            "entry tolerates or, of a part of the images, the published value lies in the 95 % interval. "
            "Official: the scripts of the data set. Internal: the metrics of the reference, in which crowd "
            "regions are void.",
            class_="note",
        ),
        aria_labelledby="claims",
    )


def _tally(runs: Iterable[Run], classes: str, label: str) -> Markup | None:
    """Returns how many claims there are of each verdict."""
    verdicts = [claim["verdict"] for run in runs for claim in run.record["claims"]]
    if not verdicts:
        return tag("p", "Nothing was published for comparison.", class_="note")
    chips = [
        tag("li", _verdict(verdict, f"{verdicts.count(verdict)} {verdict}"))
        for verdict in sorted(dict.fromkeys(verdicts), key=verdicts.count, reverse=True)
    ]
    return tag("ul", chips, class_=classes, aria_label=label)


def _runs_table(runs: Sequence[Run], newest: Mapping[str, Run]) -> Markup:
    """Returns a table with one row for each run, in the order of the sections, the newest first."""
    section = {(run.entry, run.settings): anchor for anchor, run in newest.items()}
    order = {name: position for position, name in enumerate(section)}
    newest_first = sorted(runs, key=lambda run: run.started, reverse=True)
    shown = sorted(newest_first, key=lambda run: order[run.entry, run.settings])
    head = tag(
        "tr",
        tag("th", "Run", scope="col"),
        tag("th", "Started (UTC)", scope="col", class_="wide"),
        [
            tag("th", metric_title(m), " ", tag("small", "official"), scope="col", class_="number wide")
            for m in HEADLINE_METRICS
        ],
        tag("th", "Verdicts", scope="col"),
    )
    body = []
    for run, started in zip(shown, moments(shown), strict=True):
        words = run.settings
        name = tag("a", breakable(run.entry), href=f"#{section[run.entry, words]}")
        values = [run.value("official", metric) for metric in HEADLINE_METRICS]
        body.append(
            tag(
                "tr",
                tag(
                    "th",
                    name,
                    tag("small", words, class_="settings"),
                    tag("small", started, class_="narrow"),
                    scope="row",
                ),
                tag("td", started, class_="wide"),
                [
                    tag("td", "" if value is None else f"{value:.2f}", class_="number wide")
                    for value in values
                ],
                tag("td", _tally([run], "tally", f"Verdicts of {run.entry}, {words}, {started}")),
            )
        )
    caption = tag("caption", "All runs and their settings; values in percent")
    table = tag("table", caption, tag("thead", head), tag("tbody", body), class_="runs")
    return scroll(table, "Table of all runs", tall=len(runs) > TALL_ROWS)


def _summary(anchor: str, run: Run, picture: Markup | None) -> Markup:
    rows = list(_rows(run))
    has_interval = any(row["interval"] for row in rows)
    head = tag(
        "tr",
        tag("th", "Metric", scope="col"),
        [tag("th", name, scope="col", class_="number") for name in ("Published", "Measured")],
        tag("th", "95 % interval", scope="col", class_="number wide") if has_interval else None,
        tag("th", "Difference", scope="col", class_="number wide"),
        tag("th", "Verdict", scope="col"),
    )
    name = tag("a", breakable(run.entry), href=f"#{anchor}")
    caption = tag("caption", name, tag("small", run.settings, class_="settings"))
    body = tag("tbody", [_row(row, has_interval=has_interval) for row in rows])
    table = tag("table", caption, tag("thead", head), body, class_="claims")
    label = f"Table of all claims: {run.entry}, {run.settings}"
    return tag("div", scroll(table, label), picture, class_="summary")


def _rows(run: Run) -> Iterator[dict[str, Any]]:
    """Yields each claim, then what was measured though nothing was published, as text."""
    claims = run.record["claims"]
    intervals = run.record.get("intervals", {})
    for claim in claims:
        decimals = int(claim["decimals"])
        measured, difference = claim["measured"], claim["difference"]
        bounds = claim.get("interval") or intervals.get(claim["evaluator"], {}).get(claim["metric"])
        yield {
            "key": (claim["evaluator"], claim["metric"]),
            "published": f"{claim['published']:.{decimals}f}",
            "measured": "" if measured is None else f"{measured:.{decimals + 1}f}",
            "interval": _bounds(bounds, decimals),
            "difference": "" if difference is None else f"{difference:+.{decimals + 1}f}",
            "verdict": claim["verdict"],
        }
    claimed = {(claim["evaluator"], claim["metric"]) for claim in claims}
    for evaluator in EVALUATORS:
        for metric in HEADLINE_METRICS:
            value = run.value(evaluator, metric)
            if value is not None and (evaluator, metric) not in claimed:
                yield {
                    "key": (evaluator, metric),
                    "published": "",
                    "measured": f"{value:.2f}",
                    "interval": _bounds(intervals.get(evaluator, {}).get(metric), 1),
                    "difference": "",
                    "verdict": None,
                }


def _row(row: Mapping[str, Any], *, has_interval: bool) -> Markup:
    evaluator, metric = row["key"]
    below = [
        tag("small", tag("span", f" {name}: ", class_="unseen"), row[key], class_="narrow")
        for key, name in (("interval", "95 % interval"), ("difference", "difference"))
        if row[key]
    ]
    return tag(
        "tr",
        tag("th", metric_title(metric), " ", tag("small", evaluator), scope="row"),
        tag("td", row["published"], class_="number"),
        tag("td", row["measured"], below, class_="number"),
        tag("td", row["interval"], class_="number wide") if has_interval else None,
        tag("td", row["difference"], class_="number wide"),
        tag("td", _verdict(row["verdict"]) if row["verdict"] else tag("small", "nothing published")),
    )


def _bounds(bounds: Sequence[float] | None, decimals: int) -> str:
    """Returns the 95 % interval of a partial run."""
    return " to ".join(f"{bound:.{decimals}f}" for bound in bounds) if bounds else ""


def _verdict(verdict: str, words: str | None = None) -> Markup:
    sign = tag("span", _VERDICTS.get(verdict, ""), aria_hidden="true")
    return tag("span", sign, " ", words or verdict, class_=f"verdict {verdict.replace(' ', '-')}")
