"""A source with what users imported beside it: symbols of their own, and bars that it lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date
from typing import Protocol

import numpy as np
from cachetools import LRUCache

from infra.bars import IMPORT, Bars, History, Quote
from infra.calendars import calendar_for
from infra.clock import Clock
from infra.errors import FinstageError, IntervalUnsupported, SourceError, StoreError, SymbolUnknown
from infra.periods import INTERVALS, day_ns
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
    Wanted,
)
from infra.sources.budget_state import BudgetState
from infra.sources.replay import between
from infra.sources.trouble import Trouble

_KEPT = 500

_Key = tuple[str, str]  # symbol, interval


class Imports(Protocol):
    """Where imported bars are kept; every method raises StoreError."""

    async def latest(self, after_id: int) -> dict[_Key, int]:
        """Return what was imported after an import's id, each with the id of its last import."""

    async def bars(self, symbol: str, interval: str) -> Bars:
        """Return all imported bars."""


class WithImports:
    """Answers as the source inside, and from imports where that knows no symbol or no bar.

    An imported symbol has bars at its interval and at those that can be made of it by sessions. A
    bar that the source has too is the source's. Imported bars are taken as traded, so those from
    before the source's first one are adjusted as that one is. What is read is kept: while the
    store is away the bars of before are given as stale. State: soft.
    """

    def __init__(self, inner: Source, imports: Imports, clock: Clock) -> None:
        self._inner = inner
        self._imports = imports
        self._clock = clock
        self._ids: dict[_Key, int] = {}
        self._last_id = 0
        self.import_only: frozenset[str] = frozenset()  # those that the source has no ticks of
        self._kept: LRUCache[_Key, tuple[int, Bars]] = LRUCache(_KEPT)
        self.name = inner.name
        self.synthetic = inner.synthetic
        self.is_open = inner.is_open
        self.intervals = inner.intervals

    async def look(self) -> tuple[str, ...]:
        """Return the symbols that were imported since the last look; raises StoreError."""
        new = await self._imports.latest(self._last_id)
        self._ids |= new
        self._last_id = max((self._last_id, *new.values()))
        symbols = tuple(sorted({symbol for symbol, _ in new}))
        known = [await self._is_known_inside(symbol) for symbol in symbols]
        pairs = zip(symbols, known, strict=True)
        self.import_only |= {symbol for symbol, is_known in pairs if not is_known}
        return symbols

    async def _is_known_inside(self, symbol: str) -> bool:
        try:
            return await self._inner.knows(symbol)
        except SourceError:
            return True  # so that its ticks come if it is

    def imported(self) -> tuple[str, ...]:
        """Return the symbols that have imported bars, sorted."""
        return tuple(sorted({symbol for symbol, _ in self._ids}))

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
        if not self._is_imported(symbol):
            return await self._inner.history(symbol, interval, start, end, lane)
        try:
            live = await self._inner.history(symbol, interval, lane=lane)
        except (SymbolUnknown, IntervalUnsupported):
            live = None
        mine = await self._own(symbol, interval)
        if live is None and mine is None:
            raise IntervalUnsupported(("query", "interval"), interval, self._intervals(symbol))
        if live is None or mine is None:
            return between(live or _only(mine), start, end)
        return between(_merged(live, mine), start, end)

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the source's latest prices, an imported symbol's last close."""
        found = await self._inner.quotes(symbols, lane)
        for symbol, answer in found.items():
            if isinstance(answer, SymbolUnknown) and self._is_imported(symbol):
                found[symbol] = await self._last_close(symbol)
        return found

    def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield what happens at the source; imports are told by `look`."""
        return self._inner.stream(wanted)

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
        return any((symbol, interval) in self._ids for interval in INTERVALS)

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
        bars, stale_since_s = await self._read(symbol, base)
        open_bar = Bars.empty()
        if base != interval:
            bars, open_bar = resample(bars, interval, calendar_for(symbol), given=base)
        ones = np.ones(len(bars))
        ones.flags.writeable = False
        version = f"{IMPORT}-{self._ids[symbol, base]}"
        now_s = self._clock.time_s()
        return History(
            symbol, bars, open_bar, ones, ones, version, now_s, IMPORT, interval, stale_since_s
        )

    async def _read(self, symbol: str, interval: str) -> tuple[Bars, float | None]:
        """Return the bars, and since when they may be old."""
        key = symbol, interval
        wanted = self._ids[key]
        kept = self._kept.get(key)
        if kept is not None and kept[0] == wanted:
            return kept[1], None
        try:
            bars = await self._imports.bars(symbol, interval)
        except StoreError:
            if kept is None:
                raise
            return kept[1], self._clock.time_s()
        self._kept[key] = wanted, bars
        return bars, None

    async def _last_close(self, symbol: str) -> Quote | FinstageError:
        intervals = self._intervals(symbol)
        daily = "1d" in intervals
        try:
            history = await self._own(symbol, "1d" if daily else intervals[-1])
        except StoreError as error:
            return error
        bars = Bars.concat(history.bars, history.open_bar) if history else Bars.empty()
        if history is None or not len(bars):
            return SymbolUnknown(symbol)
        return _quote(history, bars, daily)


def _only(mine: History | None) -> History:
    assert mine is not None
    return mine


def _merged(live: History, mine: History) -> History:
    """Return the source's bars, and the imported ones that open at other times."""
    last = live.open_bar if len(live.open_bar) else live.bars
    end_ns = int(last.opened_at_ns[-1]) if len(last) else np.iinfo(np.int64).max
    stamps = mine.bars.opened_at_ns
    extra = mine.bars[~np.isin(stamps, live.bars.opened_at_ns) & (stamps < end_ns)]
    version = f"{live.data_version}-{mine.data_version}"
    if len(extra) == 0:
        return replace(live, data_version=version)
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
        data_version=version,
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
