"""The feed's messages: versions before prices, a restart told once, the last price sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from actors.feed.core import FeedCore, MonitoredSet
from actors.feed.known import KnownSymbols
from infra.bars import Quote
from infra.errors import FinstageError, RangeInvalid, SymbolUnknown
from infra.messages import PRICES, SOURCE_DATA, SYSTEM
from infra.sources.base import Lane, Tick, VersionChanged
from infra.sources.trouble import Trouble
from tests.local import LocalService


def test_state_says_every_version_before_any_price(tmp_path: Path) -> None:
    source = LocalService(tmp_path).source

    core = FeedCore("replay")
    core.messages(source.events_between(None, source.place()))

    topics = [message.topic for message in core.state(1_000.0)]

    assert topics == [SOURCE_DATA + s for s in source.symbols()] + [
        PRICES + s for s in source.symbols()
    ]


def test_a_price_is_against_the_close_before_and_remembers_the_last_one_sent(
    tmp_path: Path,
) -> None:
    local = LocalService(tmp_path)
    core = FeedCore("replay")
    first = local.source.quote_now("AAPL")
    core.messages([Tick(first)])
    local.clock.advance(10)
    quote = local.source.quote_now("AAPL")

    (message,) = core.messages([Tick(quote)])
    update = orjson.loads(message.payload)

    assert update["type"] == "price_update"
    assert update["previous_price"] == first.price
    assert update["change_amount"] == quote.price - (quote.previous_close or 0)
    assert update["synthetic"] is True
    assert update["source"] == "replay"
    assert update["timestamp"].startswith("2012-08-29T")


def test_a_run_that_starts_over_is_told_once(tmp_path: Path) -> None:
    core = FeedCore("replay")
    events = [VersionChanged(symbol, "replay-1-1-0", True) for symbol in ("AAPL", "IBM")]

    messages = core.messages(events)

    assert [m.topic for m in messages] == [SYSTEM, SOURCE_DATA + "AAPL", SOURCE_DATA + "IBM"]
    assert orjson.loads(messages[0].payload)["event"] == "data_restarted"


def test_state_says_what_is_wrong_with_the_source_to_a_hub_that_missed_it() -> None:
    core = FeedCore("yahoo")
    trouble = Trouble("yahoo", "limited", "Yahoo refuses (429)", 1_000.0, 1_010.0)
    assert core.state(1_000.0) == []

    core.news_of(trouble, 1_000.0)
    (told,) = core.state(1_004.0)
    core.news_of(None, 1_020.0)
    (over,) = core.state(1_020.0)

    assert told.topic == over.topic == SYSTEM
    body = orjson.loads(told.payload)
    assert (body["event"], body["status"]) == ("source_state", "degraded")
    assert body["message"] == "Yahoo refuses (429), tried again in 6 s"
    assert orjson.loads(over.payload)["status"] == "ok"


def test_the_monitored_set_keeps_its_order_and_its_limit(tmp_path: Path) -> None:
    monitored = MonitoredSet(tmp_path / "monitored.json", ("AAPL", "IBM"), limit=3)

    monitored.add(["IBM", "META"])
    with pytest.raises(RangeInvalid, match="more than 3 symbols"):
        monitored.add(["MSFT"])
    monitored.remove(["AAPL", "NOPE"])

    assert monitored.symbols == ("IBM", "META")


async def test_why_a_symbol_had_no_price_is_forgotten_when_it_has_one(tmp_path: Path) -> None:
    class Priceless:
        is_open = True

        def symbols(self) -> tuple[str, ...]:
            return ()

        async def quotes(
            self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
        ) -> dict[str, Quote | FinstageError]:
            return {symbol: SymbolUnknown(symbol) for symbol in symbols}

        def trouble(self) -> Trouble | None:
            return None

    monitored = MonitoredSet(tmp_path / "monitored.json", ("AAPL", "NOPE"), limit=3)
    known = KnownSymbols(Priceless(), monitored)
    await known.review(frozenset())
    assert set(known.listing().failures) == {"AAPL", "NOPE"}

    await known.review(frozenset({"AAPL", "NOPE"}))

    assert known.listing().failures == {}
