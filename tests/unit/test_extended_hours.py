"""Prices before and after regular hours: for who asks for them, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import httpx
import orjson
import pytest

from actors.feed.core import FeedCore
from infra.bars import Quote
from infra.messages import EXTENDED, PRICES, Batch, Position
from infra.sources.base import Tick
from infra.sources.yahoo.pricing import PricingTick
from infra.sources.yahoo.ticks import TickBook
from serve.ws.protocol import Session, Terms
from serve.ws.sockets import SocketTable
from tests.local import LocalService


def at_ns(hour: int, minute: int = 0) -> int:
    """Return an instant of Monday 2026-03-02 in New York's winter, hours in UTC."""
    return int(datetime(2026, 3, 2, hour, minute, tzinfo=UTC).timestamp()) * 10**9


REGULAR = Quote(
    symbol="AAPL",
    price=190.0,
    previous_close=185.0,
    open=186.0,
    high=191.0,
    low=185.5,
    volume=1_000,
    session=date(2026, 3, 2),
    traded_at_ns=at_ns(20, 59),
    market_status="open",
    source="yahoo",
    synthetic=False,
    data_version="v",
)


def tick(price: float, when_ns: int, day_volume: int = 1_000) -> PricingTick:
    return PricingTick(
        "AAPL", price, when_ns, day_volume, None, None, None, None, "USD", "regular", "NMS"
    )


def test_a_price_after_hours_leaves_the_session_as_it_closed() -> None:
    book = TickBook()
    book.polled(REGULAR)
    after, _ = book.streamed(tick(250.0, at_ns(22)), 1)
    older, why = book.streamed(tick(251.0, at_ns(21, 30)), 1)
    # 14:31 of the next day's session
    next_day, _ = book.streamed(tick(192.0, at_ns(14, 31) + 86_400 * 10**9, 10), 1)

    assert after is not None
    assert (after.session_part, after.market_status, after.price) == ("post", "post", 250.0)
    assert (after.high, after.low, after.volume) == (191.0, 185.5, 1_000)
    assert (older, why) == (None, "out_of_order")
    assert next_day is not None
    assert (next_day.session_part, next_day.previous_close) == ("regular", 190.0)
    assert (next_day.high, next_day.low, next_day.volume) == (192.0, 192.0, 10)


def test_a_poll_of_the_close_is_no_news_after_a_price_after_hours() -> None:
    book = TickBook()
    book.polled(REGULAR)
    book.streamed(tick(250.0, at_ns(22)), 1)

    assert not book.polled(replace(REGULAR, received_at_ns=at_ns(22, 1)))


def test_the_hub_is_told_of_them_apart() -> None:
    core = FeedCore("yahoo")
    after = replace(REGULAR, price=250.0, session_part="post", traded_at_ns=at_ns(22))

    messages = core.messages([Tick(REGULAR), Tick(after)])

    assert [m.topic for m in messages] == [PRICES + "AAPL", EXTENDED + "AAPL"]
    assert {m.topic for m in core.state(1_000.0)} == {PRICES + "AAPL", EXTENDED + "AAPL"}


def test_a_socket_gets_them_when_it_asked() -> None:
    table = SocketTable()
    table.meet(["AAPL"])
    plain, extended = table.open(), table.open()
    ask = {"action": "subscribe", "type": "prices", "symbols": ["AAPL"]}
    for outbox, more in ((plain, {}), (extended, {"extended": True})):
        who = Session("c", table, outbox, Terms("yahoo", 10))
        told = orjson.loads(who.reply(orjson.dumps(ask | more), 1.0).payload)
        assert told["subscriptions"] == ["AAPL"]
    after = replace(REGULAR, price=250.0, session_part="post")
    messages = FeedCore("yahoo").messages([Tick(after)])

    table.on_batch(Batch(Position("e", 1), tuple(messages)))

    assert (len(plain._frames), len(extended._frames)) == (0, 1)
    who = Session("c", table, extended, Terms("yahoo", 10))
    who.reply(orjson.dumps({"action": "unsubscribe", "type": "prices"}), 1.0)
    assert not extended.topics


@pytest.mark.parametrize(("kind", "extended"), [("bars", True), ("prices", 1), ("prices", "yes")])
def test_extended_that_makes_no_sense_is_refused(kind: str, extended: object) -> None:
    table = SocketTable()
    table.meet(["AAPL"])
    ask = {"action": "subscribe", "type": kind, "symbols": ["AAPL"], "extended": extended}

    answer = orjson.loads(
        Session("c", table, table.open(), Terms("yahoo", 10)).reply(orjson.dumps(ask), 1.0).payload
    )

    assert (answer["type"], answer["code"]) == ("error", 108)


async def test_quotes_have_them_when_asked(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    local = LocalService(tmp_path_factory.mktemp("extended"))
    price = local.near.price("AAPL")
    assert price is not None
    later_ns = int(datetime.fromisoformat(price["timestamp"]).timestamp() + 3_600) * 10**9
    after = replace(REGULAR, price=250.0, session_part="post", traded_at_ns=later_ns)
    local.hub.publish(local.feed_core.messages([Tick(after)]))
    local.near.on_snapshot(local.hub.snapshot())
    transport = httpx.ASGITransport(local.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
        url = "/api/v2/quotes?symbols=AAPL"
        plain = (await http.get(url)).json()["quotes"]["AAPL"]
        extended = (await http.get(url + "&extended=true")).json()["quotes"]["AAPL"]

    assert (plain["session_part"], plain["current_price"]) == ("regular", price["current_price"])
    assert (extended["session_part"], extended["current_price"]) == ("post", 250.0)
