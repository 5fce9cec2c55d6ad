"""The indicators as an actor: holds every symbol's bars, computes from all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import orjson

from actors.cache.client import CacheClient
from actors.feed.client import FeedClient
from actors.hub.client import HubClient, HubReader
from actors.indicators.book import BarBook
from actors.indicators.core import IndicatorCore
from actors.runtime import ServiceActor, exposed, report_metrics
from infra.bars import Bars, History
from infra.errors import ActorUnavailable, FinstageError
from infra.messages import DATA, PRICES, SOURCE_DATA, Batch, Message, Snapshot
from infra.periods import day_ns
from infra.settings import Settings

logger = logging.getLogger(__name__)


class IndicatorActor(ServiceActor):
    """Bars of all symbols, and what is computed from them.

    State: soft; a restart loads all histories from the feed before it answers. It says `DATA`
    through the hub when a symbol's new version is in place, so whoever drops what it kept upon
    that message gets the new version when it asks again.
    """

    role = "indicators"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._book = BarBook()
        self._core = IndicatorCore(self._book)
        self._feed = FeedClient(settings.actor_wait_s)
        self._hub = HubClient(settings.actor_wait_s)
        self._prices: dict[str, bytes] = {}
        self._outdated: set[str] = set()
        self._unsaid = True
        self._work = asyncio.Event()
        self._loaded = asyncio.Event()
        self._versions: dict[str, str] = {}
        self.keep(HubReader(self._hub, self).run())
        self.keep(self._run())
        self.keep(report_metrics(self.process, CacheClient().report_metrics))

    # -- following the hub ------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the state of a hub that was just met, and tell it ours."""
        self._unsaid = True
        self._work.set()
        for _, message in snapshot.messages:
            self._on_message(message)

    def on_batch(self, batch: Batch) -> None:
        """Take news in order."""
        for message in batch.messages:
            self._on_message(message)

    def _on_message(self, message: Message) -> None:
        if message.topic.startswith(PRICES):
            self._prices[message.topic.removeprefix(PRICES)] = message.payload
        elif message.topic.startswith(SOURCE_DATA):
            news = orjson.loads(message.payload)
            if self._versions.get(news["symbol"]) != news["data_version"]:
                self._outdated.add(news["symbol"])
                self._work.set()

    async def _run(self) -> None:
        await self._load(())
        self._loaded.set()
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._catch_up()
            except ActorUnavailable as error:
                logger.warning("indicators.waiting", extra={"actor_away": error.name})
                self._work.set()
                await asyncio.sleep(0.2)

    async def _catch_up(self) -> None:
        while self._outdated or self._unsaid:
            outdated, everything = tuple(self._outdated), self._unsaid
            if outdated:
                await self._load(outdated)
                self._outdated -= {s for s in outdated}
            self._unsaid = False
            try:
                await self._say(tuple(self._versions) if everything else outdated)
            except ActorUnavailable:
                self._unsaid = True
                raise

    async def _load(self, symbols: Sequence[str]) -> None:
        for symbol, history in (await self._load_histories(symbols)).items():
            self._book.put(history)
            self._versions[symbol] = history.data_version

    async def _load_histories(self, symbols: Sequence[str]) -> dict[str, History]:
        while True:
            try:
                return await self._feed.histories(symbols)
            except ActorUnavailable:
                logger.warning("indicators.feed_away")

    async def _say(self, symbols: Sequence[str]) -> None:
        bodies = [
            {"type": "data_version", "symbol": s, "data_version": self._versions[s]}
            for s in symbols
            if s in self._versions
        ]
        await self._hub.publish([Message(DATA + b["symbol"], orjson.dumps(b)) for b in bodies])

    def _take_open_bars(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            history, payload = self._book.get(symbol), self._prices.get(symbol)
            if history is None or payload is None:
                continue
            price = orjson.loads(payload)
            if price["data_version"] == history.data_version:
                self._book.set_open_bar(symbol, _open_bar(price))

    # -- what others ask --------------------------------------------------------------------

    @exposed
    async def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have bars, sorted."""
        await self._loaded.wait()
        return tuple(sorted(self._versions))

    @exposed
    async def indicators(
        self,
        symbol: str,
        period: str,
        interval: str,
        names: Sequence[str],
        method: str,
        open_bar: bool,
    ) -> dict[str, Any]:
        """Return the latest values of one symbol; raises SymbolUnknown."""
        await self._loaded.wait()
        if open_bar:
            self._take_open_bars([symbol])
        return self._core.indicators(symbol, period, interval, tuple(names), method, open_bar)

    @exposed
    async def indicators_json(
        self, symbol: str, period: str, interval: str, names: Sequence[str], method: str
    ) -> tuple[str, bytes]:
        """Return the data version and the rendered answer, closed bars only.

        Bytes cross to the caller as they are; an object would be pickled and rendered there.
        """
        await self._loaded.wait()
        answer = self._core.indicators(symbol, period, interval, tuple(names), method, False)
        return answer["data_version"], orjson.dumps(answer)

    @exposed
    async def comprehensive(
        self, symbols: Sequence[str], period: str, interval: str, method: str, open_bar: bool
    ) -> dict[str, dict[str, Any] | FinstageError]:
        """Return the whole analysis of each symbol, or the error that it met."""
        await self._loaded.wait()
        if open_bar:
            self._take_open_bars(symbols)
        return self._core.comprehensive(tuple(symbols), period, interval, method, open_bar)

    @exposed
    async def history(
        self,
        symbol: str,
        period: str | None,
        start: date | None,
        end: date | None,
        interval: str,
        adjusted: bool,
        open_bar: bool,
    ) -> tuple[Bars, str, str]:
        """Return the bars asked for, their data version and source; raises SymbolUnknown."""
        await self._loaded.wait()
        if open_bar:
            self._take_open_bars([symbol])
        bars, history = self._core.history(
            symbol, period, start, end, interval, adjusted, open_bar
        )
        return bars, history.data_version, history.source

    @exposed
    async def histories(
        self, symbols: Sequence[str], period: str, interval: str, adjusted: bool
    ) -> dict[str, tuple[Bars, str, str] | FinstageError]:
        """Return the closed bars of each symbol with version and source, or its error."""
        await self._loaded.wait()
        return self._core.histories(symbols, period, interval, adjusted)

    @exposed
    async def trend(self, symbol: str, period: str, interval: str) -> dict[str, Any]:
        """Return the moving averages and the trend of one symbol; raises SymbolUnknown."""
        await self._loaded.wait()
        return self._core.trend(symbol, period, interval)

    @exposed
    async def references(self, symbols: Sequence[str]) -> dict[str, Any]:
        """Return previous close and all-time high of each symbol, or the error that it met."""
        await self._loaded.wait()
        return self._core.references(tuple(symbols))


def _open_bar(price: dict[str, Any]) -> Bars:
    opened_at_ns = day_ns(date.fromisoformat(price["session"]))
    names = ("open", "high", "low", "current_price")
    open_, high, low, close = (np.array([price[name]], np.float64) for name in names)
    volume = np.array([price["volume"]], np.int64)
    return Bars(np.array([opened_at_ns], np.int64), open_, high, low, close, volume)
