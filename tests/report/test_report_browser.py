"""The page in a real browser: every figure is drawn, nothing is fetched, nothing overflows."""

from __future__ import annotations

import html
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefetch_tuning.experiments.report.document import Report
from tests.support import report_records
from tests.support.browser import FLAGS, NO_NETWORK

DESKTOP, PHONE = (1200, 900), (390, 844)
FIGURES = 9

# Looks at the page from inside, once everything is drawn, and tells the frame around it.
PROBE = """
<script>
window.addEventListener("load", function () {
  setTimeout(function () {
    var figures = Array.from(document.querySelectorAll(".plotly-graph-div"), function (div) {
      var shapes = div.querySelectorAll(".main-svg .trace path, .main-svg .bars path");
      var box = div.getBoundingClientRect();
      var svg = div.querySelector(".main-svg");
      return {
        id: div.id,
        shapes: Array.from(shapes).filter(function (shape) {
          var drawn = shape.getBBox();
          return drawn.width + drawn.height > 0;
        }).length,
        fits: !!svg && svg.getBoundingClientRect().right <= box.right + 1,
        right: box.right
      };
    });
    parent.postMessage(JSON.stringify({
      figures: figures,
      width: window.innerWidth,
      scrollWidth: document.documentElement.scrollWidth,
      requests: performance.getEntriesByType("resource").map(function (e) { return e.name; })
    }), "*");
  }, 500);
});
</script>
"""
# Headless Chromium has no window narrower than 500 pixels; a frame has.
FRAME = """<!doctype html><body style="margin:0">
<iframe src="{page}" style="border:0; width:{width}px; height:{height}px"></iframe>
<pre id="seen"></pre>
<script>
window.addEventListener("message", function (event) {{
  document.getElementById("seen").textContent = event.data;
}});
</script>
"""


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page: the probe's answer, and what it wrote to its console."""

    probe: dict[str, Any]
    console: list[str]

    @property
    def drawn(self) -> list[str]:
        """Figures with shapes in them that stay within their own box."""
        return [f["id"] for f in self.probe["figures"] if f["shapes"] and f["fits"]]

    @property
    def overflows(self) -> bool:
        """Whether the page scrolls sideways."""
        return bool(self.probe["scrollWidth"] > self.probe["width"])


def look_at(page: str, size: tuple[int, int], chromium: str, folder: Path) -> Seen:
    """Opens a copy of `page` with the probe in it, in a frame of `size` pixels."""
    (folder / "page.html").write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page="page.html", width=size[0], height=size[1]))
    own = [f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}"]
    command = [chromium, *FLAGS, NO_NETWORK, *own, frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
    assert seen is not None, f"the probe did not answer: {done.stderr[-2000:]}"
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(json.loads(html.unescape(seen.group(1))), console)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_figure_is_drawn_and_nothing_is_fetched(
    size: tuple[int, int], chromium: str, tmp_path: Path
) -> None:
    seen = look_at(Report(report_records.full()).html(), size, chromium, tmp_path)

    assert seen.probe["width"] == size[0]
    assert len(seen.probe["figures"]) == len(seen.drawn) == FIGURES
    assert seen.console == []
    assert seen.probe["requests"] == []
    assert not seen.overflows


def test_a_persons_words_stay_words(chromium: str, tmp_path: Path) -> None:
    words = "</script><script>console.error('ran')</script><img src=https://example.org/x>" * 3
    seen = look_at(Report(report_records.hostile(words)).html(), PHONE, chromium, tmp_path)

    assert len(seen.drawn) == FIGURES
    assert seen.console == []
    assert seen.probe["requests"] == []
    assert not seen.overflows


def test_a_page_without_any_result_is_quiet_too(chromium: str, tmp_path: Path) -> None:
    seen = look_at(Report(report_records.nothing()).html(), PHONE, chromium, tmp_path)

    assert seen.probe["figures"] == []
    assert seen.console == []
    assert not seen.overflows


def test_the_check_sees_what_it_looks_for(chromium: str, tmp_path: Path) -> None:
    page = (
        "<!doctype html><body><div class='plotly-graph-div' id='bare'></div>"
        "<div style='width: 600px'>wide</div><img src='https://example.org/x.png'>"
        "<script>console.error('planted')</script></body>"
    )
    seen = look_at(page, PHONE, chromium, tmp_path)

    assert seen.drawn == []
    assert any("planted" in line for line in seen.console)
    assert seen.probe["requests"] == ["https://example.org/x.png"]
    assert seen.overflows
