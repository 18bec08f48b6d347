"""The page in a real browser: what it asks for, what it complains about, and whether everybody can read it.

Skipped where there is no Chromium, or the packages of the extra `browser` are not installed.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
pytest.importorskip("axe_playwright_python", reason="needs the extra `browser`")

from zoo.reports.page.html import page as write_page  # noqa: E402
from zoo.reports.runs import find_runs  # noqa: E402

MakeRun = Callable[..., Path]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
MOST_BYTES = 6 * 2**20

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        # The sandbox does not start as root, as tests in containers run.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def report(make_run: MakeRun, minicity_run: Path, tmp_path: Path) -> Path:
    """A page with all its sections: drawn entries with pictures and a past, and statistics of a real run."""

    def partial(record: dict[str, Any]) -> None:
        record["settings"] |= {"limit": 4, "precision": "bfloat16"}
        record["images_in_dataset"] = 30
        bounds = {"pq": [72.16, 79.27], "miou": [79.95, 91.99], "ap": [42.34, 60.08]}
        record["intervals"] = {"official": bounds, "internal": bounds}
        for claim in record["claims"]:
            claim["verdict"] = "not judged"

    def missed(record: dict[str, Any]) -> None:
        record["versions"]["numpy"] = "2.4.0"
        verdicts = ("mismatch", "within", "not judged")
        for claim, verdict in zip(record["claims"], verdicts, strict=False):
            claim["verdict"] = verdict

    runs = [
        make_run("first"),
        make_run("second", started="2026-11-22T02:00:00+00:00", change=missed),
        make_run("other", entry="minicoco/drawn"),
        make_run("partial", change=partial),
        minicity_run,
    ]

    file = tmp_path / "report.html"
    file.write_text(write_page(find_runs(runs)), encoding="utf-8")
    return file


class Opened:
    """A page in the browser, with all that it asked for and said."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, **options: Any) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, bypass_csp=options.pop("bypass_csp", False), **options
        )
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []

        def answer(route: Any) -> None:
            self.requests.append(route.request.url)
            route.continue_()

        self.context.route("**/*", answer)
        self.page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.messages.append(f"error: {error}"))
        self.page.goto(file.as_uri(), wait_until="load")

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: Any) -> None:
        self.context.close()


def test_no_request_leaves_the_page_and_nothing_is_complained_about(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        opened.page.wait_for_timeout(200)
        assert opened.page.title() == "Panoptic-DeepLab: published and measured"
        assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]
        assert opened.messages == []


