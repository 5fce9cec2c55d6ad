"""The market as a Ray driver: this process joins the service's Ray and asks the actors.

Ray reads its environment when it is imported, so nothing here imports it, or the actors'
clients, before that is set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from infra.bars import Quote
from infra.clock import utc
from infra.errors import FinstageError
from infra.quotes import price_update
from pipelines.driver.analysis import priced_analyses
from pipelines.driver.joining import join, leave
from pipelines.driver.market import AsyncMarket, Market, Quoted, failure, history_frame

if TYPE_CHECKING:
    from actors.feed.client import FeedClient
    from actors.indicators.client import IndicatorClient


class Driver(Market):
    """Finstage over Ray, as plain calls; `async with` gives the same methods awaited.

    Entering joins Ray and sets Ray's variables in this process's environment; leaving parts
    from it, unless this process was in Ray before.
    """

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        super().__init__(partial(open_market, address, token, data_dir))


def connect(
    address: str | None = None,
    token: str | None = None,
    data_dir: str | Path | None = None,
) -> Driver:
    """Return a driver of the Finstage on this machine, to be entered by `with` or `async with`.

    `address` (host:port of Ray) and `token` are found in `data_dir`, the service's
    (FINSTAGE_DATA_DIR), and given where that is on another machine. Entering raises ConfigError
    if nothing runs there, or Ray's or Python's version is not the service's; `finstage.Client`
    works from any.
    """
    return Driver(address, token, data_dir)


@asynccontextmanager
async def open_market(
    address: str | None, token: str | None, data_dir: str | Path | None
) -> AsyncIterator[AsyncMarket]:
    """Join Ray, give the market over its actors, and leave Ray if it was joined here."""
    joined_here = await asyncio.to_thread(join, address, token, data_dir)
    try:
        from actors.feed.client import FeedClient
        from actors.indicators.client import IndicatorClient
        from actors.joining import join_caches, part_caches

        if joined_here:
            await asyncio.to_thread(join_caches, "driver")
        yield ActorMarket(FeedClient(), IndicatorClient())
    finally:
        if joined_here:
            part_caches()
            await asyncio.to_thread(leave)


class ActorMarket(AsyncMarket):
    """The actors as `AsyncMarket`: one call each way for all the symbols of a call."""

    def __init__(self, feed: FeedClient, indicators: IndicatorClient) -> None:
        self._feed = feed
        self._computed = indicators

    async def _history(
        self,
        symbol: str,
        period: str | None,
        start: date | None,
        end: date | None,
        interval: str,
        adjusted: bool,
    ) -> pd.DataFrame:
        series = await self._computed.history(
            symbol, period, start, end, interval, adjusted, False
        )
        bars = series.bars
        prices = {"open": bars.open, "high": bars.high, "low": bars.low, "close": bars.close}
        return history_frame(
            bars.opened_at_ns,
            prices,
            bars.volume,
            symbol=symbol,
            source=series.source,
            data_version=series.data_version,
        )

    async def _indicators(
        self, symbol: str, period: str, indicators: str, interval: str, method: str
    ) -> dict[str, Any]:
        from actors.indicators.client import is_of_the_six, parse_names

        if not is_of_the_six(indicators):
            asked = indicators.strip().lower()
            table = await self._computed.table(symbol, asked, period, interval, 1)
            return table.latest()
        names = parse_names(indicators)
        return await self._computed.indicators(symbol, period, interval, names, method, False)

    async def _analyses(self, symbols: Sequence[str], period: str) -> dict[str, dict[str, Any]]:
        answers, prices = await asyncio.gather(
            self._computed.comprehensive(symbols, period, "1d", "standard", False),
            self._prices(symbols),
        )
        now = utc(time.time()).isoformat(timespec="milliseconds")
        results = priced_analyses(symbols, answers, prices, now)
        return {
            symbol: failure(symbol, result) if isinstance(result, FinstageError) else result
            for symbol, result in results.items()
        }

    async def _quotes(self, symbols: Sequence[str]) -> dict[str, Quoted]:
        return {
            symbol: Quoted(error=price.code)
            if isinstance(price, FinstageError)
            else Quoted(price["current_price"], price["timestamp"], price["source"])
            for symbol, price in (await self._prices(symbols)).items()
        }

    async def _prices(self, symbols: Sequence[str]) -> dict[str, dict[str, Any] | FinstageError]:
        quotes = await self._feed.quotes(symbols)
        return {
            s: price_update(answer, None) if isinstance(answer, Quote) else answer
            for s, answer in quotes.items()
        }
