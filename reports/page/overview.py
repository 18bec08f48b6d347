"""The page's first part: every run with its settings, and every number with its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zoo.reports.page.elements import breakable, items, note, scrolled_table
from zoo.reports.page.markup import Markup, tag
from zoo.reports.runs import Run
from zoo.reports.tables.claim_table import INTERVAL, measured_rows, numbers_in_print
from zoo.reports.tables.efficiency import DEVICE, efficiency_columns
from zoo.reports.tables.history import moments
from zoo.repro.records.claim_words import (
    HEADLINE_METRICS,
    MATCH,
    MISMATCH,
    NOT_JUDGED,
    NOT_MEASURABLE,
    WITHIN,
    metric_title,
)

_SIGNS = {MATCH: "✓", WITHIN: "≈", MISMATCH: "✕", NOT_JUDGED: "○", NOT_MEASURABLE: "○"}
_WIDE = "number wide"


def overview(runs: Sequence[Run], newest: Mapping[str, Run], pictures: Mapping[str, Markup | None]) -> Markup:
    """Returns a row for each run, and the claims of the newest run of each entry and settings.

    `newest` has the run that each section of the page shows, by its anchor, and `pictures` what is shown
    beside its claims.
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
        _efficiency_table(newest),
        [_summary(anchor, run, pictures.get(anchor)) for anchor, run in newest.items()],
        [note(reason[0].upper(), reason[1:], ".") for reason in dict.fromkeys(reasons)],
        note(
            "Match: the measured value prints as the published one. Within: it lies no further off than the "
            "entry tolerates or, of a part of the images, the published value lies in the 95 % interval. "
            "Official: the scripts of the data set. Internal: the metrics of the reference, in which crowd "
            "regions are void."
        ),
        aria_labelledby="claims",
    )


def _tally(runs: Iterable[Run], classes: str, label: str) -> Markup:
    """Returns how many claims there are of each verdict, the most frequent first."""
    verdicts = [claim["verdict"] for run in runs for claim in run.record["claims"]]
    if not verdicts:
        return note("Nothing was published for comparison.")
    order = sorted(dict.fromkeys(verdicts), key=verdicts.count, reverse=True)
    return items((_chip(it, f"{verdicts.count(it)} {it}") for it in order), label, classes)


def _runs_table(runs: Sequence[Run], newest: Mapping[str, Run]) -> Markup:
    """Returns a table with one row for each run, in the order of the sections, the newest first."""
    section = {run.title: anchor for anchor, run in newest.items()}
    order = list(section)
    newest_first = sorted(runs, key=lambda run: run.started, reverse=True)
    shown = sorted(newest_first, key=lambda run: order.index(run.title))
    official = tag("small", "official")
    columns = [
        ("Run", None),
        ("Started (UTC)", "wide"),
        *(((metric_title(metric), " ", official), _WIDE) for metric in HEADLINE_METRICS),
        ("Verdicts", None),
    ]
    rows = []
    for run, started in zip(shown, moments(shown), strict=True):
        values = (run.value("official", metric) for metric in HEADLINE_METRICS)
        name = (
            tag("a", breakable(run.entry), href=f"#{section[run.title]}"),
            tag("small", run.settings, class_="settings"),
            tag("small", started, class_="narrow"),
        )
        numbers = ["" if value is None else f"{value:.2f}" for value in values]
        rows.append([name, started, *numbers, _tally([run], "tally", f"Verdicts of {run.title}, {started}")])
    caption = "All runs and their settings; values in percent"
    return scrolled_table("Table of all runs", caption, columns, rows, "runs")


def _efficiency_table(newest: Mapping[str, Run]) -> Markup | None:
    """Returns a table of what each section's run needed; None where no record says."""
    needed = efficiency_columns(newest.values())
    if not needed:
        return None
    names = [
        (tag("a", breakable(run.entry), href=f"#{anchor}"), tag("small", run.settings, class_="settings"))
        for anchor, run in newest.items()
    ]
    columns = [("Run", None), *((title, None if title == DEVICE else "number") for title in needed)]
    caption = "What the runs needed: the network alone, and the memory of the whole process"
    rows = list(zip(names, *needed.values(), strict=True))
    return scrolled_table("Table of what the runs needed", caption, columns, rows, "runs needed")


def _summary(anchor: str, run: Run, picture: Markup | None) -> Markup:
    rows = []
    for row in measured_rows(run.record):
        # Where nothing was published, a digit after the point is enough for the interval, two for the number.
        decimals = 1 if row["published"] is None else int(row["decimals"])
        rows.append({**row, **numbers_in_print(row, decimals)})
    # What was measured though nothing was published comes last.
    rows.sort(key=lambda row: row["verdict"] is None)
    has_interval = any(row["interval"] for row in rows)
    columns = [
        ("Metric", None),
        ("Published", "number"),
        ("Measured", "number"),
        *([(INTERVAL, _WIDE)] if has_interval else []),
        ("Difference", _WIDE),
        ("Verdict", None),
    ]
    cells = []
    for row in rows:
        below = [
            tag("small", tag("span", f" {name}: ", class_="unseen"), row[key], class_="narrow")
            for key, name in (("interval", INTERVAL), ("difference", "difference"))
            if row[key]
        ]
        cells.append(
            [
                (metric_title(row["metric"]), " ", tag("small", row["evaluator"])),
                row["published"],
                (row["measured"], below),
                *([row["interval"]] if has_interval else []),
                row["difference"],
                _chip(row["verdict"]) if row["verdict"] else tag("small", "nothing published"),
            ]
        )
    name = tag("a", breakable(run.entry), href=f"#{anchor}")
    caption = name, tag("small", run.settings, class_="settings")
    found = scrolled_table(f"Table of all claims: {run.title}", caption, columns, cells, "claims")
    return tag("div", found, picture, class_="summary")


def _chip(verdict: str, words: str | None = None) -> Markup:
    sign = tag("span", _SIGNS.get(verdict, ""), aria_hidden="true")
    return tag("span", sign, " ", words or verdict, class_=f"verdict {verdict.replace(' ', '-')}")
