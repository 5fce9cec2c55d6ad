"""A source with what users imported beside it: symbols of their own, and bars that it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from cachetools import LRUCache

from infra.bars import IMPORT, Bars, History, Quote
from infra.calendars import calendar_for
from infra.clock import Clock
from infra.errors import FinstageError, IntervalUnsupported, SourceError, StoreError, SymbolUnknown
from infra.flights import SingleFlight
from infra.periods import DAILY_INTERVALS, INTERVALS, between, day_ns
from infra.session_bars import MINUTES, resample
from infra.sources.base import (
    Action,
    Event,
    Found,
    Fundamentals,
    Lane,
    NewsItem,
    Source,
    SymbolInfo,
    Tick,
    VersionChanged,
    Wanted,
)
from infra.sources.budget_state import BudgetState
from infra.sources.trouble import Trouble

T = TypeVar("T")

_KEPT = 500

_Key = tuple[str, str]  # symbol, interval


class Change(Protocol):
    """That bars were imported, or deleted: then they are not there."""

    @property
    def id(self) -> int:
        """Its number, which grows with time."""

    @property
    def is_there(self) -> bool:
        """Whether bars are there since."""


class Imports(Protocol):
    """Where imported bars are kept; every method raises StoreError."""

    async def latest(self, after_id: int) -> Mapping[_Key, Change]:
        """Return what was imported or deleted after an id, each with the last of it."""

    async def bars(self, symbol: str, interval: str) -> Bars:
        """Return all imported bars."""


class WithImports:
    """Answers as the source inside, and from imports where that knows no symbol or no bar.

    An imported symbol has bars at its interval and at those that can be made of it by sessions. A
    bar that the source has too is the source's, and where the source has the symbol nothing is
    given from after its last bar: that is where its clock stands. Imported bars are taken as
    traded, so those from before the source's first one are adjusted as that one is. The data
    version names the last change of a symbol's imports, of histories, quotes and ticks alike.
    What is read is kept: while the store is away the bars of before are given as stale.
    State: soft.
    """

    def __init__(self, inner: Source, imports: Imports, clock: Clock) -> None:
        self._inner = inner
        self._imports = imports
        self._clock = clock
        self._ids: dict[_Key, int] = {}
        self._changes: dict[str, int] = {}  # the last of each imported symbol
        self._last_id = 0
        self._looking = asyncio.Lock()
        self._flights = SingleFlight()
        self.import_only: frozenset[str] = frozenset()  # those that the source has no ticks of
        self._sources: dict[str, dict[str, str]] = {}  # of histories given, by symbol and interval
        self._behind: set[str] = set()  # symbols of which older bars were given as stale
        self._kept: LRUCache[_Key, tuple[int, Bars]] = LRUCache(_KEPT)
        self.name = inner.name
        self.synthetic = inner.synthetic
        self.is_open = inner.is_open
        self.intervals = inner.intervals

    async def look(self) -> tuple[str, ...]:
        """Return the symbols whose imports are others since the last look; raises StoreError.

        Those of which older bars were given meanwhile are named again.
        """
        async with self._looking:  # of two answers of the store the older could be taken last
            return await self._look()

    async def _look(self) -> tuple[str, ...]:
        new = await self._imports.latest(self._last_id)
        before = set(self._changes)
        touched: dict[str, int] = {}
        for key, change in new.items():
            self._last_id = max(self._last_id, change.id)
            touched[key[0]] = max(touched.get(key[0], 0), change.id)
            if change.is_there:
                self._ids[key] = change.id
            else:
                self._ids.pop(key, None)
                self._kept.pop(key, None)
        now = {symbol for symbol, _ in self._ids}
        for symbol, last_id in touched.items():
            if symbol in now:
                self._changes[symbol] = last_id
            else:
                self._changes.pop(symbol, None)
                self._sources.pop(symbol, None)
        only = [s for s in sorted(now.intersection(touched)) if not await self._is_known_inside(s)]
        self.import_only = self.import_only.difference(touched).union(only)
        behind, self._behind = self._behind, set()
        return tuple(sorted((before | now).intersection(behind.union(touched))))

    async def _is_known_inside(self, symbol: str) -> bool:
        try:
            return await self._inner.knows(symbol)
        except SourceError:
            return True  # so that its ticks come if it is

    def imported(self) -> tuple[str, ...]:
        """Return the symbols that have imported bars, sorted."""
        return tuple(sorted(self._changes))

    def source_of(self, symbol: str, interval: str) -> str:
        """Return who has the bars that were last given: the source, `import`, `SOURCE+import`."""
        if symbol in self.import_only:
            return IMPORT
        base = "1d" if interval in DAILY_INTERVALS else interval
        return self._sources.get(symbol, {}).get(base, self.name)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of both, sorted."""
        return tuple(sorted({*self._inner.symbols(), *self.imported()}))

    async def knows(self, symbol: str) -> bool:
        """Return whether either has this symbol."""
        return self._is_imported(symbol) or await self._inner.knows(symbol)

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        """Return the source's bars and the imported ones between them.

        Raises as the source where nothing was imported, IntervalUnsupported where neither has
        such bars, StoreError for imported bars that were not read before the store went away.
        """

        async def answer() -> History:
            if not self._is_imported(symbol):
                return await self._inner.history(symbol, interval, start, end, lane)
            return await self._history(symbol, interval, lane)

        history = await self._of_one_state(symbol, answer)
        if not self._is_imported(symbol):
            return history
        source = history.source_of(history.bars)
        self._sources.setdefault(symbol, {})[interval] = source
        return between(history, start, end)

    async def _history(self, symbol: str, interval: str, lane: Lane) -> History:
        mine = await self._own(symbol, interval)
        try:
            live = await self._inner.history(symbol, interval, lane=lane)
        except SymbolUnknown:
            live = None
        except IntervalUnsupported:
            live = None
            if mine is not None and symbol not in self.import_only:
                days = await self._inner.history(symbol, lane=lane)
                mine = _until(mine, days)
        if live is None:
            if mine is None:
                raise IntervalUnsupported(("query", "interval"), interval, self._intervals(symbol))
            return mine
        if mine is None:
            return replace(live, data_version=self._version(symbol, live.data_version))
        return _merged(live, mine)

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the source's latest prices, an imported symbol's last close."""
        found = await self._inner.quotes(symbols, lane)
        for symbol, answer in found.items():
            if isinstance(answer, SymbolUnknown) and self._is_imported(symbol):
                found[symbol] = await self._of_one_state(symbol, partial(self._last_close, symbol))
            elif isinstance(answer, Quote) and self._is_imported(symbol):
                version = self._version(symbol, answer.data_version)
                found[symbol] = replace(answer, data_version=version)
        return found

    async def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield what happens at the source; imports are told by `look`."""
        async for events in self._inner.stream(wanted):
            yield tuple(map(self._versioned, events)) if self._changes else events

    def _versioned(self, event: Event) -> Event:
        """Return an event of an imported symbol with the version that its history has."""
        if isinstance(event, VersionChanged) and event.symbol in self._changes:
            return replace(event, data_version=self._version(event.symbol, event.data_version))
        if isinstance(event, Tick) and event.quote.symbol in self._changes:
            quote = event.quote
            version = self._version(quote.symbol, quote.data_version)
            return replace(event, quote=replace(quote, data_version=version))
        return event

    def _version(self, symbol: str, version: str) -> str:
        """Return the version of what an imported symbol's imports are part of."""
        return f"{version}-{IMPORT}-{self._changes[symbol]}"

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return the source's splits and dividends; none are known of an import."""
        try:
            return await self._inner.actions(symbol)
        except SymbolUnknown:
            if not self._is_imported(symbol):
                raise
            return ()

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the source says of a symbol; of an import only its market is guessed."""
        try:
            return await self._inner.info(symbol)
        except SymbolUnknown:
            if not self._is_imported(symbol):
                raise
        zone = calendar_for(symbol).time_zone
        now_ns = int(self._clock.time_s() * 1e9)
        return SymbolInfo(symbol, None, None, None, None, 1, zone, "unknown", None, IMPORT, now_ns)

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Return the source's news."""
        return await self._inner.news(symbol, count)

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Return the source's figures."""
        return await self._inner.fundamentals(symbol)

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return imported symbols that hold `text`, then what the source finds."""
        sought = text.strip().upper()
        now_ns = int(self._clock.time_s() * 1e9)
        own = [
            Found(symbol, None, None, "unknown", IMPORT, now_ns)
            for symbol in self.imported()
            if sought in symbol
        ]
        others = await self._inner.search(text, count)
        known = {found.symbol for found in others}
        return (*(f for f in own if f.symbol not in known), *others)[:count]

    def budgets(self) -> tuple[BudgetState, ...]:
        """Return those of the source."""
        return self._inner.budgets()

    def trouble(self) -> Trouble | None:
        """Return that of the source."""
        return self._inner.trouble()

    async def close(self) -> None:
        """Close the source."""
        await self._inner.close()

    # -- imports ----------------------------------------------------------------------------

    def _is_imported(self, symbol: str) -> bool:
        return symbol in self._changes

    async def _of_one_state(self, symbol: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Return an answer while which nothing of the symbol was imported or deleted."""
        while True:
            before = self._changes.get(symbol)
            answer = await ask()
            if self._changes.get(symbol) == before:
                return answer

    def _intervals(self, symbol: str) -> tuple[str, ...]:
        """Return the intervals of which a symbol has imported bars or bars made of them."""
        return tuple(i for i in INTERVALS if self._base(symbol, i) is not None)

    def _base(self, symbol: str, interval: str) -> str | None:
        """Return the imported interval that `interval` is made of: itself, else the longest."""
        if (symbol, interval) in self._ids:
            return interval
        parts = [m for m in MINUTES if (symbol, m) in self._ids]
        if interval in MINUTES:
            parts = [m for m in parts if MINUTES[interval] % MINUTES[m] == 0]
        return max(parts, key=MINUTES.__getitem__, default=None)

    async def _own(self, symbol: str, interval: str) -> History | None:
        base = self._base(symbol, interval)
        if base is None:
            return None
        change = self._changes[symbol]
        bars, older, stale_since_s = await self._read(symbol, base)
        version = f"{IMPORT}-{older or change}"
        open_bar = Bars.empty()
        if base != interval:
            bars, open_bar = resample(bars, interval, calendar_for(symbol), given=base)
        ones = np.ones(len(bars))
        ones.flags.writeable = False
        now_s = self._clock.time_s()
        return History(
            symbol, bars, open_bar, ones, ones, version, now_s, IMPORT, interval, stale_since_s
        )

    async def _read(self, symbol: str, interval: str) -> tuple[Bars, int | None, float | None]:
        """Return the bars; where the store is away those of an older import, its id, and now."""
        key = symbol, interval
        wanted = self._ids[key]
        kept = self._kept.get(key)
        if kept is not None and kept[0] == wanted:
            return kept[1], None, None
        try:
            bars = await self._flights.run((key, wanted), partial(self._imports.bars, *key))
        except StoreError:
            if kept is None:
                raise
            self._behind.add(symbol)
            return kept[1], kept[0], self._clock.time_s()
        if self._ids.get(key) == wanted:
            self._kept[key] = wanted, bars
        return bars, None, None

    async def _last_close(self, symbol: str) -> Quote | FinstageError:
        intervals = self._intervals(symbol)
        if not intervals:
            return SymbolUnknown(symbol)
        daily = "1d" in intervals
        try:
            history = await self._own(symbol, "1d" if daily else intervals[-1])
        except StoreError as error:
            return error
        bars = Bars.concat(history.bars, history.open_bar) if history else Bars.empty()
        if history is None or not len(bars):
            return SymbolUnknown(symbol)
        return _quote(history, bars, daily)


