"""Drawings of one run: values per class for both evaluators, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.reports.page.markup import Markup, tag
from zoo.reports.runs import Run, finite_or_none
from zoo.repro.records.claim_words import EVALUATORS

# What the bars show: a title, and what each evaluator calls it in the record.
_BARS = (("PQ", "pq"), ("IoU", "iou"), ("AP", "ap"))

# Shares of a class' pixels below this are not drawn.
_LEAST_SHARE = 0.001
# Of many classes, smaller shares have no text of their own.
_LEAST_HINTED_SHARE = 0.01
_CELL_PX, _SMALL_CELL_PX, _MANY_CLASSES = 22, 13, 40
_LEAST_LABEL_PX = 118


def class_table(run: Run) -> Markup | None:
    """Returns a table with a bar for each class, metric and evaluator; None where the record has none.

    Classes that occur in neither ground truth nor prediction are left out.
    """
    per_class: Mapping[str, Any] = run.record.get("per_class", {})
    values = {
        (evaluator, key): {
            name: finite_or_none(value) for name, value in per_class.get(evaluator, {}).get(key, {}).items()
        }
        for evaluator in EVALUATORS
        for _, key in _BARS
    }
    official, internal = values["official", "pq"], values["internal", "pq"]
    for name, value in official.items():
        # The official file says 0 for a class that does not occur, and leaves it out of every mean.
        if value == 0 and name in internal and internal[name] is None:
            official[name] = None
    shown = [
        (title, [(evaluator, values[evaluator, key]) for evaluator in EVALUATORS if values[evaluator, key]])
        for title, key in _BARS
    ]
    shown = [(title, columns) for title, columns in shown if columns]
    names = [
        name
        for name in run.class_names
        if any(column.get(name) is not None for _, columns in shown for _, column in columns)
    ]
    if not names:
        return None
    head = tag(
        "thead",
        tag(
            "tr",
            tag("th", "Class", scope="col"),
            [tag("th", title, " %", scope="col", class_="bars") for title, _ in shown],
        ),
    )
    groups = [("Things", [n for n in names if n in run.thing_names])]
    groups.append(("Stuff", [n for n in names if n not in run.thing_names]))
    bodies = [
        tag(
            "tbody",
            tag("tr", tag("th", title, scope="rowgroup", colspan=1 + len(shown)), class_="group"),
            [
                tag(
                    "tr",
                    tag("th", name, scope="row"),
                    [tag("td", [_bar(e, name, column) for e, column in columns]) for _, columns in shown],
                )
                for name in members
            ],
        )
        for title, members in groups
        if members
    ]
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
        confusion = arrays.get("miou/confusion")
        if confusion is not None:
            total = confusion.copy() if total is None else total + confusion
    return total


def confusion_svg(names: Sequence[str], confusion: np.ndarray) -> Markup:
    """Returns the confusion matrix of the classes that occur, each row as shares of its pixels.

    A class that is in no ground truth is shown where it is given a share of another class that is drawn.

    Args:
      names: the classes, by train id.
      confusion: [C, C], pixels by ground truth (row) and prediction (column).
    """
    shares = _shares(confusion)
    occurs = np.flatnonzero((confusion.sum(axis=1) > 0) | (shares >= _LEAST_SHARE).any(axis=0))
    shares = shares[np.ix_(occurs, occurs)]
    shown = [names[i] for i in occurs]
    cell = _CELL_PX if len(shown) <= _MANY_CLASSES else _SMALL_CELL_PX
    letter_px = 6.6 if cell == _CELL_PX else 5.0
    label_px = max(_LEAST_LABEL_PX, round(letter_px * max(map(len, shown), default=0)) + 10)
    size = label_px + cell * len(shown)
    parts = [
        tag("rect", x=label_px, y=label_px, width=size - label_px, height=size - label_px, class_="field")
    ]
    parts += [
        tag("text", "Prediction →", x=label_px - 10, y=14, text_anchor="end", class_="chart-title"),
        tag(
            "text",
            "Ground truth ↓",
            x=label_px - 10,
            y=label_px - 10,
            text_anchor="end",
            class_="chart-title",
        ),
    ]
    for i, name in enumerate(shown):
        middle = label_px + cell * i + cell / 2
        parts.append(tag("text", name, x=label_px - 6, y=middle + 4, text_anchor="end"))
        parts.append(tag("text", name, transform=f"translate({middle + 4:g} {label_px - 6}) rotate(-90)"))
    hinted = _LEAST_SHARE if len(shown) <= _MANY_CLASSES else _LEAST_HINTED_SHARE
    faint: dict[float, list[str]] = {}
    for row, column in np.argwhere(shares >= _LEAST_SHARE).tolist():
        share = float(shares[row, column])
        # The root spreads the small shares, which are what one looks for.
        opacity = round(0.12 + 0.88 * share**0.5, 2)
        x, y = label_px + cell * column, label_px + cell * row
        if row != column and share < hinted:
            faint.setdefault(opacity, []).append(f"M{x} {y}h{cell - 1}v{cell - 1}h{1 - cell}z")
            continue
        hint = f"{shown[row]} taken for {shown[column]}: {100 * share:.1f} %"
        parts.append(
            tag(
                "rect",
                tag("title", hint if row != column else f"{shown[row]}: {100 * share:.1f} % right"),
                x=x,
                y=y,
                width=cell - 1,
                height=cell - 1,
                class_="hit" if row == column else "miss",
                fill_opacity=opacity,
            )
        )
    # All cells of one strength in one path: thousands of elements would make the page large and slow.
    parts += [tag("path", d="".join(cells), class_="miss", fill_opacity=o) for o, cells in faint.items()]
    return tag(
        "svg",
        parts,
        viewBox=f"0 0 {size + 1} {size + 1}",
        width=size + 1,
        height=size + 1,
        role="img",
        aria_label=f"Confusion matrix of {len(shown)} classes: ground truth in rows, prediction in columns",
        class_="chart confusion" + (" many" if len(shown) > _MANY_CLASSES else ""),
    )


def largest_confusions(names: Sequence[str], confusion: np.ndarray) -> Markup:
    """Returns a table of the most frequent mistakes, as shares of the ground truth's pixels."""
    shares = _shares(confusion)
    count = 8 if np.count_nonzero(confusion.sum(axis=1)) <= _MANY_CLASSES else 20
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:count]
    body = []
    for row, column in zip(*np.unravel_index(order, shares.shape), strict=True):
        share = float(shares[row, column])
        if share > 0:
            body.append(
                tag(
                    "tr",
                    tag("th", names[row], scope="row"),
                    tag("td", names[column]),
                    tag("td", f"{100 * share:.1f} %", class_="number"),
                )
            )
    head = tag("tr", [tag("th", title, scope="col") for title in ("Ground truth", "Taken for", "Share")])
    caption = tag("caption", "The most frequent mistakes, as shares of the ground truth")
    return tag("table", caption, tag("thead", head), tag("tbody", body), class_="mistakes")


def _shares(confusion: np.ndarray) -> np.ndarray:
    totals = confusion.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    return shares
