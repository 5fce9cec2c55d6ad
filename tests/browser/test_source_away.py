"""A live source that refuses, and then cannot be reached: pages and API say it, and recover.

One service of its own: it starts while Yahoo refuses, as a user of the real one may meet it.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import websockets.sync.client
from playwright.sync_api import Locator, Page, ViewportSize, expect

from infra.universe import load_universe
from tests.fakes.yahoo import FakeYahoo, serving_in_thread
from tests.fakes.yahoo_data import Market
from tests.fakes.yahoo_faults import Status
from tests.service import Service, run_finstage, running_on, wait_until

RETRY_S = 3
REFUSES = re.compile(r"Yahoo refuses \(429\), tried again (in \d+ s|now)")
NO_PRICE = re.compile(r"no price yet: Yahoo refuses \(429\), tried again (in \d+ s|now)")
UNREACHABLE = re.compile(r"Yahoo's connection is refused")
_PRICE = re.compile(r"^[\d,]+\.\d\d$")
PHONE: ViewportSize = {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeYahoo]:
    market = Market.until(datetime.fromtimestamp(time.time(), UTC).date())
    for category in ("index", "stock"):
        for symbol in (*load_universe().symbols(category), "UBER"):
            if symbol not in market.books:
                market.set_bars(symbol, "1d", market.books["AAPL"].record.bars)
    with serving_in_thread(market=market, now_s=time.time) as fake:
        fake.fail_all(Status(429, retry_after=RETRY_S))
        yield fake


@pytest.fixture(scope="module")
def service(fake: FakeYahoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"yahoo_requests_per_s": 50, "yahoo_poll_s": 2}
    with running_on(fake, tmp_path_factory.mktemp("away"), **settings) as service:
        yield service


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


def on_the_fakes_loop(fake: FakeYahoo, work: Awaitable[None]) -> None:
    async def run() -> None:
        await work

    assert fake.loop is not None
    asyncio.run_coroutine_threadsafe(run(), fake.loop).result(10)


def symbols(http: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = http.get("/api/v2/symbols").json()
    return answer


def is_degraded(http: httpx.Client, cause: str) -> bool:
    body = http.get("/health/ready").json()
    trouble = body["checks"]["source"].get("trouble") or {}
    return bool(body["status"] == "degraded" and trouble.get("cause") == cause)


def row_of(page: Page, symbol: str) -> Locator:
    """Return the row of exactly this symbol."""
    name = page.locator("td.symbol", has_text=re.compile(f"^{re.escape(symbol)}$"))
    return page.locator("#prices tr").filter(has=name)


def complaints_of_ours(complaints: list[str]) -> list[str]:
    """Return what pages complain of but for answers of 503, of which this is about."""
    return [text for text in complaints if "503" not in text]


def test_the_service_starts_and_says_what_is_wrong(service: Service, http: httpx.Client) -> None:
    wait_until(lambda: is_degraded(http, "limited"), 10, "degraded")
    assert re.search(r"degraded: source: Yahoo", service.output)
    listed = symbols(http)
    universe = load_universe()
    expected = {s for c in ("index", "stock") for s in universe.symbols(c)}
    rows = {row["symbol"]: row for row in listed["items"]}
    assert set(rows) == expected
    assert len(rows) == 11
    for symbol, row in rows.items():
        assert row["monitored"]
        assert row["name"] == universe.name(symbol)
        assert row["no_price"]["cause"] == "limited"
        assert row["no_price"]["text"] == "Yahoo refuses (429)"
    quotes = http.get("/api/v2/quotes", params={"symbols": "AAPL"}).json()
    assert quotes["errors"]["AAPL"]["context"]["cause"] == "limited"


def test_the_status_of_the_command_line_says_it(service: Service) -> None:
    told = run_finstage("status", env=service.environment | {"COLUMNS": "160"}).stdout

    assert re.search(r"source +│ degraded +│ Yahoo refuses \(429\)", told), told


def test_a_socket_is_answered_at_once_for_what_is_monitored(service: Service) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    with websockets.sync.client.connect(url) as socket:
        socket.recv()
        began_s = time.monotonic()
        ask = {"action": "subscribe", "type": "prices", "symbols": ["AAPL", "^GSPC"]}
        socket.send(orjson.dumps(ask).decode())
        answer = orjson.loads(socket.recv(timeout=60))
        while answer.get("event") == "source_state":
            answer = orjson.loads(socket.recv(timeout=60))
        took_s = time.monotonic() - began_s
    assert answer["action"] == "subscribed", answer
    sys.stdout.write(f"subscribed after {took_s:.3f} s\n")


def test_the_front_page_has_a_row_for_each_and_takes_one_more(
    page: Page, service: Service, http: httpx.Client, complaints: list[str], tmp_path: Path
) -> None:
    page.goto(service.url)

    row = row_of(page, "AAPL")
    expect(page.locator("#prices tr")).to_have_count(11)
    expect(row).to_contain_text("Apple")
    expect(row.locator(".why")).to_have_text(NO_PRICE)
    expect(page.locator("#state")).to_have_text(REFUSES, timeout=15_000)
    expect(page.locator("#source")).to_have_text("source: Yahoo")
    expect(page.locator("#notice")).to_be_hidden()
    page.screenshot(path=tmp_path / "home-limited.png")

    page.get_by_label("Add a symbol").fill("uber")
    page.get_by_role("button", name="Add").click()
    expect(row_of(page, "UBER")).to_be_visible()
    expect(page.locator("#prices tr")).to_have_count(12)
    assert "UBER" in {item["symbol"] for item in symbols(http)["items"]}
    page.get_by_label("Add a symbol").fill("no symbol")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#add-said")).to_contain_text("not known")
    page.set_viewport_size(PHONE)
    page.screenshot(path=tmp_path / "home-limited-390.png")
    assert page.evaluate("document.documentElement.scrollWidth > innerWidth") is False
    assert not [text for text in complaints_of_ours(complaints) if "404" not in text]


def test_the_live_page_works_and_says_it(
    page: Page, service: Service, complaints: list[str], tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{service.url}/ws/demo")

    expect(page.locator("#symbol")).to_have_text("AAPL")
    expect(page.locator("#state")).to_have_text(REFUSES, timeout=15_000)
    expect(page.locator("#why")).to_have_text(NO_PRICE)
    page.locator(".row", has_text="MSFT").click()
    expect(page.locator("#symbol")).to_have_text("MSFT")
    page.screenshot(path=tmp_path / "demo-limited.png")
    page.set_viewport_size(PHONE)
    page.screenshot(path=tmp_path / "demo-limited-390.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth > innerWidth") is False
    assert not complaints_of_ours(complaints)


def test_one_that_cannot_be_reached_is_told_as_that_and_all_recovers(
    page: Page,
    service: Service,
    fake: FakeYahoo,
    http: httpx.Client,
    complaints: list[str],
    tmp_path: Path,
) -> None:
    on_the_fakes_loop(fake, fake.leave())
    wait_until(lambda: is_degraded(http, "refused"), 20, "refused told")
    page.goto(service.url)
    expect(page.locator("#state")).to_have_text(UNREACHABLE, timeout=15_000)
    expect(row_of(page, "AAPL").locator(".why")).to_have_text(UNREACHABLE)

    fake.heal()
    on_the_fakes_loop(fake, fake.come_back())

    expect(page.locator("#state")).to_have_text("live", timeout=120_000)
    price = row_of(page, "AAPL").locator(".price")
    expect(price).to_have_text(_PRICE, timeout=60_000)
    expect(row_of(page, "UBER").locator(".price")).to_have_text(_PRICE, timeout=60_000)
    wait_until(lambda: http.get("/health/ready").json()["status"] == "ready", 30, "ready again")
    page.screenshot(path=tmp_path / "home-back.png")
    page.goto(f"{service.url}/ws/demo")
    expect(page.locator("#price")).to_have_text(_PRICE, timeout=60_000)
    expect(page.locator("#chart")).not_to_have_attribute("data-bars", "0", timeout=60_000)
    expect(page.locator("#why")).to_be_hidden()
    assert not complaints_of_ours(complaints)