def test_every_picture_is_shown(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        sizes = opened.page.evaluate(
            "Promise.all([...document.images].map(i => i.decode().then(() => [i.naturalWidth, i.width])))"
        )
        assert sorted(natural for natural, _ in sizes) == [96] * (3 * 13) + [760]
        assert all(shown > 0 for _, shown in sizes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_accessible(browser: Any, report: Path, scheme: str, width: int) -> None:
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    # The page's own policy forbids scripts, the checker's too.
    with Opened(browser, report, width, color_scheme=scheme, bypass_csp=True) as opened:
        # What is folded away is to be read too.
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        opened.page.evaluate(axe)
        found = opened.page.evaluate("axe.run()")
        assert len(found["passes"]) > 20
        assert "color-contrast" in {rule["id"] for rule in found["passes"]}
        violations = [
            f"{rule['impact']} {rule['id']}: {node['html'][:120]} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
        assert violations == []


def test_the_scheme_is_the_readers(browser: Any, report: Path) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        with Opened(browser, report, color_scheme=scheme) as opened:
            colour = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
            brightness[scheme] = sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
    assert brightness["dark"] < 120 < 650 < brightness["light"]


WIDTHS = [320, 360, 390, 480, 520, 700, 768, 800, 1000, 1280, 1440]


def test_the_page_never_scrolls_sideways(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        for width in WIDTHS:
            opened.page.set_viewport_size({"width": width, "height": 800})
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
            # Verdicts are what a reader on a phone came for: none is cut by its region.
            cut = opened.page.evaluate(
                """[...document.querySelectorAll('.verdict')].map(v => [
                    v.getBoundingClientRect().right,
                    v.closest('.scroll')?.getBoundingClientRect().right ?? innerWidth, v.innerText
                ]).filter(([right, edge]) => right > edge + 0.5)"""
            )
            assert cut == [] or width < 360, width


def test_nothing_is_cut_but_in_regions_that_scroll(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        for width in WIDTHS:
            opened.page.set_viewport_size({"width": width, "height": 800})
            cut = opened.page.evaluate(
                """[...document.body.querySelectorAll('*')].filter(e => {
                    if (e.closest('.unseen, .skip, svg')) return false;
                    const region = e.closest('.scroll'), box = e.getBoundingClientRect();
                    const clips = getComputedStyle(e).overflowX !== 'visible' || e.matches('.cards > div');
                    const overflows = e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0;
                    if (e === region)
                        return overflows && !(e.tabIndex === 0 && e.getAttribute('aria-label'));
                    return (clips && overflows) || (!region && box.right > innerWidth + 0.5);
                }).map(e => e.outerHTML.slice(0, 120))"""
            )
            assert cut == [], width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_scrolls_shows_that_there_is_more(browser: Any, report: Path, scheme: str) -> None:
    with Opened(browser, report, 390, color_scheme=scheme) as opened:
        regions = [
            region
            for region in opened.page.query_selector_all(".scroll")
            if region.evaluate("e => e.scrollWidth > e.clientWidth + 1 && !e.closest('details:not([open])')")
        ]
        # The drawings are wider than a phone; overview and classes are not.
        labels = {str(region.get_attribute("aria-label")).partition(" of ")[0] for region in regions}
        assert {"Confusion matrix", "From the internal to the official number"} <= labels
        assert not labels & {"Table", "Values per class", "Table of all runs"}
        for region in regions:
            shadowed = _edge(region)
            region.evaluate("e => e.scrollLeft = e.scrollWidth")
            assert abs(shadowed - _edge(region)) > 25, region.get_attribute("aria-label")


def _edge(region: Any) -> float:
    """Returns how bright the right edge of a region is at its bottom, where nothing is drawn."""
    with Image.open(io.BytesIO(region.screenshot())) as picture:
        return float(np.asarray(picture.convert("L"))[-4:-2, -3:].mean())


@pytest.mark.parametrize(("scheme", "low", "high"), [("light", 160, 255), ("dark", 0, 110)])
def test_differences_are_as_bright_as_the_page(
    browser: Any, report: Path, scheme: str, low: float, high: float
) -> None:
    with Opened(browser, report, color_scheme=scheme) as opened:
        for picture in opened.page.query_selector_all("figure.difference img"):
            with Image.open(io.BytesIO(picture.screenshot())) as drawn:
                shown = np.asarray(drawn.convert("L"))
            assert low < float(np.median(shown)) < high


def test_regions_that_scroll_are_reached_by_keyboard(browser: Any, report: Path) -> None:
    with Opened(browser, report, 360) as opened:
        labels = set()
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        for _ in range(120):
            opened.page.keyboard.press("Tab")
            labels.add(opened.page.evaluate("document.activeElement.getAttribute('aria-label')"))
        regions = opened.page.evaluate(
            "[...document.querySelectorAll('[role=region]')].map(r => r.getAttribute('aria-label'))"
        )
        assert len(regions) == len(set(regions)) == 25
        assert set(regions) <= labels


def test_on_paper_everything_is_there_in_light_colours(browser: Any, report: Path) -> None:
    with Opened(browser, report, 1280, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print", color_scheme="dark")
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        clipped = opened.page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(r => r.scrollHeight > r.clientHeight + 1"
            " && getComputedStyle(r).overflowY !== 'visible').length"
        )
        assert clipped == 0
        assert opened.page.pdf(format="A4").startswith(b"%PDF")


def test_the_page_is_small(report: Path) -> None:
    assert report.stat().st_size < MOST_BYTES
