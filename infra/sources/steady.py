"""Live sources made steady: what was good is kept, and given as stale while they fail.

Every value is asked for once for all who want it, is fresh for a while, and is the last good one
with its age until a limit per kind of data. Beyond the limit the failure itself is the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, TypeVar

from cachetools import LRUCache

from infra.bars import History, Quote
from infra.clock import Clock
from infra.errors import FinstageError, SourceError, SourceUnavailable, SymbolUnknown
from infra.flights import SingleFlight
from infra.sources.base import (
    Action,
    Event,
    Found,
    Fundamentals,
    Lane,
    NewsItem,
    Source,
    StreamLost,
    SymbolInfo,
    Tick,
    Wanted,
)
from infra.sources.budget_state import BudgetState
from infra.sources.kept import Answer, KeptAnswers
from infra.sources.trouble import Trouble

T = TypeVar("T")

UNKNOWN_FOR_S = 3_600.0  # an unknown symbol costs one request an hour
MAX_SYMBOLS = 20_000

_MINUTE_S = 60.0
_HISTORY_FRESH_S = {"1d": 15 * _MINUTE_S}  # shorter bars: a quarter of a minute
_INTRADAY_FRESH_S = 15.0
_OTHER_FRESH_S = 15 * _MINUTE_S


@dataclass(frozen=True, slots=True)
class Limits:
    """How long values are fresh and may be stale, in seconds."""

    quote_fresh_s: float = 5.0
    quote_stale_s: float = 900.0
    history_stale_s: float = 7 * 86_400.0
    other_stale_s: float = 86_400.0


@dataclass(slots=True)
class _Price:
    quote: Quote
    received_s: float
    fresh_until_s: float


class SteadySource:
    """A chain of live sources behind the protocol of one: the first that answers is heard.

    State: soft, the last good value of everything asked for, the least recently used dropped
    beyond `MAX_SYMBOLS` prices and the bytes of `kept`. Not safe for several threads.
    """

    is_open = True

    def __init__(self, chain: Sequence[Source], clock: Clock, limits: Limits) -> None:
        self._chain = tuple(chain)
        self._clock = clock
        self._limits = limits
        self.kept = KeptAnswers(clock.monotonic_s)
        self._prices: LRUCache[str, _Price] = LRUCache(MAX_SYMBOLS)
        self._versions: LRUCache[str, str] = LRUCache(MAX_SYMBOLS)
        self._unknown_until_s: LRUCache[str, float] = LRUCache(MAX_SYMBOLS)
        self._met: set[str] = set()
        self._streamed: set[str] = set()
        self._wanted = Wanted()
        self._flights = SingleFlight()
        first = self._chain[0]
        self.name = first.name
        self.synthetic = first.synthetic
        self.intervals = first.intervals

    # -- symbols ----------------------------------------------------------------------------

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols met so far, sorted."""
        return tuple(sorted(self._met))

    async def knows(self, symbol: str) -> bool:
        """Return whether a source has it; asks for a price if it was not met, or SourceError."""
        if symbol in self._met:
            return True
        answer = (await self.quotes([symbol]))[symbol]
        if isinstance(answer, SourceError):
            raise answer
        return isinstance(answer, Quote)

    def _refused(self, symbol: str) -> bool:
        until_s = self._unknown_until_s.get(symbol)
        return until_s is not None and self._clock.monotonic_s() < until_s

    def _note_unknown(self, symbol: str) -> None:
        if symbol not in self._met:  # one that was good is only away for now
            self._unknown_until_s[symbol] = self._clock.monotonic_s() + UNKNOWN_FOR_S

    # -- prices -----------------------------------------------------------------------------

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the latest price of each symbol, from the stream where it runs."""
        found = {s: q for s in symbols if (q := self._fresh_quote(s)) is not None}
        missing = [s for s in symbols if s not in found and not self._refused(s)]
        asked = await self._asked_quotes(missing, lane) if missing else {}
        return {
            s: found.get(s) or self._settled(s, asked.get(s, SymbolUnknown(s))) for s in symbols
        }

    def _fresh_quote(self, symbol: str) -> Quote | None:
        price = self._prices.get(symbol)
        if price is None:
            return None
        is_live = symbol in self._streamed and symbol in self._wanted.symbols
        is_fresh = is_live or self._clock.time_s() < price.fresh_until_s
        return price.quote if is_fresh else None

    async def _asked_quotes(
        self, symbols: Sequence[str], lane: Lane
    ) -> dict[str, Quote | FinstageError]:
        answers: dict[str, Quote | FinstageError] = {}
        left = list(symbols)
        for source in self._chain:
            try:
                answers |= await source.quotes(left, lane)
            except SourceError as error:
                answers |= {s: error for s in left}
            left = [s for s in left if isinstance(answers[s], FinstageError)]
            if not left:
                break
        return answers

    def _settled(self, symbol: str, answer: Quote | FinstageError) -> Quote | FinstageError:
        """Keep a good price, remember an unknown symbol, give the last good one on failure."""
        if isinstance(answer, Quote):
            return self._keep_quote(answer)
        if isinstance(answer, SymbolUnknown):
            self._note_unknown(symbol)
            return answer
        price = self._prices.get(symbol)
        if price is None or self._clock.time_s() - price.received_s > self._limits.quote_stale_s:
            return answer
        return replace(price.quote, stale=True)

    def _keep_quote(self, quote: Quote) -> Quote:
        """Keep the newer of a quote and what is known: an answer can be overtaken by a tick."""
        now_s = self._clock.time_s()
        price = self._prices.get(quote.symbol)
        if price is not None and _is_newer(price.quote, quote):
            quote = price.quote
        self._met.add(quote.symbol)
        version = self._versions.get(quote.symbol)
        if version is not None:
            quote = replace(quote, data_version=version)
        self._prices[quote.symbol] = _Price(quote, now_s, now_s + self._limits.quote_fresh_s)
        return quote

    async def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield the ticks of the first source; while it streams they are the fresh prices."""
        self._wanted = wanted
        async for events in self._chain[0].stream(wanted):
            self._streamed &= wanted.symbols
            yield tuple(self._noted(event, wanted) for event in events)

    def _noted(self, event: Event, wanted: Wanted) -> Event:
        if isinstance(event, Tick):
            if event.quote.session_part != "regular":  # no answer to what the price is
                return event
            quote = self._keep_quote(event.quote)
            if event.is_streamed and quote.symbol in wanted.symbols:
                self._streamed.add(quote.symbol)
            return replace(event, quote=quote)
        if isinstance(event, StreamLost):
            self._streamed.clear()
        return event

    # -- everything else --------------------------------------------------------------------

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        """Return bars, new ones at most every 15 s (daily: 15 minutes); a span is asked anew."""
        if start or end:
            return await self._ask(symbol, lambda s: s.history(symbol, interval, start, end, lane))
        answer, is_stale = await self._steady(
            ("history", symbol, interval),
            symbol,
            lambda s: s.history(symbol, interval, lane=lane),
            _HISTORY_FRESH_S.get(interval, _INTRADAY_FRESH_S),
            self._limits.history_stale_s,
            lane,
        )
        history: History = answer.value
        if interval == "1d":
            self._versions[symbol] = history.data_version
        return replace(history, stale_since_s=answer.received_s) if is_stale else history

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return all known splits and dividends, oldest first."""
        actions: tuple[Action, ...] = await self._other(symbol, "actions", symbol)
        return actions

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is."""
        info: SymbolInfo = await self._other(symbol, "info", symbol)
        return info

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Return the latest headlines, newest first."""
        news: tuple[NewsItem, ...] = await self._other(symbol, "news", symbol, count)
        return news

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Return the figures of the company."""
        fundamentals: Fundamentals = await self._other(symbol, "fundamentals", symbol)
        return fundamentals

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return symbols that `text` may mean, best first."""
        found: tuple[Found, ...] = await self._other("", "search", text, count)
        return found

    def budgets(self) -> tuple[BudgetState, ...]:
        """Return those of all sources."""
        return tuple(state for source in self._chain for state in source.budgets())

    def trouble(self) -> Trouble | None:
        """Return that of the first source that has some: what others answer is not the whole."""
        return next((t for source in self._chain if (t := source.trouble()) is not None), None)

    async def close(self) -> None:
        """Close all sources."""
        for source in self._chain:
            await source.close()

    async def _other(self, symbol: str, method: str, *args: Any) -> Any:
        answer, _ = await self._steady(
            (method, *args),
            symbol,
            lambda source: getattr(source, method)(*args),
            _OTHER_FRESH_S,
            self._limits.other_stale_s,
        )
        return answer.value

    async def _steady(
        self,
        key: tuple[Hashable, ...],
        symbol: str,
        call: Callable[[Source], Awaitable[Any]],
        fresh_s: float,
        stale_s: float,
        lane: Lane = Lane.INTERACTIVE,
    ) -> tuple[Answer, bool]:
        """Return the answer, and whether it is an old one in place of a failure."""
        answer = self.kept.fresh(key)
        if answer is not None:
            return answer, False

        async def asked() -> Answer:
            answer = Answer(await self._ask(symbol, call), self._clock.time_s())
            self.kept.keep(key, answer, fresh_s, stale_s)
            return answer

        try:
            return await self._flights.run(key, asked, lane), False
        except SourceError:
            answer = self.kept.last(key)
            if answer is None:
                raise
            return answer, True

    async def _ask(self, symbol: str, call: Callable[[Source], Awaitable[T]]) -> T:
        """Return the first good answer of the chain, or raise the last failure."""
        if symbol and self._refused(symbol):
            raise SymbolUnknown(symbol)
        failure: FinstageError = SourceUnavailable("no source")
        for source in self._chain:
            try:
                answer = await call(source)
            except (SourceError, SymbolUnknown) as error:
                failure = error
                continue
            if symbol:
                self._met.add(symbol)
            return answer
        if isinstance(failure, SymbolUnknown):
            self._note_unknown(symbol)
        raise failure


def _is_newer(kept: Quote, quote: Quote) -> bool:
    return kept.source == quote.source and kept.traded_at_ns > quote.traded_at_ns
