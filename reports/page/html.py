"""One self-contained page for any number of run records: no script, no request, for screen and paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.files.words import counted
from zoo.reports.page.charts import class_table, confusion_svg, largest_confusions, total_confusion
from zoo.reports.page.explanation import explanation_parts
from zoo.reports.page.history_chart import change_notes, history_svg, theme_css
from zoo.reports.page.markup import Markup, breakable, join, scroll, tag
from zoo.reports.page.overview import TALL_ROWS, overview
from zoo.reports.runs import Run, conditions
from zoo.reports.tables.history import Point, histories, moments
from zoo.reports.tables.history import rows as history_rows
from zoo.repro.records.claim_words import EVALUATORS, HEADLINE_METRICS, metric_title

_TITLE = "Panoptic-DeepLab: published and measured"
# The page may use what is in it, and nothing else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_PICTURE_TITLES = {
    "input": "Input",
    "ground_truth": "Ground truth",
    "prediction": "Prediction",
    "difference": "Difference",
}
_MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


def page(runs: Iterable[Run]) -> str:
    """Returns the page of one or more runs as HTML.

    The overview has a row for each run. Of each entry and settings the newest run is shown whole; where there
    are older ones, its history too. Pictures and what needs the statistics of the images are those of the
    newest run that has them beside its record.

    Raises:
      DataError: a file that a record names cannot be read.
    """
    runs = list(runs)
    found = histories(runs)
    sections = {_anchor(points, found): points for points in found}
    newest = {anchor: points[-1].run for anchor, points in sections.items()}
    pictures = {
        anchor: picture
        for anchor, points in sections.items()
        if (picture := _overview_picture(_pictured(points))) is not None
    }
    style = theme_css() + resources.files("zoo.reports.page").joinpath("page.css").read_text(encoding="utf-8")
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
        _header(runs, newest),
        tag(
            "main",
            overview(runs, newest, pictures),
            [_entry_section(points, anchor) for anchor, points in sections.items()],
            id="results",
        ),
        tag("footer", tag("p", "Written by ", tag("code", "zoo report html"), " from run records alone.")),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(runs: Sequence[Run], newest: Mapping[str, Run]) -> Markup:
    by_time = sorted(runs, key=lambda run: run.started)
    times = moments([by_time[0], by_time[-1]])
    span = " to ".join(dict.fromkeys(times))
    models = len({run.entry for run in runs})
    facts = f"{counted(models, 'model')}, {counted(len(runs), 'run')}, measured {span} (UTC)"
    is_one_each = models == len(newest)
    links = [
        tag(
            "li",
            tag("a", breakable(run.entry), "" if is_one_each else f", {run.settings}", href=f"#{anchor}"),
        )
        for anchor, run in newest.items()
    ]
    return tag(
        "header",
        tag("h1", _TITLE),
        tag("p", facts, class_="facts"),
        tag("nav", tag("ul", links), aria_label="Models") if len(newest) > 1 else None,
    )


def _pictured(points: Sequence[Point]) -> Run:
    """Returns the newest run whose files are there: a record may have been kept without them."""
    return next((point.run for point in reversed(points) if point.run.image_ids()), points[-1].run)


def _entry_section(points: Sequence[Point], anchor: str) -> Markup:
    run, pictured = points[-1].run, _pictured(points)
    parts = [
        tag("h2", breakable(run.entry), tag("small", run.settings, class_="settings"), id=anchor),
        _cards(run),
        tag("p", f"Pictures, gap and confusion are of the run of {pictured.started[:16]}.", class_="note")
        if pictured is not run
        else None,
        _pictures(pictured, anchor),
        _explanation(pictured, anchor),
        _classes(run, anchor),
        _confusion(pictured, anchor),
        _history(points, anchor) if len(points) > 1 else None,
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
        counted(int(run.record["images"]), "image"),
        f"measured {run.started[:16].replace('T', ' ')}" if run.started else None,
        f"on {run.record['dataset']['name']}" if "dataset" in run.record else None,
        f"{computed / seconds:.1f} images/s" if seconds and computed else None,
        run.record.get("device", {}).get("kind"),
    ]
    return join(
        (
            tag("p", " · ".join(str(fact) for fact in facts if fact), class_="facts"),
            tag("dl", cards, class_="cards"),
        )
    )


def _drawn(run: Run) -> list[Mapping[str, Any]]:
    """Returns what the record says of the pictures whose files are there."""
    return [
        p
        for p in run.record.get("pictures", ())
        if all((run.path.parent / name).is_file() for name in p["files"].values())
    ]


def _overview_picture(run: Run) -> Markup | None:
    """Returns the prediction for the median image, for the overview."""
    picture = next((p for p in _drawn(run) if p["rank"] == "median" and "prediction" in p["files"]), None)
    if picture is None:
        return None
    height, width = picture["size"]
    image = tag(
        "img",
        src=_data_uri(run.path.parent / picture["files"]["prediction"]),
        alt=f"Prediction for {picture['image_id']}, overview of {run.title}",
        width=width,
        height=height,
        decoding="async",
    )
    words = f"Prediction for the median image, PQ {picture['pq']:.1f}"
    return tag("figure", image, tag("figcaption", words))


def _pictures(run: Run, anchor: str) -> Markup | None:
    pictures = _drawn(run)
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
            class_="legend differences",
            aria_label="Colours of the differences",
        ),
        tag("ul", legend, class_="legend", aria_label="Colours of the classes"),
        class_="pictures",
    )


def _picture_row(run: Run, picture: Mapping[str, Any]) -> Markup:
    height, width = picture["size"]
    figures = []
    for kind, name in picture["files"].items():
        name_shown = _PICTURE_TITLES.get(kind, kind)
        alt = f"{name_shown} of {picture['image_id']}, the {picture['rank']} image"
        if kind == "difference":
            alt += (
                f": {picture['wrong_class']:.1f} % of the scored pixels have another class, "
                f"{picture['wrong_segment']:.1f} % the right class in a wrong segment"
            )
        image = tag(
            "img",
            src=_data_uri(run.path.parent / name),
            alt=alt,
            width=width,
            height=height,
            decoding="async",
        )
        figures.append(tag("figure", image, tag("figcaption", name_shown), class_=kind))
    facts = (
        f"PQ {picture['pq']:.1f} · {picture['wrong_class']:.1f} % another class, "
        f"{picture['wrong_segment']:.1f} % wrong segment"
    )
    heading = tag("h4", picture["rank"].capitalize(), " ", tag("code", breakable(picture["image_id"])))
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
    table, per_class = class_table(run), run.record.get("per_class", {})
    if table is None:
        return None
    legend = [tag("li", tag("span", class_=f"swatch {e}"), e) for e in EVALUATORS]
    return tag(
        "section",
        tag("h3", "Classes", id=f"{anchor}-classes"),
        tag("ul", legend, class_="legend", aria_label="Colours of the evaluators"),
        tag(
            "p",
            "AP per class is the official one alone; of the internal AP a run keeps the mean.",
            class_="note",
        )
        if per_class.get("official", {}).get("ap") and not per_class.get("internal", {}).get("ap")
        else None,
        scroll(table, f"Values per class of {run.title}", tall=table.count("<tr") > TALL_ROWS),
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
            scroll(confusion_svg(names, confusion), f"Confusion matrix of {run.title}"),
            scroll(largest_confusions(names, confusion), f"Most frequent mistakes of {run.title}"),
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
    name = points[0].run.title
    notes = [tag("li", note) for note in change_notes(points)]
    return tag(
        "section",
        tag("h3", "History", id=f"{anchor}-history"),
        scroll(history_svg(points), f"Metrics of {name} over time"),
        tag("ul", notes, class_="changes", aria_label="Changes marked in the drawing") if notes else None,
        scroll(table, f"All runs of {name}", tall=len(points) > TALL_ROWS),
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
        tag("summary", "Settings, versions and digests", tag("span", f" of {run.title}", class_="unseen")),
        scroll(table, f"Settings, versions and digests of {run.title}"),
        class_="provenance",
    )


def _swatch(colour: str) -> Markup:
    return tag("span", class_="swatch", style=f"background:{colour}")


def _data_uri(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(data).decode()}"


def _anchor(points: Sequence[Point], found: Sequence[Sequence[Point]]) -> str:
    """Returns the id of a section: the entry, and its settings where others are shown too."""
    run = points[0].run
    is_alone = [other[0].run.entry for other in found].count(run.entry) == 1
    words = run.entry if is_alone else f"{run.entry} {run.settings}"
    return "".join(character if character.isalnum() else "-" for character in words)
