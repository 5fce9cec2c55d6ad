"""A recorded stream, played as if it came now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from infra.bars import History, Quote
from infra.calendars import calendar_for
from infra.clock import Clock
from infra.errors import FinstageError, IntervalUnsupported, SymbolUnknown
from infra.periods import INTERVALS, between
from infra.session_bars import MINUTES, resample
from infra.sources.base import (
    Action,
    Event,
    Found,
    Lane,
    SymbolInfo,
    Tick,
    VersionChanged,
    Wanted,
    WithoutExtras,
)
from infra.sources.recorded.player import Player
from infra.sources.recorded.recording import read_header
from infra.symbols import nearest

logger = logging.getLogger(__name__)

NAME = "recording"

_EDGE_S = 1e-6  # Unix seconds as float64 are exact to 0.24 us
_LINES_AT_ONCE = 200  # then others get their turn
_LONGEST_WAIT_S = 60.0


class RecordedSource(WithoutExtras):
    """Plays a file of `finstage record` once, and stands where it ended.

    Second t of the recording comes `t / speed` seconds after `started_at_s` (Unix seconds), so a
    process that starts anew goes on where it should be; with `speed` 0 everything comes as fast
    as it is taken. Prices keep the times at which they traded, and `synthetic` is what it was.
    Daily bars are those of the recorded source, minute bars its own and those of the ticks since;
    longer ones under a day are made of them.
    Raises ValueError for a file that cannot be read.
    """

    name = NAME
    is_open = False
    intervals: tuple[str, ...] = INTERVALS

    def __init__(self, clock: Clock, started_at_s: float, path: Path, speed: float = 1.0) -> None:
        header = read_header(path)
        self.synthetic = header.synthetic
        self._clock = clock
        self._started_at_s = started_at_s
        self._speed = speed
        self._player = Player(path, NAME)
        self._symbols = tuple(sorted(self._player.described))
        self._untold: list[tuple[Event, ...]] | None = None  # None: nobody streams

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols, sorted."""
        return self._symbols

    async def knows(self, symbol: str) -> bool:
        """Return whether the symbol was recorded."""
        return symbol in self._player.described

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        """Return daily bars, or those under a day; raises SymbolUnknown, IntervalUnsupported."""
        self._described(symbol)
        if interval != "1d" and interval not in MINUTES:
            raise IntervalUnsupported(("query", "interval"), interval, self.intervals)
        await self._play_on()
        if interval == "1d":
            return between(self._player.daily(symbol), start, end)
        minutes = self._player.minutes(symbol)
        held = minutes if interval == "1m" else self._longer(minutes, interval)
        return between(held, start, end)

    def _longer(self, minutes: History, interval: str) -> History:
        """Return longer bars than those of a minute, by the sessions of the exchange."""
        info = self._player.described[minutes.symbol].info
        market = calendar_for(info.symbol, info.exchange, info.kind)
        closed, open_bar = resample(minutes.bars, interval, market)
        ones = np.ones(len(closed))
        ones.flags.writeable = False
        return replace(
            minutes,
            bars=closed,
            open_bar=open_bar,
            price_factor=ones,
            volume_factor=ones,
            interval=interval,
        )

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the last price of each symbol that had one by now, or SymbolUnknown."""
        await self._play_on()
        return {s: self._player.quotes.get(s) or self._unknown(s) for s in symbols}

    async def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield all that was recorded, at its time; first the versions and last prices."""
        await self._play_on()
        self._untold = []
        versions = (VersionChanged(s, self._player.versions[s], False) for s in self._symbols)
        yield (*versions, *(Tick(q) for _, q in sorted(self._player.quotes.items())))
        try:
            while (next_at_s := self._player.next_at_s) is not None:
                if self._speed:
                    await self._wait_until(next_at_s)
                    await self._play_on()
                else:
                    self._untold.append(self._player.step())
                    await asyncio.sleep(0)
                while self._untold:
                    yield self._untold.pop(0)
        finally:
            self._untold = None
        logger.info("recording.over")
        await asyncio.Event().wait()

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return the splits and dividends known when it was recorded; raises SymbolUnknown."""
        self._described(symbol)
        return self._player.described[symbol].actions

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is; raises SymbolUnknown."""
        self._described(symbol)
        return self._player.described[symbol].info

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return recorded symbols whose symbol or name holds `text`, then those alike."""
        sought = text.strip().upper()
        infos = {symbol: d.info for symbol, d in self._player.described.items()}
        holding = [s for s in self._symbols if sought in f"{s} {infos[s].name or ''}".upper()]
        found = dict.fromkeys([*holding, *nearest(sought, self._symbols, count)])
        return tuple(
            Found(s, infos[s].name, infos[s].exchange, infos[s].kind, self.name, 0)
            for s in list(found)[:count]
        )

    async def _play_on(self) -> None:
        """Play to where the clock says that it is; without a speed, what was there at first."""
        at_s = (self._clock.time_s() - self._started_at_s + _EDGE_S) * self._speed
        for number, events in enumerate(self._player.until(at_s)):
            if self._untold is not None:
                self._untold.append(events)
            if number % _LINES_AT_ONCE == _LINES_AT_ONCE - 1:
                await asyncio.sleep(0)

    async def _wait_until(self, at_s: float) -> None:
        due_s = self._started_at_s + at_s / self._speed
        while (wait_s := due_s - self._clock.time_s()) > 0:
            await self._clock.sleep(min(wait_s, _LONGEST_WAIT_S))

    def _described(self, symbol: str) -> None:
        if symbol not in self._player.described:
            raise self._unknown(symbol)

    def _unknown(self, symbol: str) -> SymbolUnknown:
        return SymbolUnknown(symbol, nearest(symbol, self._symbols))
