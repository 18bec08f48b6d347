"""Draws one run: values per class for both evaluators, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo.reports.page.elements import drawing, table
from zoo.reports.page.markup import Markup, tag
from zoo.reports.runs import Run
from zoo.repro.records.claim_words import BOUNDARY_METRICS, EVALUATORS, metric_title

# The metrics that the bars show.
_BARS = ("pq", "iou", "ap", *BOUNDARY_METRICS)

# Shares of a class' pixels below this are not drawn.
_LEAST_SHARE = 0.001
# Of many classes, smaller shares have no text of their own.
_LEAST_HINTED_SHARE = 0.01
_CELL_PX, _SMALL_CELL_PX, _MANY_CLASSES = 22, 13, 40
_LEAST_LABEL_PX = 118


def class_bars(run: Run) -> Markup | None:
    """Returns a table with a bar for each class, metric and evaluator; None where the record has none.

    Classes that occur in neither ground truth nor prediction are left out.
    """
    values = {(evaluator, key): run.per_class(evaluator, key) for evaluator in EVALUATORS for key in _BARS}
    official, internal = values["official", "pq"], values["internal", "pq"]
    for name, value in official.items():
        # The official file says 0 for a class that does not occur, and leaves it out of every mean.
        if value == 0 and name in internal and internal[name] is None:
            official[name] = None
    shown = [key for key in _BARS if any(values[evaluator, key] for evaluator in EVALUATORS)]
    occurring = {name for column in values.values() for name, value in column.items() if value is not None}
    names, things = [name for name in run.class_names if name in occurring], run.thing_names
    if not names:
        return None
    titles = [tag("th", metric_title(key), " %", scope="col", class_="bars") for key in shown]
    head = tag("thead", tag("tr", tag("th", "Class", scope="col"), titles))
    bodies = []
    for title, is_thing in (("Things", True), ("Stuff", False)):
        first = tag("th", title, scope="rowgroup", colspan=1 + len(shown))
        rows = []
        for name in names:
            if (name in things) == is_thing:
                cells = [tag("td", [_bar(e, name, values[e, key]) for e in EVALUATORS]) for key in shown]
                rows.append(tag("tr", tag("th", name, scope="row"), cells))
        bodies += [tag("tbody", tag("tr", first, class_="group"), rows)] if rows else []
    return tag("table", tag("caption", "Values per class, in percent"), head, bodies, class_="classes")


def _bar(evaluator: str, name: str, column: Mapping[str, float | None]) -> Markup | None:
    if name not in column:
        # Not a class that this metric is for: stuff has no AP.
        return None
    hidden = tag("span", f"{evaluator}: ", class_="unseen")
    value = column[name]
    if value is None:
        return tag("span", hidden, "does not occur", class_="bar")
    fill = tag("span", class_=f"fill {evaluator}", style=f"--share:{value / 100:.4f}")
    return tag("span", hidden, fill, f"{value:.1f}", class_="bar")


def total_confusion(run: Run) -> np.ndarray | None:
    """Returns the pixels of all images by ground truth (row) and prediction (column), [C, C] int64.

    None where the statistics of the images are not beside the record.
    """
    total: np.ndarray | None = None
    for _, arrays in run.images():
        if "miou/confusion" in arrays:
            total = arrays["miou/confusion"] + (0 if total is None else total)
    return total


def confusion_svg(names: Sequence[str], confusion: np.ndarray) -> Markup:
    """Returns the confusion matrix [C, C] of the classes that occur, each row as shares of its pixels.

    A class that is in no ground truth is shown where it is given a share of another class that is drawn.
    """
    shares = _shares(confusion)
    occurs = np.flatnonzero((confusion.sum(axis=1) > 0) | (shares >= _LEAST_SHARE).any(axis=0))
    shares = shares[np.ix_(occurs, occurs)]
    shown = [names[i] for i in occurs]
    cell = _CELL_PX if len(shown) <= _MANY_CLASSES else _SMALL_CELL_PX
    letter_px = 6.6 if cell == _CELL_PX else 5.0
    label_px = max(_LEAST_LABEL_PX, round(letter_px * max(map(len, shown), default=0)) + 10)
    drawn_px = cell * len(shown)
    parts = [tag("rect", x=label_px, y=label_px, width=drawn_px, height=drawn_px, class_="field")]
    for title, y in (("Prediction →", 14), ("Ground truth ↓", label_px - 10)):
        parts.append(tag("text", title, x=label_px - 10, y=y, text_anchor="end", class_="chart-title"))
    for i, name in enumerate(shown):
        middle = label_px + cell * i + cell / 2
        parts.append(tag("text", name, x=label_px - 6, y=middle + 4, text_anchor="end"))
        parts.append(tag("text", name, transform=f"translate({middle + 4:g} {label_px - 6}) rotate(-90)"))
    parts += _cells(shown, shares, label_px, cell)
    size = label_px + drawn_px + 1
    label = f"Confusion matrix of {len(shown)} classes: ground truth in rows, prediction in columns"
    return drawing(parts, size, size, label, "confusion" + (" many" if len(shown) > _MANY_CLASSES else ""))


def _cells(names: Sequence[str], shares: np.ndarray, first: int, cell: int) -> list[Markup]:
    """Returns the cells of the matrix, the first of which is at `first` pixels in both directions."""
    hinted = _LEAST_SHARE if len(names) <= _MANY_CLASSES else _LEAST_HINTED_SHARE
    parts: list[Markup] = []
    faint: dict[float, list[str]] = {}
    for row, column in np.argwhere(shares >= _LEAST_SHARE).tolist():
        share = float(shares[row, column])
        # The root spreads the small shares, which are what one looks for.
        opacity = round(0.12 + 0.88 * share**0.5, 2)
        x, y, side = first + cell * column, first + cell * row, cell - 1
        if row != column and share < hinted:
            faint.setdefault(opacity, []).append(f"M{x} {y}h{side}v{side}h{-side}z")
            continue
        percent = f"{100 * share:.1f} %"
        mistake = f"{names[row]} taken for {names[column]}: {percent}"
        hint = tag("title", mistake if row != column else f"{names[row]}: {percent} right")
        kind = "hit" if row == column else "miss"
        parts.append(tag("rect", hint, x=x, y=y, width=side, height=side, class_=kind, fill_opacity=opacity))
    # All cells of one strength in one path: thousands of elements would make the page large and slow.
    return parts + [tag("path", d="".join(it), class_="miss", fill_opacity=o) for o, it in faint.items()]


def largest_confusions(names: Sequence[str], confusion: np.ndarray) -> Markup:
    """Returns a table of the most frequent mistakes, as shares of the ground truth's pixels."""
    shares = _shares(confusion)
    count = 8 if np.count_nonzero(confusion.sum(axis=1)) <= _MANY_CLASSES else 20
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:count]
    rows = [
        (names[row], names[column], f"{100 * shares[row, column]:.1f} %")
        for row, column in zip(*np.unravel_index(order, shares.shape), strict=True)
        if shares[row, column] > 0
    ]
    caption = "The most frequent mistakes, as shares of the ground truth"
    columns = [("Ground truth", None), ("Taken for", None), ("Share", "number")]
    return table(caption, columns, rows, "mistakes")


def _shares(confusion: np.ndarray) -> np.ndarray:
    totals = confusion.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    return shares
