"""The service on a live source: a fake Yahoo on loopback that can be made to fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
import websockets

from tests.fakes.yahoo import FakeYahoo, serving_in_thread
from tests.fakes.yahoo_data import Market
from tests.fakes.yahoo_faults import Html, Status
from tests.service import Service, running_on, wait_until

ROUND_THE_CLOCK = "META-USD"  # whatever the hour of the test, its ticks are of regular hours


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeYahoo]:
    today = datetime.fromtimestamp(time.time(), UTC).date()
    market = Market.until(today)
    market.set_bars(ROUND_THE_CLOCK, "1d", market.books["AAPL"].record.bars)
    with serving_in_thread(market=market, now_s=time.time) as fake:
        yield fake


@pytest.fixture(scope="module")
def service(fake: FakeYahoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "yahoo_requests_per_s": 50,
        "yahoo_at_once": 10,
        "yahoo_poll_s": 2,
        "quote_fresh_s": 1,
        "symbols": "AAPL",
    }
    with running_on(fake, tmp_path_factory.mktemp("live"), **settings) as service:
        yield service


@pytest.fixture
def http(service: Service, fake: FakeYahoo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client
    fake.heal()


def send(fake: FakeYahoo, symbol: str, price: float) -> None:
    assert fake.loop is not None
    work = fake.send_tick(symbol, price, int(time.time() * 1_000), 0)
    asyncio.run_coroutine_threadsafe(work, fake.loop).result(10)


def test_prices_bars_and_indicators_come_from_yahoo(http: httpx.Client) -> None:
    quotes = http.get("/api/v2/quotes", params={"symbols": "AAPL,IBM,NO.SUCH"}).json()
    history = http.get("/api/v2/prices/AAPL/history", params={"period": "max"}).json()
    indicators = http.get("/api/v2/technical-analysis/indicators/AAPL").json()

    assert quotes["quotes"]["AAPL"]["source"] == "yahoo"
    assert not quotes["quotes"]["IBM"]["synthetic"]
    assert quotes["errors"]["NO.SUCH"]["code"] == "symbol_unknown"
    assert history["data_points"] > 3_000
    assert indicators["data_version"] == history["data_version"]
    assert indicators["indicators"]["sma"]["20"] == pytest.approx(sum(history["close"][-20:]) / 20)
    minutes = http.get("/api/v2/prices/AAPL/history", params={"interval": "5m", "period": "5d"})
    assert minutes.json()["data_points"] > 10
    detail = http.get("/api/v2/symbols/AAPL").json()
    assert (detail["currency"], detail["time_zone"]) == ("USD", "America/New_York")


async def test_many_who_ask_at_once_for_a_symbol_cost_one_request(
    service: Service, fake: FakeYahoo, http: httpx.Client
) -> None:
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(
        base_url=service.url, timeout=60, trust_env=False, limits=limits
    ) as client:
        answers = await asyncio.gather(
            *(client.get("/api/v2/technical-analysis/indicators/GOOGL") for _ in range(1_000))
        )

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert asked_for(fake, "GOOGL") == 1


def asked_for(fake: FakeYahoo, symbol: str) -> int:
    """Return how often the chart of a symbol was asked for; jobs ask for those of others."""
    return sum(
        endpoint == "chart" and symbol in symbols for endpoint, symbols, _ in tuple(fake.log)
    )


async def quoted(service: Service, symbol: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
        answer = await client.get("/api/v2/quotes", params={"symbols": symbol})
    quote: dict[str, Any] = answer.json()["quotes"][symbol]
    return quote


async def told(socket: websockets.ClientConnection, price: float) -> None:
    async with asyncio.timeout(30):
        while orjson.loads(await socket.recv()).get("current_price") != price:
            pass


async def in_answers_too(
    service: Service, socket: websockets.ClientConnection, price: float
) -> None:
    """Wait until an answer has `price`, or one that the socket was told after it.

    The replica that answers hears the hub apart from the one that has the socket, and a poll may
    bring a later price at any time.
    """
    prices = {price}

    async def listen() -> None:
        while True:
            prices.add(orjson.loads(await socket.recv()).get("current_price"))

    listening = asyncio.ensure_future(listen())
    try:
        async with asyncio.timeout(30):
            while (await quoted(service, ROUND_THE_CLOCK))["current_price"] not in prices:
                pass
    finally:
        listening.cancel()


async def test_a_socket_gets_ticks_of_a_symbol_that_nobody_asked_for_before(
    service: Service, fake: FakeYahoo
) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    async with websockets.connect(url) as socket:
        await socket.recv()
        ask = {"action": "subscribe", "type": "prices", "symbols": [ROUND_THE_CLOCK, "NO.SUCH2"]}
        await socket.send(orjson.dumps(ask).decode())
        assert orjson.loads(await socket.recv())["code"] == 105
        ask["symbols"] = [ROUND_THE_CLOCK]
        await socket.send(orjson.dumps(ask).decode())
        assert orjson.loads(await socket.recv())["action"] == "subscribed"
        await asyncio.to_thread(
            wait_until, lambda: ROUND_THE_CLOCK in fake.subscriptions, 5, "subscribed upstream"
        )
        price = round((await quoted(service, ROUND_THE_CLOCK))["current_price"] * 1.01, 2)
        send(fake, ROUND_THE_CLOCK, price)
        await told(socket, price)
        await in_answers_too(service, socket, price)
    # In New York's hours the stock that is silent here makes the feed connect anew.
    assert fake.open_streams <= 1


def test_answers_go_on_marked_stale_while_yahoo_is_down_and_are_new_when_it_is_back(
    fake: FakeYahoo, http: httpx.Client
) -> None:
    http.get("/api/v2/quotes", params={"symbols": "IBM"})
    for endpoint in ("quote", "chart", "crumb", "cookie"):
        fake.fail(endpoint, Html() if endpoint == "chart" else Status(500), forever=True)
    fake_streams_down(fake)

    def asked() -> httpx.Response:
        return http.get("/api/v2/quotes", params={"symbols": "IBM"})

    wait_until(lambda: asked().json()["quotes"]["IBM"]["stale"], 10, "stale")
    answer = asked()
    assert int(answer.headers["age"]) >= 1
    assert answer.json()["quotes"]["IBM"]["current_price"] > 0

    fake.heal()
    wait_until(lambda: not asked().json()["quotes"]["IBM"]["stale"], 20, "new again")


def fake_streams_down(fake: FakeYahoo) -> None:
    assert fake.loop is not None
    fake.loop.call_soon_threadsafe(fake.abort_streams)


def test_an_unknown_symbol_costs_one_request(fake: FakeYahoo, http: httpx.Client) -> None:
    before = sum(1 for _, symbols, _ in tuple(fake.log) if "NO.SUCH9" in symbols)
    for _ in range(5):
        answer = http.get("/api/v2/technical-analysis/indicators/NO.SUCH9")
        assert answer.status_code == 404, answer.text

    after = sum(1 for _, symbols, _ in tuple(fake.log) if "NO.SUCH9" in symbols)
    assert after - before == 1


def test_the_budget_is_on_the_metrics_page(http: httpx.Client) -> None:
    def text() -> str:
        return http.get("/metrics").text

    wait_until(lambda: "finstage_upstream_requests_per_second{" in text(), 5, "budget told")
    assert 'finstage_upstream_requests_total{endpoint="chart"' in text()
