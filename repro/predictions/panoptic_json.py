"""Reads a JSON file of the COCO panoptic format into few bytes per image, and says what is wrong in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from zoo.repro.predictions.finding import Finding
from zoo.repro.predictions.naming import ImageNames

NO_AREA = -1
# What the three channels of a PNG can hold.
_LARGEST_ID = (1 << 24) - 1
_IDS = ("id", "category_id")
_AGAIN = "write the JSON again"


class Segments(NamedTuple):
    """What the JSON says of one image's segments, in its order."""

    ids: np.ndarray  # [S] int64
    categories: np.ndarray  # [S] int64
    areas: np.ndarray  # [S] int64, `NO_AREA` where none is given
    scores: np.ndarray  # [S] float64, NaN where none is given


@dataclass(frozen=True)
class Entry:
    """One image in the JSON."""

    image_id: str  # of the data set
    file_name: str
    segments: Segments
    findings: tuple[Finding, ...] = ()


@dataclass
class PanopticEntries:
    """A whole JSON file: entries by image of the data set, and what is wrong with the file."""

    title: str
    entries: dict[str, Entry] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # images that the data set does not have


def parse_json(data: bytes, title: str) -> tuple[Any, list[Finding]]:
    """Returns what a JSON file holds, or None and a finding."""
    try:
        return json.loads(data), []
    except (ValueError, RecursionError) as error:
        found = "an empty file" if not data.strip() else f"something else ({error})"
        return None, [Finding("broken-file", title, "JSON", found, "write it again")]


def annotations_of(content: Any) -> list[Any] | None:
    """Returns the list of annotations of the COCO panoptic format, or None where there is none."""
    found = content.get("annotations") if isinstance(content, dict) else content
    if isinstance(found, list) and any(isinstance(row, dict) and "segments_info" in row for row in found):
        return found
    return None


def read_entries(content: Any, title: str, names: ImageNames) -> PanopticEntries:
    """Returns the entries of a JSON file of the COCO panoptic format, as tolerantly as can be told apart."""
    read = PanopticEntries(title)
    if not isinstance(content, dict):
        what = "a JSON object with the key `annotations`"
        read.findings.append(Finding("key-missing", title, what, "the bare list"))
    for row in annotations_of(content) or ():
        if not isinstance(row, dict):
            what = f"{type(row).__name__} {str(row)[:40]!r}"
            read.findings.append(Finding("json-form", title, "an object for each image", what, "remove it"))
            continue
        image_id, findings = image_of_row(row, title, names)
        if image_id is None:
            read.unknown.append(str(row.get("image_id", row.get("file_name", "?"))))
            continue
        entry = _entry(row, title, image_id, findings)
        before = read.entries.setdefault(image_id, entry)
        if before is not entry:
            same = _is_same(before, entry)
            found = f"image {image_id} twice" + ("" if same else " with different segments")
            remedy = None if same else "remove the wrong one"
            read.findings.append(
                Finding("image-twice", title, "each image once", found, remedy, image_id=image_id)
            )
    return read


def image_of_row(row: dict[str, Any], title: str, names: ImageNames) -> tuple[str | None, list[Finding]]:
    """Returns the image that an annotation is of, None for one that is not in the data set."""
    file_name = row.get("file_name")
    by_file = names.of_file(file_name) if isinstance(file_name, str) else None
    if "image_id" not in row:
        if by_file is None:
            return None, []
        found = f"none for {file_name}"
        return by_file, [Finding("key-missing", title, "the key `image_id`", found, image_id=by_file)]
    given = row["image_id"]
    exact = names.exactly(given)
    if exact is not None:
        return exact, []
    resolved = names.of_text(str(given)) if isinstance(given, (str, int, float)) else None
    if resolved is None:
        return None, []
    expected = f"the image_id {names.official(resolved)!r}"
    return resolved, [Finding("image-id", title, expected, repr(given), image_id=resolved)]


def _entry(row: dict[str, Any], title: str, image_id: str, findings: list[Finding]) -> Entry:
    def add(kind: str, expected: str, found: str, remedy: str | None = None) -> None:
        findings.append(
            Finding(kind, title, expected, f"{found} (image {image_id})", remedy, image_id=image_id)
        )

    file_name = row.get("file_name")
    if not isinstance(file_name, str):
        add("key-missing", "the key `file_name`", "none" if file_name is None else repr(file_name))
        file_name = f"{image_id}.png"
    listed = row.get("segments_info")
    if isinstance(listed, dict):
        add("json-form", "a list `segments_info`", "an object")
        listed = [{"id": key, **value} if isinstance(value, dict) else value for key, value in listed.items()]
    if not isinstance(listed, list):
        remedy = "write the segments of the image"
        add("key-missing", "a list `segments_info`", type(listed).__name__, remedy)
        listed = []
    return Entry(image_id, file_name, _segments(listed, add), tuple(findings))


def _segments(listed: list[Any], add: Callable[..., None]) -> Segments:
    """Returns the segments in a list; what is wrong goes to `add(kind, expected, found, remedy)`."""
    rows: dict[int, tuple[int, int, float]] = {}
    texts = []
    for segment in listed:
        if not isinstance(segment, dict):
            add("json-form", "an object for each segment", repr(segment)[:40], _AGAIN)
            continue
        (number, is_text), (category, is_text_too) = map(_integer, map(segment.get, _IDS))
        for key, value in zip(_IDS, (number, category), strict=True):
            if value is None:
                found = repr(segment[key]) if key in segment else f"a segment without it: {segment}"[:80]
                add("key-missing", f"an integer `{key}` for each segment", found, _AGAIN)
        if number is None or category is None:
            continue
        texts += [repr(segment[key]) for key, flag in zip(_IDS, (is_text, is_text_too), strict=True) if flag]
        if segment.get("iscrowd") not in (None, 0, False):
            add("crowd", "no crowd among predictions", f"iscrowd in segment {number}")
        if number in rows:
            same = rows[number][0] == category
            found = f"segment {number} twice" + ("" if same else " with two categories")
            add("segment-twice", "each segment id once", found, None if same else _AGAIN)
        elif not 0 < number <= _LARGEST_ID:
            expected = f"segment ids from 1 to {_LARGEST_ID:,}, as 0 is void"
            add("segment-id", expected, f"id {number}", "number the segments from 1")
        else:
            area = _integer(segment.get("area"))[0]
            rows[number] = category, NO_AREA if area is None else area, _score(segment.get("score"))
    if texts:
        add("id-text", "ids as integers", texts[0] + (" and more" if len(texts) > 1 else ""))
    categories, areas, scores = zip(*rows.values(), strict=True) if rows else ((), (), ())
    return Segments(
        np.array(list(rows), np.int64),
        np.array(categories, np.int64),
        np.array(areas, np.int64),
        np.array(scores, np.float64),
    )


def _integer(value: Any) -> tuple[int | None, bool]:
    """Returns the integer that a JSON value means, or None; and whether it is written as something else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, False) if abs(value) < 1 << 53 else (None, False)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None, False
    is_whole = not isinstance(value, bool) and number.is_integer() and abs(number) < 1 << 53
    return (int(number), True) if is_whole else (None, False)


def _score(value: Any) -> float:
    """Returns a score: NaN where none is given, infinite where it is not a number."""
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.inf
    return number if math.isfinite(number) else math.inf


def _is_same(one: Entry, other: Entry) -> bool:
    return one.file_name == other.file_name and all(
        np.array_equal(a, b, equal_nan=a.dtype == np.float64)
        for a, b in zip(one.segments, other.segments, strict=True)
    )
