"""Opens the page in a real browser: all figures are drawn, nothing is fetched or overflows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from prefetch_tuning.experiments.report.document import Report
from tests.support import report_records
from tests.support.browser import launched

DESKTOP, PHONE = (1200, 900), (390, 844)
FIGURES = 9

# An empty figure counts as drawn: no script fills the one in the last test, so waiting for it would
# time out.
DRAWN = """() => Array.from(document.querySelectorAll(".plotly-graph-div")).every(
  (div) => div.children.length === 0 || div.querySelector(".main-svg"))"""
# Counts each figure's shapes that have a size, since the others show nothing, and reads the widths
# that reveal an overflow.
PROBE = """() => ({
  figures: Array.from(document.querySelectorAll(".plotly-graph-div"), (div) => {
    const shapes = div.querySelectorAll(".main-svg .trace path, .main-svg .bars path");
    const svg = div.querySelector(".main-svg");
    const right = div.getBoundingClientRect().right;
    return {
      id: div.id,
      shapes: Array.from(shapes).filter((shape) => {
        const drawn = shape.getBBox();
        return drawn.width + drawn.height > 0;
      }).length,
      fits: !!svg && svg.getBoundingClientRect().right <= right + 1
    };
  }),
  width: window.innerWidth,
  scrollWidth: document.documentElement.scrollWidth
})"""


@dataclass(frozen=True)
class Seen:
    """What a browser reported about a page: the probe's answer, the console and the requests."""

    probe: dict[str, Any]
    console: list[str]
    requests: list[str]

    @property
    def drawn(self) -> list[str]:
        """The ids of the figures that have shapes and stay within their box."""
        return [f["id"] for f in self.probe["figures"] if f["shapes"] and f["fits"]]

    @property
    def overflows(self) -> bool:
        """Whether the page scrolls sideways."""
        return bool(self.probe["scrollWidth"] > self.probe["width"])


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with launched(chromium) as started:
        yield started


def look_at(html: str, size: tuple[int, int], browser: Browser, folder: Path) -> Seen:
    """Opens a page in a window of `size` pixels, without network access."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    console: list[str] = []
    requests: list[str] = []

    def refuse(route: Route) -> None:
        requests.append(route.request.url)
        route.abort()

    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    try:
        page = context.new_page()
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(str(error)))
        page.route(lambda url: not url.startswith("file:"), refuse)
        page.goto(file.as_uri())
        page.wait_for_function(DRAWN)
        return Seen(page.evaluate(PROBE), console, requests)
    finally:
        context.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_figure_is_drawn_and_nothing_is_fetched(
    size: tuple[int, int], browser: Browser, tmp_path: Path
) -> None:
    seen = look_at(Report(report_records.full()).html(), size, browser, tmp_path)

    assert seen.probe["width"] == size[0]
    assert len(seen.probe["figures"]) == len(seen.drawn) == FIGURES
    assert seen.console == []
    assert seen.requests == []
    assert not seen.overflows


def test_a_users_words_stay_words(browser: Browser, tmp_path: Path) -> None:
    words = "</script><script>console.error('ran')</script><img src=https://example.org/x>" * 3
    seen = look_at(Report(report_records.hostile(words)).html(), PHONE, browser, tmp_path)

    assert len(seen.drawn) == FIGURES
    assert seen.console == []
    assert seen.requests == []
    assert not seen.overflows


def test_a_page_without_any_result_is_quiet_too(browser: Browser, tmp_path: Path) -> None:
    seen = look_at(Report(report_records.nothing()).html(), PHONE, browser, tmp_path)

    assert seen.probe["figures"] == []
    assert seen.console == []
    assert not seen.overflows


def test_the_check_sees_what_it_looks_for(browser: Browser, tmp_path: Path) -> None:
    """The checks above can fail: here are an empty figure, an overflow, a fetch and an error."""
    page = (
        "<!doctype html><body><div class='plotly-graph-div' id='bare'></div>"
        "<div style='width: 600px'>wide</div><img src='https://example.org/x.png'>"
        "<script>console.error('planted')</script></body>"
    )
    seen = look_at(page, PHONE, browser, tmp_path)

    assert seen.drawn == []
    assert any("planted" in line for line in seen.console)
    assert seen.requests == ["https://example.org/x.png"]
    assert seen.overflows
