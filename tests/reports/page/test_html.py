from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from zoo.reports.page.charts import confusion_svg, largest_confusions, total_confusion
from zoo.reports.page.history_chart import history_picture
from zoo.reports.page.html import page
from zoo.reports.page.markup import Markup, join, tag
from zoo.reports.runs import find_runs, open_run
from zoo.reports.tables.history import history

MakeRun = Callable[..., Path]
VOID_ELEMENTS = {"br", "img", "link", "meta", "wbr"}


class Page(HTMLParser):
    """A page's elements, checked to be nested as they should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID_ELEMENTS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> Iterator[dict[str, str]]:
        return (attributes for element, attributes in self.elements if element == name)


def test_what_is_not_markup_is_escaped() -> None:
    assert tag("p", "<b>", Markup("<i>"), class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;<i></p>'
    assert tag("img", alt="", hidden=True, width=None) == '<img alt="" hidden>'
    assert join(["a & b", None, (1, 2.50, [tag("wbr")])]) == "a &amp; b12.5<wbr>"


def test_the_page_shows_every_claim_with_its_verdict(make_run: MakeRun) -> None:
    def missed(record: dict[str, Any]) -> None:
        record["claims"][1]["verdict"] = "mismatch"
        record["claims"][2] |= {"verdict": "not judged", "reason": "2 of 4 images"}
        record["claims"][3] |= {"verdict": "within", "reason": "inside it", "interval": [12.34, 56.78]}

    run = make_run(change=missed)
    found = Page(page(find_runs([run])))
    for claim in json.loads((run / "record.json").read_text(encoding="utf-8"))["claims"]:
        assert f"{claim['measured']:.2f}" in found.text
        assert f"{claim['difference']:+.2f}" in found.text
    verdicts = [a["class"] for a in found.all("span") if a.get("class", "").startswith("verdict")]
    tally = next(a for a in found.all("ul") if a.get("class") == "legend tally")
    assert tally["aria-label"] == "Number of claims by verdict"
    # First how many there are of each, the most frequent first, then those of the table.
    assert verdicts[0] == "verdict match"
    assert sorted(verdicts[:4]) == sorted(set(verdicts))
    assert "3 match" in found.text
    assert verdicts[4:] == [
        "verdict match",
        "verdict mismatch",
        "verdict not-judged",
        "verdict within",
        "verdict match",
        "verdict match",
    ]
    assert "Not judged: 2 of 4 images." in found.text
    assert "Within: inside it." in found.text
    assert "95 % interval: 12.3 to 56.8" in found.text


def test_the_overview_has_a_row_for_each_run_with_its_settings(make_run: MakeRun) -> None:
    def coarse(record: dict[str, Any]) -> None:
        record["settings"]["precision"] = "bfloat16"
        record["images_in_dataset"] = 30
        record["intervals"] = {"official": {"pq": [71.25, 79.0]}}

    def same_day(hour: int) -> str:
        return f"2026-11-20T{hour:02d}:00:00+00:00"

    runs = [
        make_run("a", started=same_day(1)),
        make_run("b", started=same_day(2), change=coarse),
        make_run("c", started=same_day(3)),
    ]
    text = page(find_runs(runs))
    table = text[text.index("All runs and their settings") :]
    rows = table[: table.index("</table>")].split("<tr>")[2:]
    assert ["bfloat16 · 4 of 30 images" in row for row in rows] == [False, False, True]
    assert ["float32 · all images" in row for row in rows] == [True, True, False]
    assert ["2026-11-20 03:00" in rows[0], "2026-11-20 01:00" in rows[1]] == [True, True]
    assert all("6 match" in row for row in rows)
    # A section for each settings; only runs of equal ones are joined.
    assert text.count('<section class="entry"') == 2
    history = text[text.index("All runs, the newest first") :]
    assert history[: history.index("</table>")].count("<tr>") == 1 + 2
    assert "71.2 to 79.0" in Page(text).text


def test_what_the_newest_runs_needed_is_in_a_table(make_run: MakeRun) -> None:
    def measured(record: dict[str, Any]) -> None:
        record["efficiency"] = {"parameters": 5_130_000, "seconds_per_image": 0.0655}
        record["device"] |= {"replicas": 1, "names": ["NVIDIA H200"]}

    unknown = make_run("unknown", entry="minicity/other")
    assert "What the runs needed" not in page(find_runs([unknown]))
    text = page(find_runs([unknown, make_run("known", change=measured)]))
    table = text[text.index("What the runs needed") :]
    head, known, other = table[: table.index("</table>")].split("<tr>")[1:]
    titles = ("Parameters", "Network time per image", "Device")
    assert head.count("<th") == 1 + len(titles)
    assert all(title in head for title in titles)
    for cell in ("5.1 M", "65.5 ms", "NVIDIA H200"):
        assert f">{cell}</td>" in known + other
    assert '<td class="number"></td>' in known + other, "what is not known is blank"


def test_numbers_without_a_published_one_are_shown(make_run: MakeRun) -> None:
    def unpublished(record: dict[str, Any]) -> None:
        record["claims"] = []
        record["per_class"]["internal"].pop("ap", None)

    run = make_run(change=unpublished)
    found = Page(page(find_runs([run])))
    pq = json.loads((run / "record.json").read_text(encoding="utf-8"))["metrics"]["internal"]["pq"]
    assert f"{pq:.2f}" in found.text
    assert found.text.count("nothing published") == 6
    assert "Nothing was published for comparison." in found.text
    assert "of the internal AP a run keeps the mean" in found.text


def test_the_page_asks_for_nothing_from_outside(make_run: MakeRun) -> None:
    found = Page(page(find_runs([make_run()])))
    sources = [
        value
        for _, attributes in found.elements
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "poster", "action")
    ]
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not list(found.all("script"))
    policy = next(a for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'; img-src data:;")


def test_pictures_are_those_of_the_run_folder(make_run: MakeRun) -> None:
    run = make_run()
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    in_overview, *images = Page(page(find_runs([run]))).all("img")
    median = record["pictures"][1]
    assert in_overview["alt"].startswith(f"Prediction for {median['image_id']}")
    drawn = base64.b64decode(in_overview["src"].removeprefix("data:image/png;base64,"))
    assert drawn == (run / median["files"]["prediction"]).read_bytes()
    files = [run / name for picture in record["pictures"] for name in picture["files"].values()]
    assert len(images) == len(files) == 12
    for image, file in zip(images, files, strict=True):
        head, _, data = image["src"].partition(";base64,")
        assert head == ("data:image/jpeg" if file.suffix == ".jpg" else "data:image/png")
        assert base64.b64decode(data) == file.read_bytes()
        assert image["alt"]
    alts = [image["alt"] for image in images]
    assert alts[0] == f"Input of {record['pictures'][0]['image_id']}, the best image"
    assert "% of the scored pixels have another class" in alts[3]


def test_a_record_alone_makes_a_page_without_pictures(make_run: MakeRun, tmp_path: Path) -> None:
    alone = tmp_path / "alone.json"
    shutil.copyfile(make_run() / "record.json", alone)
    found = Page(page(find_runs([alone])))
    assert not list(found.all("img"))
    assert "Confusion of classes" not in found.text
    assert "Values per class" in found.text


def test_pictures_are_those_of_the_newest_run_that_has_them(make_run: MakeRun, tmp_path: Path) -> None:
    whole = make_run("whole")
    newer = make_run("newer", started="2026-11-24T02:00:00+00:00")
    alone = tmp_path / "alone.json"
    shutil.copyfile(newer / "record.json", alone)
    text = Page(page(find_runs([whole, alone]))).text
    assert "measured 2026-11-24" in text
    assert "Pictures, gap and confusion are of the run of 2026-11-20T02:11." in text
    assert "Confusion of classes" in text
    assert "are of the run of" not in Page(page(find_runs([whole, newer]))).text


def test_a_record_of_a_run_before_pictures_makes_a_page(make_run: MakeRun) -> None:
    def old(record: dict[str, Any]) -> None:
        for key in ("pictures", "settings", "device", "post_processing", "checkpoint", "entry_digest"):
            del record[key]

    assert "Published and measured" in Page(page(find_runs([make_run(change=old)]))).text


def test_names_that_look_like_markup_stay_text(make_run: MakeRun) -> None:
    def hostile(record: dict[str, Any]) -> None:
        record["entry"] = 'x"><script>alert(1)</script>'
        record["versions"]["numpy"] = "<img src=x>"
        record["pictures"][0]["image_id"] = "</h4><b>"
        for evaluator in record["per_class"].values():
            for metric, values in evaluator.items():
                evaluator[metric] = {f'</text><u id="{name}">': value for name, value in values.items()}

    runs = [make_run(change=hostile), make_run("later", started="2026-11-22T02:00:00+00:00", change=hostile)]
    text = page(find_runs(runs))
    for markup in ("<script", "<img src=x>", "<u id"):
        assert markup not in text
    Page(text)
    picture = history_picture([history(find_runs(runs))])
    assert 'x"><script>' in "".join(ET.fromstring(picture).itertext())
    assert "&lt;/text&gt;&lt;u id=" in confusion_svg(['</text><u id="a">'], np.ones((1, 1), np.int64))


def test_ids_are_unique_and_labels_lead_to_them(make_run: MakeRun) -> None:
    runs = [
        make_run("a"),
        make_run("b", started="2026-11-22T02:00:00+00:00"),
        make_run("c", entry="minicity/another"),
    ]
    found = Page(page(find_runs(runs)))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["aria-labelledby"] for _, a in found.elements if "aria-labelledby" in a]
    targets += [a["href"][1:] for a in found.all("a")]
    assert set(targets) <= set(ids)
    # Only the first entry has a past.
    assert found.text.count("All runs, the newest first") == 1
    assert len([a for a in found.all("section") if a.get("class") == "entry"]) == 2


def test_tables_are_ready_for_screen_readers(make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", started="2026-11-22T02:00:00+00:00")]
    found = Page(page(find_runs(runs)))
    assert len(list(found.all("table"))) == len(list(found.all("caption"))) == 6
    assert all(a.get("scope") in ("row", "col", "rowgroup") for a in found.all("th"))
    regions = [a for a in found.all("div") if a.get("class", "").startswith("scroll")]
    assert len(regions) == 8
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in regions)
    assert all(a["role"] == "img" and a["aria-label"] for a in found.all("svg"))


def test_the_classes_that_do_not_occur_are_left_out(make_run: MakeRun) -> None:
    def as_the_official_file_says(record: dict[str, Any]) -> None:
        official = record["per_class"]["official"]
        official["pq"] = {name: value or 0.0 for name, value in official["pq"].items()}
        official["ap"] = dict.fromkeys(official["ap"]) | {"car": 12.5, "train": None}

    found = page(find_runs([make_run(change=as_the_official_file_says)]))
    rows = found[found.index("Values per class, in percent") :]
    rows = rows[: rows.index("</table>")]
    shown = [name for name in ("road", "sky", "person", "car", "train", "fence") if f">{name}</th>" in rows]
    assert shown == ["road", "sky", "person", "car"]
    assert rows.count("<tr>") == 1 + 4
    assert rows.count("12.5</span>") == 1
    assert rows.count("does not occur") == 1


def test_the_gap_between_the_evaluators_is_explained(minicity_run: Path) -> None:
    found = Page(page(find_runs([minicity_run])))
    assert "From the internal to the official number" in found.text
    picture = next(a for a in found.all("img") if a.get("class") == "waterfall")
    drawn = base64.b64decode(picture["src"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert ET.fromstring(drawn).tag.endswith("svg")
    metrics = json.loads((minicity_run / "record.json").read_text(encoding="utf-8"))["metrics"]
    for metric in ("pq", "miou"):
        numbers = [f"{metrics[evaluator][metric]:.3f} {evaluator}" for evaluator in ("internal", "official")]
        assert ", ".join(numbers) in picture["alt"]
    assert "crowd pixels count" in found.text


def test_why_there_is_no_explanation_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert "Not explained: " in (text := Page(page(find_runs([run]))).text)
    assert "expected counted segments with crowd regions in every image's statistics" in text
    next((run / "images").iterdir()).unlink()
    assert "expected the statistics of 4 images, found 3" in Page(page(find_runs([run]))).text
    # Of a record alone, kept without its run, nobody expects one.
    shutil.copyfile(run / "record.json", tmp_path / "alone.json")
    assert "Not explained" not in Page(page(find_runs([tmp_path / "alone.json"]))).text


def test_confusions_of_all_images(make_run: MakeRun) -> None:
    confusion = total_confusion(open_run(make_run()))
    assert confusion is not None
    assert confusion.sum() == 4 * (40 * 96 - 4 * 20)
    assert confusion[13, 10] > 0


def test_the_confusion_matrix_shows_shares_of_classes_that_occur() -> None:
    names = ["a", "never", "b", "c", "hardly"]
    confusion = np.zeros((5, 5), np.int64)
    confusion[2, 4] = 1
    confusion[0, 0], confusion[0, 2], confusion[2, 2], confusion[2, 3] = 900, 100, 9900, 98
    svg = confusion_svg(names, confusion)
    assert "never" not in svg
    assert "Confusion matrix of 3 classes" in svg
    assert "a taken for b: 10.0 %" in svg
    assert "a: 90.0 % right" in svg
    assert "b: 99.0 % right" in svg
    assert "b taken for c: 1.0 %" in svg
    # A share of 0.01 % is left blank.
    assert "hardly" not in svg
    rows = largest_confusions(names, confusion)
    shares = [row.partition(" %")[0] for row in rows.split('<td class="number">')[1:]]
    assert shares == ["10.0", "1.0", "0.0"]


def test_many_classes_stay_small_and_legible() -> None:
    names = [f"class {i}" for i in range(133)]
    confusion = np.random.default_rng(0).integers(0, 20, (133, 133))
    confusion[np.diag_indices(133)] = 4000
    svg = confusion_svg(names, confusion)
    assert len(svg) < 400_000
    assert all(f">{name}</text>" in svg for name in names)


def test_the_command_writes_the_page(zoo_call: Callable[..., Any], make_run: MakeRun, tmp_path: Path) -> None:
    out = tmp_path / "pages" / "report.html"
    done = zoo_call("report", "html", make_run(), "--out", out)
    assert done.returncode == 0
    assert done.stdout == ""
    assert f"page: {out}" in done.stderr
    assert Page(out.read_text(encoding="utf-8")).text.count("minicity/drawn") >= 2


def test_errors_are_one_line(
    zoo_call: Callable[..., Any], make_run: MakeRun, tmp_path: Path, one_line: Any
) -> None:
    assert "no run record in it" in one_line(zoo_call("report", "html", tmp_path), 3)
    run = make_run()
    blocked = tmp_path / "a_file"
    blocked.write_text("", encoding="utf-8")
    failed = zoo_call("report", "html", run, "--out", blocked / "report.html")
    assert "cannot write " in one_line(failed, 3)


def test_pages_load_no_tensorflow() -> None:
    program = (
        "import sys; import zoo.reports.page.html, zoo.reports.tables.compare; "
        "import zoo.reports.page.history_chart; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd="/").returncode == 0
