"""The HTML report: whole, well formed, and with nothing foreign in it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import msgspec
import pytest

from holdfast.tools.load.document import Subject, make_document
from holdfast.tools.load.page import histogram_plot, nice_ceiling, result_page, time_plot
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.tally import Measured
from tests.tools.load.helpers import measured

DOCUMENT = make_document(Subject("tcp://127.0.0.1:7000", "shop.price"), Plan(rate=100), measured(seconds=[0.001, 0.002, 0.25]))


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_the_page_has_the_result_the_command_and_three_plots() -> None:
    page = result_page(DOCUMENT, "holdfast bench tcp://127.0.0.1:7000 shop.price --rate 100/s")
    assert page.count("<svg") == page.count("</svg>") == 3
    assert "$ holdfast bench tcp://127.0.0.1:7000 shop.price --rate 100/s" in page
    assert "ok 3" in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        parsed(svg)


def test_nothing_is_loaded_from_anywhere() -> None:
    page = result_page(DOCUMENT, "x")
    assert re.findall(r"<script|<link|<img|@import|url\(|https?://|src=|href=", page) == []


def test_what_a_peer_said_is_text() -> None:
    hostile = msgspec.structs.replace(DOCUMENT, target="<b>", errors={"x": 1}, error_messages={"x": "</pre><script>alert(1)</script>"})
    page = result_page(hostile, "<i>")
    assert "<script" not in page
    assert "<b>" not in page.partition("</h1>")[0]
    assert "<i>" not in page


def test_a_histogram_has_a_bar_for_each_bucket_within_the_frame() -> None:
    bars = list(parsed(histogram_plot(DOCUMENT)).iter("rect"))
    assert len(bars) == len(DOCUMENT.histogram) == 3
    for bar in bars:
        assert 0 <= float(bar.get("x", "-1")) <= 720
        assert float(bar.get("height", "-1")) > 0


def test_a_line_goes_through_every_point() -> None:
    (line,) = parsed(time_plot([0.0, 1.0, 2.0], [("a", "p50", [0.0, 5.0, 10.0])])).iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert len(points) == 3
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[0][1] > points[1][1] > points[2][1]  # up is less


def test_nothing_measured_is_a_page_too() -> None:
    page = result_page(make_document(Subject("a", "m"), Plan(rate=1), Measured()), "x")
    assert page.count("Nothing was measured") == 3


def test_one_point_and_all_zero_are_drawn() -> None:
    parsed(time_plot([0.0], [("a", "p50", [0.0])]))


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.9, 1), (1, 1), (1.1, 2), (2.1, 2.5), (2.6, 5), (51, 100), (0.03, 0.05)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert nice_ceiling(value) == pytest.approx(top)
