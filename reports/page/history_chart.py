"""Draws a history: one band for each metric over a common time axis, changes marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from textwrap import wrap

from zoo.files.words import counted
from zoo.reports.page.axis import round_ticks
from zoo.reports.page.elements import drawing, svg_file
from zoo.reports.page.markup import Markup, join, tag
from zoo.reports.tables.history import Point, describe_changes, moments, published_value, shown_metrics
from zoo.repro.records.claim_words import EVALUATORS, MISMATCH, SHOWN_METRICS, metric_title

_WIDTH, _BAND = 720, 132
_LEFT, _RIGHT, _TOP, _GAP = 92, 24, 34, 26
_LINE_HEIGHT, _NOTE_LETTERS, _LETTER_PX = 18, 95, 7
# A band spans at least so many percentage points: on a finer scale, noise would look like a change.
_LEAST_SPAN = 0.2

_Placed = list[tuple[float, Point]]


def history_svg(points: Sequence[Point]) -> Markup:
    """Returns the metrics of one history over time as SVG, whose classes the page styles.

    Runs without a date are left out.
    """
    parts, label, height = _drawing(points, [])
    return drawing(parts, _WIDTH, height, label, "history")


def history_picture(histories: Sequence[Sequence[Point]]) -> Markup:
    """Returns a whole SVG file of histories, one below another, each with the list of its changes."""
    top, groups, labels = 0, [], []
    for points in histories:
        notes: list[str] = []
        for note in change_notes(points):
            notes += wrap(note, _NOTE_LETTERS, subsequent_indent="\N{NO-BREAK SPACE}" * 4)
        parts, label, height = _drawing(points, notes)
        title = points[0].run.title
        name = tag("text", title, x=_WIDTH - _RIGHT, y=16, class_="chart-note", text_anchor="end")
        groups.append(tag("g", name, parts, transform=f"translate(0 {top})"))
        labels.append(label)
        top += height + _GAP
    head = [tag("title", "; ".join(labels)), tag("style", Markup(theme_css()))]
    background = tag("rect", width=_WIDTH, height=top, class_="chart-background")
    return svg_file([*head, background, *groups], _WIDTH, top, class_="chart history")


def _drawing(points: Sequence[Point], notes: Sequence[str]) -> tuple[Markup, str, int]:
    """Returns the drawing of one history, what it shows in words, and its height."""
    placed = _placed(points)
    dated = [point for _, point in placed]
    measured = {metric for _, metric in shown_metrics(dated)}
    metrics = [metric for metric in SHOWN_METRICS if metric in measured]
    bottom = _TOP + len(metrics) * (_BAND + _GAP)
    height = bottom + 26 + (_LINE_HEIGHT * (len(notes) + 1) if notes else 0)
    parts = (
        _marks([x for x, point in placed if point.marked_changes], bottom - _GAP),
        *(_band(metric, placed, _TOP + i * (_BAND + _GAP) + 4) for i, metric in enumerate(metrics)),
        _dates(placed, bottom),
        _legend(),
        *(
            tag("text", note, x=_LEFT, y=bottom + 26 + _LINE_HEIGHT * i, class_="chart-note")
            for i, note in enumerate(notes, start=1)
        ),
    )
    entry = points[0].run.entry if points else ""
    span = f"{dated[0].run.day} to {dated[-1].run.day}" if dated else "no dated run"
    label = f"{entry}: {', '.join(map(metric_title, metrics))} of {counted(len(dated), 'run')}, {span}"
    return join(parts), label, height


def change_notes(points: Sequence[Point]) -> list[str]:
    """Returns one line for each mark of the drawing, numbered as there."""
    marked = [point for point in points if point.run.when is not None and point.marked_changes]
    return [
        f"{number}  {point.time}: {describe_changes(point.marked_changes)}"
        for number, point in enumerate(marked, start=1)
    ]


def theme_css() -> str:
    """Returns the colours, light and dark, and the style of the drawings."""
    return resources.files("zoo.reports.page").joinpath("theme.css").read_text(encoding="utf-8")


def _placed(points: Iterable[Point]) -> _Placed:
    """Returns the points that have a date, each after its place on the time axis."""
    dated = [(when.timestamp(), point) for point in points if (when := point.run.when) is not None]
    first, last = (dated[0][0], dated[-1][0]) if dated else (0.0, 0.0)
    width = _WIDTH - _LEFT - _RIGHT - 24
    shares = ((time - first) / (last - first) if last > first else 0.5 for time, _ in dated)
    return [(_LEFT + 12 + width * share, point) for share, (_, point) in zip(shares, dated, strict=True)]


def _band(metric: str, placed: _Placed, top: float) -> Markup:
    points = [point for _, point in placed]
    published = {evaluator: published_value(points, evaluator, metric) for evaluator in EVALUATORS}
    measured = (point.run.value(evaluator, metric) for evaluator in EVALUATORS for point in points)
    values = [value for value in (*measured, *published.values()) if value is not None]
    middle, span = (min(values) + max(values)) / 2, max(max(values) - min(values), _LEAST_SPAN) * 1.15
    ticks = round_ticks(middle - span / 2, middle + span / 2, most=4)
    low, high = min(ticks), max(ticks)

    def y(value: float) -> float:
        return top + _BAND - (value - low) / (high - low) * _BAND

    grid = [
        (
            tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(tick), y2=y(tick), class_="chart-grid"),
            tag("text", words, x=_LEFT - 6, y=y(tick) + 4, text_anchor="end"),
        )
        for tick, words in ticks.items()
    ]
    title = tag("text", metric_title(metric), x=10, y=top + 4, class_="chart-title")
    lines = [_line(evaluator, metric, placed, y, published[evaluator]) for evaluator in EVALUATORS]
    return tag("g", grid, title, lines)


def _line(
    evaluator: str, metric: str, placed: _Placed, y: Callable[[float], float], published: float | None
) -> Markup:
    parts = []
    if published is not None:
        class_, height = f"chart-published {evaluator}", y(published)
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=height, y2=height, class_=class_))
    found = [
        (x, y(value), value, point)
        for x, point in placed
        if (value := point.run.value(evaluator, metric)) is not None
    ]
    path = " ".join(f"{'ML'[i > 0]}{x:.1f} {height:.1f}" for i, (x, height, _, _) in enumerate(found))
    if len(found) > 1:
        parts.append(tag("path", d=path, class_=f"chart-line {evaluator}"))
    for x, height, value, point in found:
        verdict = point.verdict_of(evaluator, metric)
        hint = tag("title", f"{point.time}, {evaluator} {metric_title(metric)}: {value:.3f}, {verdict or ''}")
        classes = f"chart-point {evaluator}" + (" missed" if verdict == MISMATCH else "")
        if evaluator == "official":
            parts.append(tag("circle", hint, cx=x, cy=height, r=3.5, class_=classes))
        else:
            parts.append(tag("rect", hint, x=x - 3, y=height - 3, width=6, height=6, class_=classes))
        if verdict == MISMATCH:
            parts.append(tag("circle", cx=x, cy=height, r=7.5, class_="chart-missed"))
    return tag("g", parts)


def _marks(positions: Sequence[float], bottom: float) -> Markup:
    marks = []
    for number, x in enumerate(positions, start=1):
        marks.append(tag("line", x1=x, x2=x, y1=_TOP - 4, y2=bottom, class_="chart-change"))
        options = {"class_": "chart-change-number", "text_anchor": "middle"}
        marks.append(tag("text", number, x=x, y=_TOP - 7, **options))
    return tag("g", marks)


def _dates(placed: _Placed, bottom: float) -> Markup:
    """Returns dates, with times where dates are equal, under the axis, as many as have room."""
    parts, free_from = [], -math.inf
    for words, (x, _) in zip(moments(point.run for _, point in placed), placed, strict=True):
        width = _LETTER_PX * len(words)
        # The whole label stays within the drawing.
        middle = min(max(x, width / 2), _WIDTH - width / 2)
        if middle - width / 2 >= free_from:
            parts.append(tag("text", words, x=middle, y=bottom + 4, text_anchor="middle"))
            free_from = middle + width / 2 + _LETTER_PX
    return tag("g", parts)


def _legend() -> Markup:
    return tag(
        "g",
        tag("circle", cx=_LEFT + 4, cy=11, r=3.5, class_="chart-point official"),
        tag("text", "official", x=_LEFT + 13, y=15),
        tag("rect", x=_LEFT + 71, y=8, width=6, height=6, class_="chart-point internal"),
        tag("text", "internal", x=_LEFT + 83, y=15),
        tag("line", x1=_LEFT + 142, x2=_LEFT + 166, y1=11, y2=11, class_="chart-published"),
        tag("text", "published", x=_LEFT + 172, y=15),
        tag("circle", cx=_LEFT + 248, cy=11, r=6, class_="chart-missed"),
        tag("text", "claim missed", x=_LEFT + 260, y=15),
    )
