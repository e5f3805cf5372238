"""The report in a real browser: the charts are laid out, legible and in colour, and nothing is asked of a network."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hayate.bench import svg
from hayate.bench.charts import Curve, curves_chart
from hayate.bench.pareto import Point, pareto_svg
from hayate.bench.report import report_page
from tests.bench.browser import Browser, browser, find_browser, page_requests
from tests.bench.records import MACHINE, NASTY, record

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on the PATH (apt-get install chromium)")
SIZES = (1200, 400)

BOXES = """
[...document.querySelectorAll("svg.chart")].map(chart => {
  const size = chart.getBoundingClientRect();
  return {
    name: chart.getAttribute("aria-label"), width: size.width, height: size.height,
    texts: [...chart.querySelectorAll("text")].filter(text => text.getClientRects().length).map(text => {
      const box = text.getBoundingClientRect(), held = text.closest("svg.held");
      const isCut = held && getComputedStyle(held).overflow !== "visible";
      // A nested picture's own box is that of what it holds; its window is where x and width put it.
      const edge = isCut ? size.left + held.x.baseVal.value + held.width.baseVal.value : Infinity;
      const right = Math.min(box.right, edge);
      return {text: text.textContent, pixels: parseFloat(getComputedStyle(text).fontSize),
              left: box.left - size.left, right: right - size.left,
              top: box.top - size.top, bottom: box.bottom - size.top};
    }),
    shapes: [...chart.querySelectorAll("rect, circle")].filter(each => each.getBoundingClientRect().width > 0).length,
  };
})
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(str(PROGRAM), tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it was asked for."""
    asked: list[str] = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing is printed."""

    listening = HTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", asked
    listening.shutdown()
    thread.join()
    listening.server_close()


def many(count: int) -> list[dict[str, Any]]:
    """Measurements with close speeds, close pictures and every kind of name."""
    names = (
        "attention=native, precision=bf16, compile=max-autotune",
        NASTY,
        "W" * 90,
        "m" * 90,
        "疾風" * 40,
        "x",
        "é́́́" * 30,
    )
    return [
        record(
            100 + index,
            speed=20 + (index * 7 % 11) * 0.9,
            psnr_db=None if index % 3 == 0 else 30 + index * 5 % 27,
            label=names[index % len(names)],
        )
        for index in range(count)
    ]


def opened(tab: Browser, folder: Path, page: str, **how: Any) -> None:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    tab.open(file.as_uri(), **how)


@pytest.mark.parametrize("count", [1, 4, 25])
@pytest.mark.parametrize("width_px", SIZES)
def test_charts_are_laid_out_without_texts_over_each_other(
    tab: Browser, tmp_path: Path, count: int, width_px: int
) -> None:
    opened(tab, tmp_path, report_page(many(count), "Speed"), width_px=width_px)
    charts = tab.ask(BOXES)
    assert len(charts) == (3 if count == 1 else 4)
    for chart in charts:
        assert chart["width"] > width_px * 0.4
        assert chart["shapes"] >= count
        assert_legible(chart)
    assert tab.ask("document.documentElement.scrollWidth") <= width_px


@pytest.mark.parametrize("count", [1, 2, 30])
def test_files_of_their_own_are_laid_out_too(tab: Browser, tmp_path: Path, count: int) -> None:
    points = [
        Point(label=each["label"], speed=each["summary"]["it_per_s"]["median"], psnr_db=each["difference"]["psnr_db"])
        for each in many(count)
    ]
    curves = [
        Curve(label=f"{index} {NASTY}", places=[(steps, 30 + steps - index / 9) for steps in (4, 9, 20)] + [(40, None)])
        for index in range(count)
    ]
    drawn = curves_chart(curves, title="Curves", x_name="steps", y_name="PSNR, dB")
    for name, file in (("front.svg", pareto_svg(points)), ("curves.svg", svg.standalone(drawn))):
        (tmp_path / name).write_text(file, encoding="utf-8")
        tab.open((tmp_path / name).as_uri(), width_px=800)
        (chart,) = tab.ask(BOXES)
        assert_legible(chart)
        assert colours(tab)[(11, 105, 176)] > 50


@pytest.mark.parametrize(("is_dark", "paper", "blue"), [(False, "ffffff", "0b69b0"), (True, "14181d", "5fb0ea")])
def test_the_page_is_drawn_in_light_and_in_dark(
    tab: Browser, tmp_path: Path, is_dark: bool, paper: str, blue: str
) -> None:
    opened(tab, tmp_path, report_page(many(4), "Speed"), is_dark=is_dark)
    seen = colours(tab)
    assert max(seen, key=lambda colour: seen[colour]) == tuple(bytes.fromhex(paper))
    assert seen[tuple(bytes.fromhex(blue))] > 5000, "bars"


def test_bars_are_as_long_as_their_figures_say(tab: Browser, tmp_path: Path) -> None:
    opened(tab, tmp_path, report_page([record(1, speed=30.0), record(2, speed=10.0)], "Speed"))
    widths = tab.ask(
        "[...document.querySelectorAll('svg.chart')[0].querySelectorAll('.bar')].map(x=>x.getBBox().width)"
    )
    assert widths[0] / widths[1] == pytest.approx(3, rel=1e-3)


def test_details_open_and_links_lead_to_them(tab: Browser, tmp_path: Path) -> None:
    opened(tab, tmp_path, report_page(many(4), "Speed"))
    assert tab.ask("document.querySelectorAll('details').length") == 4
    assert tab.ask("[...document.querySelectorAll('td a')].every(a => document.querySelector(a.getAttribute('href')))")
    assert "640 calls" not in tab.ask("document.body.innerText")
    tab.ask("document.querySelector('summary').click()")
    assert "640 calls" in tab.ask("document.body.innerText")


def test_the_listener_hears_a_page_that_asks(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    """Without this, the silence below would prove nothing."""
    address, asked = server
    profile = tmp_path_factory.mktemp("loud")
    with browser(str(PROGRAM), profile) as tab:
        opened(tab, tmp_path, f'<img src="{address}/picture.png">')
        assert f"{address}/picture.png" in tab.requested
    assert "/picture.png" in asked
    assert f"{address}/picture.png" in page_requests(profile)


def test_nothing_is_asked_of_anybody_even_by_hostile_names(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    profile = tmp_path_factory.mktemp("silent")
    hostile = (
        f'"><img src={address}/a><script src={address}/b></script></title></svg><style>@import "{address}/c"</style>'
    )
    machine = {**MACHINE, "gpus": [{"name": hostile}], "processor": {"model": hostile}}
    page = report_page(
        [record(1, label=hostile), record(2, notes=[hostile], asked={hostile: hostile}, machine=machine), *many(4)],
        hostile,
    )
    with browser(str(PROGRAM), profile) as tab:
        opened(tab, tmp_path, page)
        assert tab.requested == [(tmp_path / "page.html").as_uri()]
        assert tab.refused == []
        assert tab.ask("[document.images.length, document.scripts.length, document.styleSheets.length]") == [0, 0, 1]
    assert asked == []
    assert page_requests(profile) == []


def test_the_policy_stops_what_would_get_past_the_escaping(tab: Browser, tmp_path: Path, server: Any) -> None:
    address, asked = server
    loud = f'<img src="{address}/a"><link rel="stylesheet" href="{address}/b"><script>document.title = "ran"</script>'
    opened(tab, tmp_path, report_page(many(1), "Speed").replace("</body>", f"{loud}</body>"))
    assert tab.ask("document.title") == "Speed"
    assert asked == []


def assert_legible(chart: dict[str, Any]) -> None:
    """Every text is of a readable size, inside its chart, and over no other one."""
    texts = chart["texts"]
    assert texts
    for text in texts:
        assert text["pixels"] >= 11
        assert text["left"] >= -1, text
        assert text["right"] <= chart["width"] + 1, text
        assert text["bottom"] <= chart["height"] + 1, text
    for one, other in itertools.combinations(texts, 2):
        across = min(one["right"], other["right"]) - max(one["left"], other["left"])
        down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
        # A line's box is taller than its letters by some pixels above and below.
        assert across <= 1 or down <= 5, (chart["name"], one, other)


def colours(tab: Browser) -> dict[tuple[int, ...], int]:
    """How many pixels of the whole page have each colour."""
    with Image.open(io.BytesIO(tab.picture())) as picture:
        counts = picture.convert("RGB").getcolors(1 << 24)
    return {colour: count for count, colour in counts or [] if isinstance(colour, tuple)}
