"""Yahoo as a source: charts, quotes and the streamer over aiohttp, the rest through yfinance."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from infra.bars import History, Quote
from infra.calendars import calendar_for
from infra.clock import Clock
from infra.directives import ASYNC_ENDPOINTS, is_on
from infra.errors import FinstageError, SourceError, SourceMalformed
from infra.flights import Merger
from infra.metrics import UPSTREAM_STREAMS
from infra.periods import INTERVALS, between
from infra.sources.base import (
    Action,
    Event,
    Found,
    Fundamentals,
    Gap,
    Lane,
    NewsItem,
    StreamLost,
    SymbolInfo,
    Tick,
    Wanted,
)
from infra.sources.budget import Budget
from infra.sources.budget_state import BudgetState
from infra.sources.rejections import Rejections
from infra.sources.trouble import Trouble
from infra.sources.yahoo.http import UPSTREAM, Hosts, YahooHttp
from infra.sources.yahoo.parse import Chart, parse_chart, parse_quotes, quote_infos
from infra.sources.yahoo.pricing import PricingTick, decode_message
from infra.sources.yahoo.scraped import Scraped
from infra.sources.yahoo.streamer import Back, Lost, Streamer
from infra.sources.yahoo.ticks import TickBook

logger = logging.getLogger(__name__)

STREAM_URL = "wss://streamer.finance.yahoo.com/?version=2"
QUOTES_IN_REQUEST = 200
_MERGE_S = 0.020
_NIGHT_POLLS = 10  # with all markets closed, so many times the usual pause

_RETRY_S = 1.0  # after a poll that failed, where the budget allows it; that backs off by itself
_QUEUED_BATCHES = 100

_DAY_S = 86_400
# How far back Yahoo has bars of an interval; a day less, for its clock counts too.
_DEPTH_S = {
    "1m": 7 * _DAY_S,
    "2m": 59 * _DAY_S,
    "5m": 59 * _DAY_S,
    "15m": 59 * _DAY_S,
    "30m": 59 * _DAY_S,
    "90m": 59 * _DAY_S,
    "60m": 729 * _DAY_S,
    "1h": 729 * _DAY_S,
    "1d": 99 * 365 * _DAY_S,
}


class YahooSource:
    """The live market. `url` and `stream_url` put another server in Yahoo's place.

    Stream prices are 32-bit: the next poll corrects their last digits. Rows and messages that
    make no sense are counted and left out. Everything but the stream goes through one budget.
    """

    name = UPSTREAM
    synthetic = False
    is_open = True
    intervals: tuple[str, ...] = INTERVALS

    def __init__(
        self,
        clock: Clock,
        budget: Budget,
        *,
        url: str = "",
        stream_url: str = "",
        poll_s: float = 30.0,
        cache_dir: Path | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._budget = budget
        self._poll_s = poll_s
        self._http = YahooHttp(Hosts.at(url), budget, clock)
        self._rejections = Rejections(UPSTREAM, clock)
        self._merger: Merger[str, Quote | FinstageError] = Merger(
            clock, _MERGE_S, QUOTES_IN_REQUEST, self._fetch_quotes
        )
        self._scraped = Scraped(clock, budget.run, url or None, cache_dir=cache_dir)
        self._ticks = TickBook()
        self._poll_failure: SourceError | None = None
        self._poll_failed_at_s = self._polls_at_s = 0.0
        self._streamer: Streamer[PricingTick] = Streamer(
            stream_url or STREAM_URL,
            lambda: self._http.session,
            clock,
            rng or random.Random(),
            decode=self._decoded,
            symbol_of=lambda tick: tick.symbol,
            probe=self._is_mute,
            market_open=self._any_open,
        )

    # -- questions --------------------------------------------------------------------------

    def symbols(self) -> tuple[str, ...]:
        """Return no symbols: there are more than can be listed."""
        return ()

    async def knows(self, symbol: str) -> bool:
        """Return whether Yahoo has a price of it; raises SourceError."""
        answer = (await self.quotes([symbol]))[symbol]
        if isinstance(answer, SourceError):
            raise answer
        return isinstance(answer, Quote)

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the latest prices; questions within 20 ms go up together."""
        if lane is Lane.INTERACTIVE and is_on(ASYNC_ENDPOINTS):
            return await self._merger.get(symbols)
        found: dict[str, Quote | FinstageError] = {}
        for first in range(0, len(symbols), QUOTES_IN_REQUEST):
            part = tuple(symbols[first : first + QUOTES_IN_REQUEST])
            found |= await self._fetch_quotes(part, lane)
        return found

    async def _fetch_quotes(
        self, symbols: tuple[str, ...], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        body = await self._quote_body(symbols, lane)
        quotes = parse_quotes(body, symbols, self._now_ns())
        for answer in quotes.values():
            if isinstance(answer, SourceMalformed):
                self._rejections.count(answer.kind, answer.reason)
        return quotes

    async def _quote_body(self, symbols: Sequence[str], lane: Lane) -> bytes:
        query = {"symbols": ",".join(symbols)}
        # A poll, be it of one symbol, is how an upstream that is down is noticed.
        of = symbols[0] if len(symbols) == 1 and lane is not Lane.LIVE else None
        return await self._http.get("/v7/finance/quote", query, "quote", lane, crumb=True, of=of)

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        """Return as many bars as Yahoo has of the interval, or those of a span."""
        chart = await self._chart(symbol, interval, lane)
        return between(chart.history, start, end)

    async def _chart(self, symbol: str, interval: str, lane: Lane) -> Chart:
        now_s = self._clock.time_s()
        query = {
            "period1": str(int(now_s - _DEPTH_S[interval])),
            "period2": str(int(now_s + _DAY_S)),
            "interval": interval,
            "events": "div,splits,capitalGains",
            "includePrePost": "false",
        }
        path = f"/v8/finance/chart/{symbol}"
        body = await self._http.get(path, query, "chart", lane, of=symbol)
        try:
            # Some 25 ms for a long history: ticks should not wait for it.
            chart = await asyncio.to_thread(parse_chart, body, symbol, now_s, interval)
        except SourceMalformed as error:
            self._rejections.count(error.kind, error.reason)
            raise
        for kind, number in chart.rejected.items():
            self._rejections.count(kind, symbol, number)
        return chart

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return all splits and dividends of the daily chart, oldest first."""
        return (await self._chart(symbol, "1d", Lane.INTERACTIVE)).actions

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is, from its quote."""
        body = await self._quote_body([symbol], Lane.INTERACTIVE)
        infos = quote_infos(body, self._now_ns())
        if symbol in infos:
            return infos[symbol]
        return (await self._chart(symbol, "1d", Lane.INTERACTIVE)).info

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Return the latest headlines, newest first."""
        return await self._scraped.news(symbol, count)

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Return the figures of the company."""
        return await self._scraped.fundamentals(symbol)

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return symbols that `text` may mean, best first."""
        return await self._scraped.search(text, count)

    def budgets(self) -> tuple[BudgetState, ...]:
        """Return the one that all requests share."""
        return (self._budget.state,)

    def trouble(self) -> Trouble | None:
        """Return what was wrong with the last answer, and when prices are asked for again."""
        found = self._budget.trouble
        failure = self._poll_failure
        if found is None and failure is not None:
            found = Trouble(UPSTREAM, failure.cause, failure.text, self._poll_failed_at_s)
        if found is None or found.retry_at_s is not None:
            return found
        is_due = self._polls_at_s > self._clock.time_s()
        return replace(found, retry_at_s=self._polls_at_s if is_due else None)

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()
        await self._scraped.close()

    # -- the stream -------------------------------------------------------------------------

    async def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield the streamer's ticks, corrected by polls; Gap after each time it was lost."""
        # Bounded, so that the streamer sees a slow reader and keeps the last of each symbol.
        queue: asyncio.Queue[tuple[Event, ...] | BaseException] = asyncio.Queue(_QUEUED_BATCHES)
        tasks = [
            asyncio.ensure_future(_into(queue, work))
            for work in (self._follow(wanted, queue), self._poll(wanted, queue))
        ]
        try:
            while True:
                items = [await queue.get()]
                while not queue.empty():  # else a reader that is slow once stays behind
                    items.append(queue.get_nowait())
                failure = next((i for i in items if isinstance(i, BaseException)), None)
                events = [e for item in items if isinstance(item, tuple) for e in item]
                if events:
                    yield tuple(events)
                if failure is not None:
                    raise failure
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, wanted: Wanted, queue: asyncio.Queue[Any]) -> None:
        async with aclosing(self._streamer.run(wanted)) as batches:
            async for batch in batches:
                events = [event for item in batch if (event := self._event(item)) is not None]
                if events:
                    await queue.put(tuple(events))

    def _decoded(self, message: str | bytes) -> PricingTick | None:
        try:
            return decode_message(message)
        except SourceMalformed as error:
            self._rejections.count(error.kind, error.reason)
            return None

    def _event(self, item: PricingTick | Lost | Back) -> Event | None:
        if isinstance(item, Lost):
            UPSTREAM_STREAMS.labels(UPSTREAM, "lost").inc()
            return StreamLost(item.reason)
        if isinstance(item, Back):
            UPSTREAM_STREAMS.labels(UPSTREAM, "opened").inc()
            return Gap(tuple(sorted(item.symbols)), item.from_ns, item.until_ns)
        quote, refused = self._ticks.streamed(item, self._now_ns())
        if refused:
            self._rejections.count(refused, item.symbol)
        return None if quote is None else Tick(quote, is_streamed=True)

    async def _poll(self, wanted: Wanted, queue: asyncio.Queue[Any]) -> None:
        while True:
            symbols = wanted.symbols
            try:
                events = await self._polled(sorted(symbols))
                self._note_poll(None)
            except FinstageError as error:
                logger.warning("yahoo.poll_failed", extra={"reason": error.message})
                self._note_poll(error if isinstance(error, SourceError) else None)
                events = ()
            if events:
                await queue.put(events)
            await self._pause(wanted, symbols)

    def _note_poll(self, failure: SourceError | None) -> None:
        if self._poll_failure is None:
            self._poll_failed_at_s = self._clock.time_s()
        self._poll_failure = failure

    async def _polled(self, symbols: Sequence[str]) -> tuple[Event, ...]:
        quotes = await self.quotes(symbols, Lane.LIVE) if symbols else {}
        return tuple(
            Tick(quote)
            for quote in quotes.values()
            if isinstance(quote, Quote) and self._ticks.polled(quote)
        )

    async def _pause(self, wanted: Wanted, polled: frozenset[str]) -> None:
        """Wait for the next poll, or until a symbol that was not polled is wanted."""
        pause_s = self._pause_s(polled)
        self._polls_at_s = self._clock.time_s() + pause_s
        sleep = asyncio.ensure_future(self._clock.sleep(pause_s))
        try:
            while wanted.symbols <= polled:
                change = asyncio.ensure_future(wanted.changed())
                await asyncio.wait({sleep, change}, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                if sleep.done():
                    return
        finally:
            sleep.cancel()

    def _pause_s(self, polled: frozenset[str]) -> float:
        """Return the seconds to the next poll: after a failure as soon as it may be made."""
        usual_s = self._poll_s * (1 if self._any_open(polled) else _NIGHT_POLLS)
        if self._poll_failure is None:
            return usual_s
        return min(usual_s, max(_RETRY_S, self._poll_failure.retry_after_s or 0.0))

    async def _is_mute(self, symbols: frozenset[str]) -> bool:
        """Return whether a poll knows newer prices than the stream told."""
        quotes = await self.quotes(sorted(symbols), Lane.LIVE)
        return any(
            isinstance(quote, Quote) and self._ticks.is_behind(quote) for quote in quotes.values()
        )

    def _any_open(self, symbols: frozenset[str]) -> bool:
        now_ns = self._now_ns()
        return any(calendar_for(symbol).status(now_ns) == "open" for symbol in symbols)

    def _now_ns(self) -> int:
        return int(self._clock.time_s() * 1e9)


async def _into(queue: asyncio.Queue[Any], work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; what ends it is told through the queue, so that it cannot end unseen."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        await queue.put(error)
