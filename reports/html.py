"""One self-contained page for any number of run records: no script, no request, for screen and paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.reports.charts import class_table, confusion_svg, largest_confusions, total_confusion
from zoo.reports.explanation import explanation_parts
from zoo.reports.history import Point, history
from zoo.reports.history import rows as history_rows
from zoo.reports.history_chart import change_notes, history_svg, theme_css
from zoo.reports.markup import Markup, join, scroll, tag
from zoo.reports.runs import EVALUATORS, HEADLINE_METRICS, Run, by_entry, conditions, count, metric_title

_TITLE = "Panoptic-DeepLab: published and measured"
# The page may use what is in it, and nothing else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_VERDICTS = {"match": "✓", "within": "≈", "mismatch": "✕", "not judged": "○"}
_PICTURE_TITLES = {
    "input": "Input",
    "ground_truth": "Ground truth",
    "prediction": "Prediction",
    "difference": "Difference",
}
# Longer tables scroll by themselves on a screen.
_TALL_ROWS = 30
_MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


def page(runs: Iterable[Run]) -> str:
    """Returns the page of one or more runs as HTML.

    Of each entry the newest run is shown; where there are older ones, its history too. Pictures and what
    needs the statistics of the images are those of the newest run that has them beside its record.

    Raises:
      DataError: a file that a record names cannot be read.
    """
    groups = by_entry(runs)
    newest = [group[-1] for group in groups.values()]
    style = theme_css() + resources.files("zoo.reports").joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", _TITLE),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        _header(newest),
        tag(
            "main",
            _claims_section(newest),
            [_entry_section(group) for group in groups.values()],
            id="results",
        ),
        tag("footer", tag("p", "Written by ", tag("code", "zoo report html"), " from run records alone.")),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(newest: Sequence[Run]) -> Markup:
    days = sorted({run.day for run in newest})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    images = sum(int(run.record["images"]) for run in newest)
    facts = f"{count(len(newest), 'model')}, {count(images, 'image')}, measured {span}"
    links = [tag("li", tag("a", _breakable(run.entry), href=f"#{_anchor(run)}")) for run in newest]
    return tag(
        "header",
        tag("h1", _TITLE),
        tag("p", facts, class_="facts"),
        tag("nav", tag("ul", links), aria_label="Models") if len(newest) > 1 else None,
    )


def _claims_section(newest: Sequence[Run]) -> Markup:
    head = tag(
        "tr",
        tag("th", "Metric", scope="col"),
        [tag("th", name, scope="col", class_="number") for name in ("Published", "Measured")],
        tag("th", "Difference", scope="col", class_="number wide"),
        tag("th", "Verdict", scope="col"),
    )
    bodies = []
    for run in newest:
        heading = tag(
            "th", tag("a", _breakable(run.entry), href=f"#{_anchor(run)}"), scope="rowgroup", colspan=5
        )
        bodies.append(tag("tbody", tag("tr", heading, class_="group"), map(_claim_row, run.record["claims"])))
    caption = tag("caption", "Every published number and its verdict, in percent")
    reasons = [
        f"{claim['verdict']}: {claim['reason']}"
        for run in newest
        for claim in run.record["claims"]
        if claim.get("reason")
    ]
    return tag(
        "section",
        tag("h2", "Published and measured", id="claims"),
        _tally(newest),
        scroll(tag("table", caption, tag("thead", head), bodies, class_="claims"), "Table of all claims"),
        [tag("p", reason[0].upper(), reason[1:], ".", class_="note") for reason in dict.fromkeys(reasons)],
        tag(
            "p",
            "Match: the measured value prints as the published one. Within: it lies no further off than the "
            "entry tolerates or, of a part of the images, the published value lies in the 95 % interval that "
            "is given below the measured one. Official: the scripts of the data set. Internal: the metrics "
            "of the reference, in which crowd regions are void.",
            class_="note",
        ),
        aria_labelledby="claims",
    )


def _tally(newest: Sequence[Run]) -> Markup:
    """Returns how many claims there are of each verdict."""
    verdicts = [claim["verdict"] for run in newest for claim in run.record["claims"]]
    chips = [
        tag("li", _verdict(verdict, f"{verdicts.count(verdict)} {verdict}"))
        for verdict in sorted(dict.fromkeys(verdicts), key=verdicts.count, reverse=True)
    ]
    return tag("ul", chips, class_="legend tally", aria_label="Number of claims by verdict")


def _claim_row(claim: Mapping[str, Any]) -> Markup:
    decimals = int(claim["decimals"])
    measured, difference = claim["measured"], claim["difference"]
    shown = (
        "" if measured is None else f"{measured:.{decimals + 1}f}",
        "" if difference is None else f"{difference:+.{decimals + 1}f}",
    )
    return tag(
        "tr",
        tag("th", metric_title(claim["metric"]), " ", tag("small", claim["evaluator"]), scope="row"),
        tag("td", f"{claim['published']:.{decimals}f}", class_="number"),
        tag("td", shown[0], _interval(claim), tag("small", shown[1], class_="narrow"), class_="number"),
        tag("td", shown[1], class_="number wide"),
        tag("td", _verdict(claim["verdict"])),
    )


def _interval(claim: Mapping[str, Any]) -> Markup | None:
    """Returns the 95 % interval of a partial run."""
    if "interval" not in claim:
        return None
    low, high = (f"{bound:.{int(claim['decimals'])}f}" for bound in claim["interval"])
    return tag(
        "small", tag("span", " 95 % interval: ", class_="unseen"), f"{low} to {high}", class_="interval"
    )


def _verdict(verdict: str, words: str | None = None) -> Markup:
    sign = tag("span", _VERDICTS.get(verdict, ""), aria_hidden="true")
    return tag("span", sign, " ", words or verdict, class_=f"verdict {verdict.replace(' ', '-')}")


def _entry_section(runs: Sequence[Run]) -> Markup:
    run = runs[-1]
    # A record may have been kept without the files of its run.
    pictured = next((other for other in reversed(runs) if other.image_ids()), run)
    anchor = _anchor(run)
    parts = [
        tag("h2", _breakable(run.entry), id=anchor),
        _cards(run),
        tag("p", f"Pictures, gap and confusion are of the run of {pictured.started[:16]}.", class_="note")
        if pictured is not run
        else None,
        _pictures(pictured, anchor),
        _explanation(pictured, anchor),
        _classes(run, anchor),
        _confusion(pictured, anchor),
        _history(history(runs), anchor) if len(runs) > 1 else None,
        _provenance(run),
    ]
    return tag("section", parts, class_="entry", aria_labelledby=anchor)


def _cards(run: Run) -> Markup:
    cards = []
    for metric in HEADLINE_METRICS:
        values = {e: value for e in EVALUATORS if (value := run.value(e, metric)) is not None}
        if values:
            shown = [
                tag("dd", tag("span", f"{value:.2f}", class_="figure"), " ", evaluator, class_=evaluator)
                for evaluator, value in values.items()
            ]
            cards.append(tag("div", tag("dt", metric_title(metric)), shown))
    timings = run.record.get("timings", {})
    seconds, computed = timings.get("images_s"), timings.get("images_computed")
    facts = [
        count(int(run.record["images"]), "image"),
        f"on {run.record['dataset']['name']}" if "dataset" in run.record else None,
        f"{computed / seconds:.1f} images/s" if seconds and computed else None,
        run.record.get("settings", {}).get("precision"),
        run.record.get("device", {}).get("kind"),
    ]
    return join(
        (
            tag("p", " · ".join(str(fact) for fact in facts if fact), class_="facts"),
            tag("dl", cards, class_="cards"),
        )
    )


def _pictures(run: Run, anchor: str) -> Markup | None:
    pictures = [p for p in run.record.get("pictures", ()) if all(map(_is_there(run), p["files"].values()))]
    if not pictures:
        return None
    classes = {name: colour for picture in pictures for name, colour in picture["classes"].items()}
    order = {name: i for i, name in enumerate(run.class_names)}
    legend = [
        tag("li", _swatch(colour), name)
        for name, colour in sorted(classes.items(), key=lambda item: order.get(item[0], len(order)))
    ]
    differences = (
        ("#d55e00", "another class"),
        ("#0072b2", "right class, wrong segment"),
        ("#969696", "not scored"),
    )
    return tag(
        "section",
        tag("h3", "Best, median and worst image", id=f"{anchor}-pictures"),
        tag(
            "p",
            "By the internal PQ of each image alone. Instances of one class differ in shade.",
            class_="note",
        ),
        [_picture_row(run, picture) for picture in pictures],
        tag(
            "ul",
            [tag("li", _swatch(c), name) for c, name in differences],
            class_="legend",
            aria_label="Colours of the differences",
        ),
        tag("ul", legend, class_="legend", aria_label="Colours of the classes"),
        class_="pictures",
    )


def _picture_row(run: Run, picture: Mapping[str, Any]) -> Markup:
    height, width = picture["size"]
    figures = []
    for kind, name in picture["files"].items():
        title = _PICTURE_TITLES.get(kind, kind)
        alt = f"{title} of {picture['image_id']}, the {picture['rank']} image"
        if kind == "difference":
            alt += (
                f": {picture['wrong_class']:.1f} % of the scored pixels have another class, "
                f"{picture['wrong_segment']:.1f} % the right class in a wrong segment"
            )
        image = tag(
            "img", src=_data_uri(run.file(name)), alt=alt, width=width, height=height, decoding="async"
        )
        figures.append(tag("figure", image, tag("figcaption", title)))
    facts = (
        f"PQ {picture['pq']:.1f} · {picture['wrong_class']:.1f} % another class, "
        f"{picture['wrong_segment']:.1f} % wrong segment"
    )
    heading = tag("h4", picture["rank"].capitalize(), " ", tag("code", _breakable(picture["image_id"])))
    return tag(
        "div", heading, tag("p", facts, class_="facts"), tag("div", figures, class_="row"), class_="picture"
    )


def _explanation(run: Run, anchor: str) -> Markup | None:
    parts = explanation_parts(run)
    if parts is None:
        return None
    return tag(
        "section",
        tag("h3", "From the internal to the official number", id=f"{anchor}-explanation"),
        tag("p", "One rule after another is changed to that of the official scripts.", class_="note"),
        parts,
    )


def _classes(run: Run, anchor: str) -> Markup | None:
    table = class_table(run)
    if table is None:
        return None
    legend = [tag("li", tag("span", class_=f"swatch {e}"), e) for e in EVALUATORS]
    return tag(
        "section",
        tag("h3", "Classes", id=f"{anchor}-classes"),
        tag("ul", legend, class_="legend", aria_label="Colours of the evaluators"),
        scroll(table, f"Values per class of {run.entry}", tall=table.count("<tr") > _TALL_ROWS),
        class_="by-class",
    )


def _confusion(run: Run, anchor: str) -> Markup | None:
    confusion = total_confusion(run)
    names = run.class_names
    if confusion is None or len(names) != len(confusion):
        return None
    return tag(
        "section",
        tag("h3", "Confusion of classes", id=f"{anchor}-confusion"),
        tag(
            "p",
            "Pixels of the semantic map: ground truth in rows, prediction in columns, each row as shares of "
            "the class. Shares below 0.1 % are left blank.",
            class_="note",
        ),
        tag(
            "div",
            scroll(confusion_svg(names, confusion), f"Confusion matrix of {run.entry}"),
            scroll(largest_confusions(names, confusion), f"Most frequent mistakes of {run.entry}"),
            class_="beside",
        ),
    )


def _history(points: Sequence[Point], anchor: str) -> Markup:
    header, body = history_rows(points)
    # The last two columns are text.
    numeric = range(1, len(header) - 2)
    head = [
        tag("th", name, scope="col", class_="number" if i in numeric else None)
        for i, name in enumerate(header)
    ]
    rows = [
        tag(
            "tr",
            tag("th", cells[0], scope="row"),
            [
                tag("td", cell, class_="number" if i in numeric else None)
                for i, cell in enumerate(cells[1:], 1)
            ],
        )
        for cells in reversed(body)
    ]
    caption = tag("caption", "All runs, the newest first; values in percent")
    table = tag("table", caption, tag("thead", tag("tr", head)), tag("tbody", rows), class_="history-table")
    entry = points[0].run.entry
    notes = [tag("li", note) for note in change_notes(points)]
    return tag(
        "section",
        tag("h3", "History", id=f"{anchor}-history"),
        scroll(history_svg(points), f"Metrics of {entry} over time"),
        tag("ul", notes, class_="changes", aria_label="Changes marked in the drawing") if notes else None,
        scroll(table, f"All runs of {entry}", tall=len(points) > _TALL_ROWS),
    )


def _provenance(run: Run) -> Markup:
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", value))
        for name, value in conditions(run.record).items()
    ]
    started = tag("tr", tag("th", "started", scope="row"), tag("td", run.started))
    table = tag("table", tag("caption", "What was measured with what"), tag("tbody", started, rows))
    return tag(
        "details",
        tag("summary", "Settings, versions and digests", tag("span", f" of {run.entry}", class_="unseen")),
        scroll(table, f"Settings, versions and digests of {run.entry}"),
        class_="provenance",
    )


def _swatch(colour: str) -> Markup:
    return tag("span", class_="swatch", style=f"background:{colour}")


def _breakable(name: str) -> Markup:
    """Returns a name that may go over two lines after each `_` and `/`."""
    return join((character, tag("wbr")) if character in "_/" else character for character in name)


def _is_there(run: Run) -> Any:
    return lambda name: run.file(name).is_file()


def _data_uri(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(data).decode()}"


def _anchor(run: Run) -> str:
    return "".join(character if character.isalnum() else "-" for character in run.entry)
