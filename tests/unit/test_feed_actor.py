"""What the feed's actor tells of imports, whatever fails or changes meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from actors.feed.actor import FeedActor
from actors.feed.core import FeedCore, Interest, MonitoredSet
from actors.feed.pins import Pins
from infra.bars import Bars
from infra.clock import FakeClock
from infra.errors import ActorUnavailable, StoreBusy
from infra.messages import PRICES, SOURCE_DATA, SYSTEM, Message, Position
from infra.sources.base import Wanted
from infra.sources.imported import WithImports
from infra.sources.replay import ReplaySource, load_records
from infra.sources.trouble import Trouble
from tests.unit.test_imported_source import STARTED_AT_S, Held, daily


class Hub:
    """Keeps what it is told; away when it is told so."""

    def __init__(self) -> None:
        self.epoch, self.is_away = "first", False
        self.told: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> Position:
        if self.is_away:
            raise ActorUnavailable("hub", 5.0)
        self.told += messages
        return Position(self.epoch, len(self.told))

    def bodies(self, topic: str) -> list[dict[str, Any]]:
        return [orjson.loads(m.payload) for m in self.told if m.topic == topic]


class Feed(FeedActor):
    """The actor without its process."""

    def __init__(self, held: Held, folder: Path) -> None:
        clock = FakeClock(STARTED_AT_S)
        inner = ReplaySource(load_records(), clock, STARTED_AT_S)
        self.process = "feed-1"
        self.hub = self._hub = cast(Any, Hub())
        self._clock, self._core = cast(Any, clock), FeedCore("replay")
        self._source = WithImports(inner, held, clock)
        self._store = cast(Any, SimpleNamespace(keep_slow_queries=_nothing))
        self._monitored = MonitoredSet(folder / "monitored.json", ("OWN",), 100)
        self._pins, self._interest = Pins(folder / "pins.json", 100), Interest(60.0, 100)
        self._wanted = Wanted(self._monitored.symbols)
        self._epoch = self._store_away = ""
        self._held, self._unread = {}, set()


async def _nothing(_: str) -> None:
    return


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def feed(held: Held, tmp_path: Path) -> Feed:
    return Feed(held, tmp_path)


async def test_an_import_that_could_not_be_read_is_told_as_soon_as_it_can(
    feed: Feed, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(symbol: str, interval: str) -> Bars:
        raise StoreBusy("locked")

    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    with monkeypatch.context() as patched:
        patched.setattr(held, "bars", busy)
        await feed._look_for_imports()
    assert feed.hub.told == []

    await feed._look_for_imports()
    await feed._look_for_imports()

    assert len(feed.hub.bodies(SOURCE_DATA + "OWN")) == 1
    assert feed.hub.bodies(PRICES + "OWN")[0]["current_price"] == 14.0


async def test_what_is_deleted_while_it_is_told_of_is_gone(
    feed: Feed, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    ask = feed._source.quotes

    async def deleting(symbols: Sequence[str]) -> Any:
        found = await ask(symbols)
        held.delete("OWN", "1d")
        monkeypatch.undo()
        await feed._look_for_imports()
        return found

    monkeypatch.setattr(feed._source, "quotes", deleting)
    await feed._look_for_imports()

    assert [b["data_version"] for b in feed.hub.bodies(SOURCE_DATA + "OWN")][-1] == "gone"
    assert feed._core.state(0.0) == []
    assert feed._monitored.symbols == ()


async def test_a_hub_that_was_away_is_told_of_the_trouble_it_missed(feed: Feed) -> None:
    trouble = Trouble("yahoo", "limited", "Yahoo refuses (429)", STARTED_AT_S)
    await feed._publish([Message("other", b"{}")])
    feed.hub.is_away = True
    await feed._publish(feed._core.news_of(trouble, STARTED_AT_S))
    feed.hub.is_away, feed.hub.epoch = False, "second"

    await feed._publish([Message("other", b"{}")])

    assert [body["status"] for body in feed.hub.bodies(SYSTEM)] == ["degraded"]
