"""The pages of docs/use/dashboard.md in a real Chromium.

They are put into a document of the service, so that their origin is its own; that a listed origin
is admitted is in tests/unit/test_guide_blocks.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.guides import Block, blocks, here
from tests.service import Service

PAGES = blocks("dashboard", "html")
TABLE = PAGES[1]


def opened(page: Page, service: Service, block: Block) -> None:
    # Not by `route.fulfill`: Chromium lets a document that came from nowhere reach no loopback.
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page.goto(f"{service.url}/health/live")
    page.set_content(here(block.text, service.url, service.settings.data_dir))


def of_the_list(page: Page) -> None:
    prices = page.locator("#prices")
    expect(prices).to_contain_text(re.compile(r'"AAPL": [\d.]+'), timeout=15_000)
    expect(prices).to_contain_text(re.compile(r'"IBM": [\d.]+'), timeout=15_000)
    before = prices.text_content() or ""
    expect(prices).not_to_have_text(before, timeout=15_000)


def of_the_table(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("live", timeout=15_000)
    rows = page.locator("#prices tr")
    expect(rows).to_have_count(3, timeout=15_000)
    expect(rows.first).to_have_text(re.compile(r"^[A-Z]+\d+\.\d\d-?\d+\.\d\d %$"))
    before = page.locator("#prices").text_content() or ""
    expect(page.locator("#prices")).not_to_have_text(before, timeout=15_000)


def of_the_chart(page: Page) -> None:
    chart = page.locator("#chart")
    expect(chart.locator("canvas").first).to_be_visible(timeout=15_000)
    expect(chart).to_have_attribute("data-bars", re.compile(r"^2\d\d$"), timeout=15_000)
    expect(chart).to_have_attribute("data-close", re.compile(r"^[\d.]+$"), timeout=15_000)
    before = chart.get_attribute("data-close") or ""
    expect(chart).not_to_have_attribute("data-close", before, timeout=15_000)


def of_the_events(page: Page) -> None:
    prices = page.locator("#prices")
    expect(prices).to_contain_text(
        re.compile(r"AAPL [\d.]+.*AAPL [\d.]+", re.DOTALL), timeout=15_000
    )
    expect(prices).to_contain_text(re.compile(r"IBM [\d.]+"), timeout=15_000)


LOOKS: tuple[Callable[[Page], None], ...] = (
    of_the_list,
    of_the_table,
    of_the_chart,
    of_the_events,
)


@pytest.mark.parametrize(
    ("block", "look"), list(zip(PAGES, LOOKS, strict=True)), ids=[block.name for block in PAGES]
)
def test_each_page_of_the_guide_shows_live_prices(
    page: Page,
    service: Service,
    complaints: list[str],
    block: Block,
    look: Callable[[Page], None],
) -> None:
    opened(page, service, block)
    look(page)
    assert not complaints


def test_the_table_comes_back_with_what_it_missed(page: Page, service: Service) -> None:
    sockets: list[tuple[WebSocketRoute, list[dict[str, Any]]]] = []

    def through(route: WebSocketRoute) -> None:
        server, said = route.connect_to_server(), list[dict[str, Any]]()
        sockets.append((route, said))

        def on_message(text: str | bytes) -> None:
            said.append(json.loads(text))
            server.send(text)

        route.on_message(on_message)

    page.route_web_socket(re.compile("/ws/realtime"), through)
    opened(page, service, TABLE)
    of_the_table(page)

    sockets[0][0].close(code=4008, reason="slow")
    expect(page.get_by_role("status")).to_have_text("live again", timeout=15_000)

    (request,) = sockets[1][1]
    assert request["recover"]["offset"] > 0
    assert request["recover"]["epoch"]


def test_the_table_says_that_it_was_closed_for_good(page: Page, service: Service) -> None:
    page.route_web_socket(
        re.compile("/ws/realtime"), lambda route: route.close(code=4504, reason="too many")
    )
    opened(page, service, TABLE)
    expect(page.get_by_role("status")).to_have_text("closed: too many", timeout=15_000)
