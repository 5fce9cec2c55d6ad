"""The feed's messages: versions before prices, a restart told once, the last price sent."""

from __future__ import annotations

from pathlib import Path

import orjson

from actors.feed.core import FeedCore, MonitoredSet
from infra.messages import PRICES, SOURCE_DATA, SYSTEM
from infra.sources.base import Tick, VersionChanged
from tests.local import LocalService


def test_state_says_every_version_before_any_price(tmp_path: Path) -> None:
    source = LocalService(tmp_path).source

    core = FeedCore("replay")
    core.messages(source.events_between(None, source.place()))

    topics = [message.topic for message in core.state()]

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


def test_the_monitored_set_keeps_its_order_and_its_limit(tmp_path: Path) -> None:
    monitored = MonitoredSet(tmp_path / "monitored.json", ("AAPL", "IBM"), limit=3)

    assert monitored.add(["IBM", "META"])
    assert not monitored.add(["MSFT"])
    monitored.remove(["AAPL", "NOPE"])

    assert monitored.symbols == ("IBM", "META")
