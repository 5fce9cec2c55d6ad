"""Reports as pages: text stays text, charts are drawn to scale, nothing comes from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from pipelines.report_html import line_chart, report_page

NASTY = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' onload='alert(1)",
    "</title></style><b>",
    "&lt;i&gt; & <i>",
)


class Page(HTMLParser):
    """Keeps the tags and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


PLAIN = Page(report_page("t", "n", {"A": {"error": "e"}, "B": {}}, {"B": np.array([1.0, 2.0])}))


@pytest.mark.parametrize("text", NASTY)
def test_text_adds_no_tag_and_no_attribute_wherever_it_stands(text: str) -> None:
    rows: dict[str, dict[str, Any]] = {text: {"current_price": 1.0}, "E": {"error": text}}
    page = report_page(text, text, rows, {text: np.array([1.0, 2.0])})
    found = Page(page)

    assert found.tags <= PLAIN.tags
    assert found.attributes <= PLAIN.attributes
    assert found.text.count(text) >= 4, "it is shown as it was written"


def test_a_page_needs_nothing_else() -> None:
    page = report_page("t", "n", {"A": {"current_price": 1.0}}, {"A": np.array([1.0, 2.0])})
    assert not {"script", "link", "img", "iframe", "object"} & Page(page).tags
    assert not {"src", "href", "xlink:href"} & Page(page).attributes
    assert "url(" not in page
    assert "@import" not in page


def test_numbers_are_for_people() -> None:
    rows: dict[str, dict[str, Any]] = {
        "AAPL": {"current_price": 1234.5, "change_percent": -1.0, "volume": 10**9},
        "IBM": {"current_price": float("nan"), "change_percent": float("nan"), "volume": None},
    }
    page = report_page("t", "n", rows, {})
    assert "1,234.50" in page
    assert "1,000,000,000" in page
    assert page.count('class="down"') == 1
    assert 'class="up"' not in page
    assert "nan" not in page


def points(svg: str) -> list[tuple[float, float]]:
    (text,) = re.findall(r'points="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def test_a_line_goes_from_the_least_to_the_greatest() -> None:
    drawn = points(line_chart([10.0, 30.0, 20.0], "x"))
    assert drawn == [(4.0, 156.0), (320.0, 4.0), (636.0, 80.0)]
    assert points(line_chart([10.0, float("nan"), 30.0], "x")) == [(4.0, 156.0), (636.0, 4.0)]


def test_a_line_that_does_not_move_is_drawn_and_a_point_is_not() -> None:
    assert len(points(line_chart([5.0, 5.0], "x"))) == 2
    assert line_chart(np.array([1.0]), "x") == ""
    assert line_chart(np.empty(0), "x") == ""
