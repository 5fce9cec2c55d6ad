"""The service in one process: the same cores and routes, without Ray and without sockets.

Each class here answers what its client in `actors/` answers, straight from the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import orjson
from fastapi import FastAPI

from actors.cache.client import CacheClient
from actors.feed.client import FeedClient
from actors.feed.core import FeedCore, MonitoredSet
from actors.hub.client import HubClient
from actors.hub.core import HubCore
from actors.indicators.book import BarBook
from actors.indicators.client import IndicatorClient
from actors.indicators.core import IndicatorCore
from infra.bars import BarSeries, Quote
from infra.clock import FakeClock
from infra.errors import FinstageError, RangeInvalid, SymbolUnknown
from infra.messages import DATA, Message
from infra.metrics import MetricsTable, ProcessReport, snapshot
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.sources.replay import Record, ReplaySource, load_records
from infra.symbols import nearest
from infra.universe import load_universe
from serve.api import create_api
from serve.gate import Gate
from serve.near import NearCache
from serve.services import Services
from tests.settings import made_settings

STARTED_AT_S = 1_700_000_000.0


class LocalFeed:
    """Answers as FeedClient."""

    def __init__(self, source: ReplaySource, settings: Settings) -> None:
        self.source = source
        self._monitored = MonitoredSet(source.symbols(), settings.max_universe)

    async def ping(self) -> int:
        return 1

    async def symbols(self) -> tuple[str, ...]:
        return self.source.symbols()

    async def quotes(self, symbols: Sequence[str]) -> dict[str, Quote | FinstageError]:
        return await self.source.quotes(symbols)

    async def actions(self, symbol: str) -> Any:
        return await self.source.actions(symbol)

    async def info(self, symbol: str) -> Any:
        return await self.source.info(symbol)

    async def news(self, symbol: str, count: int) -> Any:
        return await self.source.news(symbol, count)

    async def fundamentals(self, symbol: str) -> Any:
        return await self.source.fundamentals(symbol)

    async def search(self, text: str, count: int) -> Any:
        return await self.source.search(text, count)

    async def monitored(self) -> tuple[str, ...]:
        return self._monitored.symbols

    async def monitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        for symbol in symbols:
            if not await self.source.knows(symbol):
                raise SymbolUnknown(symbol, nearest(symbol, self.source.symbols()))
        if not self._monitored.add(symbols):
            raise RangeInvalid(("body", "symbols"), "too many symbols", 1)
        return self._monitored.symbols

    async def unmonitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        self._monitored.remove(symbols)
        return self._monitored.symbols


class LocalIndicators:
    """Answers as IndicatorClient; `calls` counts them by method."""

    def __init__(self, source: ReplaySource) -> None:
        self.book = BarBook()
        self.core = IndicatorCore(self.book)
        self.calls: list[str] = []
        for symbol in source.symbols():
            self.book.put(source.history_now(symbol))

    async def ping(self) -> int:
        return 2

    async def symbols(self) -> tuple[str, ...]:
        return tuple(self.book.symbols)

    async def indicators(self, symbol: str, *rest: Any) -> dict[str, Any]:
        self.calls.append("indicators")
        return self.core.indicators(symbol, *rest)

    async def indicators_json(
        self, symbol: str, period: str, interval: str, names: Sequence[str], method: str
    ) -> tuple[str, bytes, float | None]:
        self.calls.append("indicators")
        answer = self.core.indicators(symbol, period, interval, names, method, False)
        return answer["data_version"], orjson.dumps(answer), None

    async def comprehensive(
        self, symbols: Sequence[str], *rest: Any
    ) -> dict[str, dict[str, Any] | FinstageError]:
        self.calls.append("comprehensive")
        return self.core.comprehensive(symbols, *rest)

    async def history(
        self,
        symbol: str,
        period: str | None = "1mo",
        start: date | None = None,
        end: date | None = None,
        interval: str = "1d",
        adjusted: bool = True,
        open_bar: bool = False,
    ) -> BarSeries:
        self.calls.append("history")
        return self.core.history(symbol, period, start, end, interval, adjusted, open_bar)

    async def histories(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        adjusted: bool = True,
    ) -> dict[str, BarSeries | FinstageError]:
        self.calls.append("histories")
        return self.core.histories(symbols, period, interval, adjusted)

    async def trend(self, symbol: str, period: str = "1mo", interval: str = "1d") -> Any:
        return self.core.trend(symbol, period, interval)

    async def references(self, symbols: Sequence[str]) -> dict[str, Any]:
        return self.core.references(symbols)


class LocalCache:
    """Answers what the routes ask of CacheClient."""

    async def ping(self) -> int:
        return 3

    async def metrics_text(self) -> bytes:
        table = MetricsTable()
        table.put(ProcessReport("local", snapshot()), 0.0)
        return table.render()


class LocalHub:
    """Answers what the routes ask of HubClient."""

    async def ping(self) -> int:
        return 4


class LocalService:
    """All of it wired together, on a clock that stands still until it is advanced."""

    def __init__(
        self, data_dir: Path, records: Mapping[str, Record] | None = None, **overrides: Any
    ) -> None:
        self.settings = made_settings(data_dir=data_dir, **overrides)
        self.clock = FakeClock(STARTED_AT_S)
        self.source = ReplaySource(records or load_records(), self.clock, STARTED_AT_S)
        self.feed = LocalFeed(self.source, self.settings)
        self.indicators = LocalIndicators(self.source)
        self.hub = HubCore("epoch-1", 2**20, 120.0, self.clock.monotonic_s)
        self.near = NearCache(
            self.settings.near_cache_bytes,
            self.settings.near_cache_entries,
            self.settings.near_cache_lease_s,
            self.clock.monotonic_s,
        )
        self.gate = Gate(self.settings)
        self.services = Services(
            settings=self.settings,
            source=source_facts(self.settings),
            universe=load_universe(),
            clock=self.clock,
            near=self.near,
            feed=cast(FeedClient, self.feed),
            indicators=cast(IndicatorClient, self.indicators),
            cache=cast(CacheClient, LocalCache()),
            hub=cast(HubClient, LocalHub()),
        )
        self.feed_core = FeedCore(self.source.name)
        self.hub.publish(
            self.feed_core.messages(self.source.events_between(None, self.source.place()))
        )
        self.hub.publish(self.versions())
        self.near.on_snapshot(self.hub.snapshot())
        self.near.heard_s = self.clock.monotonic_s()

    @property
    def app(self) -> FastAPI:
        """A new application over the same services."""
        return create_api(self.services, self.gate, behind_serve=False)

    def versions(self) -> list[Message]:
        """What the indicators say when they hold every symbol's present version."""
        return [
            Message(
                DATA + s,
                b'{"type":"data_version","symbol":"%b","data_version":"%b"}'
                % (s.encode(), self.source.history_now(s).data_version.encode()),
            )
            for s in self.source.symbols()
        ]

    def play(self, seconds: float) -> None:
        """Advance the clock; feed, indicators and near cache hear of what happened."""
        position, place = self.hub.position, self.source.place()
        self.clock.advance(seconds)
        for symbol in self.source.symbols():
            self.indicators.book.put(self.source.history_now(symbol))
        events = self.source.events_between(place, self.source.place())
        self.hub.publish(self.feed_core.messages(events))
        self.hub.publish(self.versions())
        self.near.on_batch(self.hub.after(position))
        self.near.heard_s = self.clock.monotonic_s()
