"""One self-contained page for any number of run records: no script, no request, for screen and paper."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.files.words import counted
from zoo.reports.page.charts import class_bars, confusion_svg, largest_confusions, total_confusion
from zoo.reports.page.elements import (
    TALL_ROWS,
    breakable,
    data_uri,
    details,
    items,
    note,
    part,
    scroll,
    scrolled_table,
)
from zoo.reports.page.explanation import explanation_part
from zoo.reports.page.history_chart import change_notes, history_svg, theme_css
from zoo.reports.page.markup import Markup, join, tag
from zoo.reports.page.overview import overview
from zoo.reports.runs import Run, conditions, find_runs
from zoo.reports.tables.efficiency import device_of
from zoo.reports.tables.history import Point, histories, moments
from zoo.reports.tables.history import rows as history_rows
from zoo.repro.records.claim_words import EVALUATORS, SHOWN_METRICS, metric_title

_TITLE = "Panoptic-DeepLab: published and measured"
_TITLE_OF_OTHERS = "Panoptic segmentation: published and measured"
# The page may use what is in it, and nothing else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# What a difference picture shows, by colour.
_DIFFERENCES = {
    "another class": "#d55e00",
    "right class, wrong segment": "#0072b2",
    "not scored": "#969696",
}


def html_page(*paths: str | os.PathLike[str]) -> str:
    """Returns one self-contained page of the run records in files and folders, as HTML.

    Raises:
      DataError: a path holds no run record, or a file that a record names cannot be read.
    """
    return page(find_runs(map(Path, paths)))


def page(runs: Iterable[Run]) -> str:
    """Returns the page of one or more runs as HTML.

    The overview has a row for each run. Of each entry and settings the newest run is shown whole; where there
    are older ones, its history too. Pictures and what needs the statistics of the images are those of the
    newest run that has them beside its record.

    Raises:
      DataError: a file that a record names cannot be read.
    """
    runs = list(runs)
    title = _TITLE_OF_OTHERS if any(run.is_of_predictions for run in runs) else _TITLE
    found = histories(runs)
    sections = {_anchor(points, found): points for points in found}
    newest = {anchor: points[-1].run for anchor, points in sections.items()}
    pictures = {anchor: _overview_picture(_pictured(points)) for anchor, points in sections.items()}
    style = theme_css() + resources.files("zoo.reports.page").joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        _header(title, runs, newest),
        tag(
            "main",
            overview(runs, newest, pictures),
            [_entry_section(points, anchor) for anchor, points in sections.items()],
            id="results",
        ),
        tag("footer", tag("p", "Written by ", tag("code", "zoo report html"), " from run records alone.")),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(title: str, runs: Sequence[Run], newest: Mapping[str, Run]) -> Markup:
    by_time = sorted(runs, key=lambda run: run.started)
    span = " to ".join(dict.fromkeys(moments([by_time[0], by_time[-1]])))
    models = len({run.entry for run in runs})
    facts = f"{counted(models, 'model')}, {counted(len(runs), 'run')}, measured {span} (UTC)"
    links = []
    for anchor, run in newest.items():
        settings = None if models == len(newest) else f", {run.settings}"
        links.append(tag("li", tag("a", breakable(run.entry), settings, href=f"#{anchor}")))
    return tag(
        "header",
        tag("h1", title),
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
        note(f"Pictures, gap and confusion are of the run of {pictured.started[:16]}.")
        if pictured is not run
        else None,
        _pictures(pictured, anchor),
        explanation_part(pictured, anchor),
        _classes(run, anchor),
        _confusion(pictured, anchor),
        _history(points, anchor) if len(points) > 1 else None,
        _provenance(run),
    ]
    return tag("section", parts, class_="entry", aria_labelledby=anchor)


def _cards(run: Run) -> Markup:
    cards = []
    for metric in SHOWN_METRICS:
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
        f"on {name}" if (name := run.record.get("dataset", {}).get("name")) else None,
        f"{computed / seconds:.1f} images/s" if seconds and computed else None,
        device_of(run.record),
    ]
    words = " · ".join(str(fact) for fact in facts if fact)
    return join((tag("p", words, class_="facts"), tag("dl", cards, class_="cards"), _not_measured(run)))


def _not_measured(run: Run) -> list[Markup]:
    """Returns why the data set has no official numbers of some metrics."""
    by_reason: dict[str, list[str]] = {}
    scripts: Mapping[str, Any] = run.record.get("official_scripts") or {}
    for metric, reason in scripts.get("not_measured", {}).items():
        by_reason.setdefault(reason, []).append(metric_title(metric))
    return [note(f"No official {', '.join(metrics)}: {reason}.") for reason, metrics in by_reason.items()]


def _drawn(run: Run) -> list[Mapping[str, Any]]:
    """Returns what the record says of the pictures whose files are there."""
    pictures, folder = run.record.get("pictures", ()), run.path.parent
    return [p for p in pictures if all((folder / name).is_file() for name in p["files"].values())]


def _overview_picture(run: Run) -> Markup | None:
    """Returns the prediction for the median image, for the overview."""
    for picture in _drawn(run):
        if picture["rank"] == "median" and "prediction" in picture["files"]:
            alt = f"Prediction for {picture['image_id']}, overview of {run.title}"
            words = f"Prediction for the median image{_in_print(picture, 'pq', ', PQ {:.1f}')}"
            return tag("figure", _image(run, picture, "prediction", alt), tag("figcaption", words))
    return None


def _in_print(picture: Mapping[str, Any], key: str, form: str) -> str:
    """Returns a number of a picture in a form; nothing where it was not measured."""
    value = picture[key]
    return "" if value is None else form.format(value)


def _image(run: Run, picture: Mapping[str, Any], kind: str, alt: str) -> Markup:
    """Returns one of the pictures that were drawn of an image, its data included."""
    path = run.path.parent / picture["files"][kind]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    height, width = picture["size"]
    uri = data_uri("image/png" if path.suffix == ".png" else "image/jpeg", data)
    return tag("img", src=uri, alt=alt, width=width, height=height, decoding="async")


def _pictures(run: Run, anchor: str) -> Markup | None:
    pictures = _drawn(run)
    if not pictures:
        return None
    colours = {name: colour for picture in pictures for name, colour in picture["classes"].items()}
    has_quality = any(picture["pq"] is not None for picture in pictures)
    order = "By the internal PQ of each image alone. " if has_quality else None
    by_train_id = {name: colours[name] for name in (*run.class_names, *colours) if name in colours}
    return part(
        "Best, median and worst image",
        f"{anchor}-pictures",
        note(order, "Instances of one class differ in shade."),
        [_picture_row(run, picture) for picture in pictures],
        _legend(_DIFFERENCES, "Colours of the differences", "legend differences"),
        _legend(by_train_id, "Colours of the classes", "legend"),
        class_="pictures",
    )


def _legend(colours: Mapping[str, str], label: str, class_: str) -> Markup:
    swatches = [(tag("span", class_="swatch", style=f"background:{colours[it]}"), it) for it in colours]
    return items(swatches, label, class_)


def _picture_row(run: Run, picture: Mapping[str, Any]) -> Markup:
    wrong = [
        _in_print(picture, "wrong_class", "{:.1f} % of the scored pixels have another class"),
        _in_print(picture, "wrong_segment", "{:.1f} % the right class in a wrong segment"),
    ]
    figures = []
    for kind in picture["files"]:
        title = kind.replace("_", " ").capitalize()
        alt = f"{title} of {picture['image_id']}, the {picture['rank']} image"
        if kind == "difference" and any(wrong):
            alt += f": {', '.join(filter(None, wrong))}"
        image = _image(run, picture, kind, alt)
        figures.append(tag("figure", image, tag("figcaption", title), class_=kind))
    facts = [
        _in_print(picture, "wrong_class", "{:.1f} % another class"),
        _in_print(picture, "wrong_segment", "{:.1f} % wrong segment"),
    ]
    words = [_in_print(picture, "pq", "PQ {:.1f}"), ", ".join(filter(None, facts))]
    return tag(
        "div",
        tag("h4", picture["rank"].capitalize(), " ", tag("code", breakable(picture["image_id"]))),
        tag("p", " · ".join(filter(None, words)), class_="facts"),
        tag("div", figures, class_="row"),
        class_="picture",
    )


def _classes(run: Run, anchor: str) -> Markup | None:
    found = class_bars(run)
    if found is None:
        return None
    legend = [(tag("span", class_=f"swatch {evaluator}"), evaluator) for evaluator in EVALUATORS]
    has_official_ap_alone = run.per_class("official", "ap") and not run.per_class("internal", "ap")
    return part(
        "Classes",
        f"{anchor}-classes",
        items(legend, "Colours of the evaluators", "legend"),
        note("AP per class is the official one alone; of the internal AP a run keeps the mean.")
        if has_official_ap_alone
        else None,
        scroll(found, f"Values per class of {run.title}", tall=found.count("<tr") > TALL_ROWS),
        class_="by-class",
    )


def _confusion(run: Run, anchor: str) -> Markup | None:
    confusion = total_confusion(run)
    names = run.class_names
    if confusion is None or len(names) != len(confusion):
        return None
    return part(
        "Confusion of classes",
        f"{anchor}-confusion",
        note(
            "Pixels of the semantic map: ground truth in rows, prediction in columns, each row as shares of "
            "the class. Shares below 0.1 % are left blank."
        ),
        tag(
            "div",
            scroll(confusion_svg(names, confusion), f"Confusion matrix of {run.title}"),
            scroll(largest_confusions(names, confusion), f"Most frequent mistakes of {run.title}"),
            class_="beside",
        ),
    )


def _history(points: Sequence[Point], anchor: str) -> Markup:
    header, rows = history_rows(points)
    # The last two columns are text.
    columns = [(name, "number" if 0 < i < len(header) - 2 else None) for i, name in enumerate(header)]
    caption = "All runs, the newest first; values in percent"
    name, notes = points[0].run.title, change_notes(points)
    return part(
        "History",
        f"{anchor}-history",
        scroll(history_svg(points), f"Metrics of {name} over time"),
        items(notes, "Changes marked in the drawing", "changes") if notes else None,
        scrolled_table(f"All runs of {name}", caption, columns, rows[::-1], "history-table"),
    )


def _provenance(run: Run) -> Markup:
    measured_with = {"started": run.started, **conditions(run.record)}
    rows = [tag("tr", tag("th", it, scope="row"), tag("td", value)) for it, value in measured_with.items()]
    found = tag("table", tag("caption", "What was measured with what"), tag("tbody", rows))
    title, about = "Settings, versions and digests", f" of {run.title}"
    return details(title, about, scroll(found, title + about), "provenance")


def _anchor(points: Sequence[Point], found: Sequence[Sequence[Point]]) -> str:
    """Returns the id of a section: the entry, and its settings where others are shown too."""
    run = points[0].run
    is_alone = [other[0].run.entry for other in found].count(run.entry) == 1
    words = run.entry if is_alone else f"{run.entry} {run.settings}"
    return "".join(character if character.isalnum() else "-" for character in words)