def _until(mine: History, days: History) -> History:
    """Return the bars that opened before a source's last day, of its version of then."""
    rows = slice(0, int(np.searchsorted(mine.bars.opened_at_ns, last_opened_ns(days))))
    return replace(
        mine,
        bars=mine.bars[rows],
        price_factor=mine.price_factor[rows],
        volume_factor=mine.volume_factor[rows],
        open_bar=mine.open_bar if len(mine.bars) == rows.stop else Bars.empty(),
        data_version=f"{days.data_version}-{mine.data_version}",
    )


def last_opened_ns(live: History) -> int:
    """Return when a source's last bar opened, up to where imported ones are given beside it."""
    last = live.open_bar if len(live.open_bar) else live.bars
    return int(last.opened_at_ns[-1]) if len(last) else np.iinfo(np.int64).max


def _merged(live: History, mine: History) -> History:
    """Return the source's bars, and the imported ones that open at other times."""
    both_stale_s = [s for s in (live.stale_since_s, mine.stale_since_s) if s is not None]
    live = replace(
        live,
        data_version=f"{live.data_version}-{mine.data_version}",
        stale_since_s=min(both_stale_s, default=None),
    )
    stamps = mine.bars.opened_at_ns
    extra = mine.bars[~np.isin(stamps, live.bars.opened_at_ns) & (stamps < last_opened_ns(live))]
    if len(extra) == 0:
        return live
    both = Bars.concat(extra, live.bars)
    order = np.argsort(both.opened_at_ns, kind="stable")
    # An imported bar is as far from today's scale as the source's next one.
    following = np.searchsorted(live.bars.opened_at_ns, extra.opened_at_ns)
    factors = []
    for own in (live.price_factor, live.volume_factor):
        whole = np.concatenate((np.append(own, 1.0)[following], own))[order]
        whole.flags.writeable = False
        factors.append(whole)
    return replace(
        live,
        bars=both[order],
        price_factor=factors[0],
        volume_factor=factors[1],
        imported_ns=extra.opened_at_ns,
    )


def _quote(history: History, bars: Bars, daily: bool) -> Quote:
    """Return the last close as a price; a day's at the end of its session."""
    opened_ns = int(bars.opened_at_ns[-1])
    session = bars.session(-1)
    hours = calendar_for(history.symbol).hours(session) if daily else None
    return Quote(
        history.symbol,
        float(bars.close[-1]),
        float(bars.close[-2]) if len(bars) > 1 else None,
        float(bars.open[-1]),
        float(bars.high[-1]),
        float(bars.low[-1]),
        int(bars.volume[-1]),
        session,
        hours[1] if hours else max(opened_ns, day_ns(session)),
        "closed",
        IMPORT,
        False,
        history.data_version,
        stale=history.stale_since_s is not None,
    )
