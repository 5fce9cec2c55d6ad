"""The ticks of some symbols together, with what their day came to so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infra.bars import Ints
from infra.sources.simulated.market import Candles, Market

_SPAN_LEVEL = 3


@dataclass(frozen=True, slots=True, eq=False)
class SoFar:
    """High, low and volume of a day up to somewhere, in steps and shares."""

    high: Ints
    low: Ints
    volume: Ints

    def then(self, high: Ints, low: Ints, volume: Ints) -> SoFar:
        """Return the running values over the last axis of what follows, (n, m)."""
        return SoFar(
            np.maximum(np.maximum.accumulate(high, axis=1), self.high[:, None]),
            np.minimum(np.minimum.accumulate(low, axis=1), self.low[:, None]),
            volume.cumsum(axis=1) + self.volume[:, None],
        )

    def at(self, place: int) -> SoFar:
        """Return the running values at one place of the last axis."""
        return SoFar(self.high[:, place], self.low[:, place], self.volume[:, place])


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """All ticks of one span: `price` and `so_far` are of shape (ticks, symbols), the rest of
    shape (symbols,); prices in steps. `previous_close` is the open too.
    """

    number: int
    day: int
    price: Ints
    so_far: SoFar
    day_open: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    index: int  # of the candle that was cut
    parts: Candles
    so_far: SoFar


class Tape:
    """The spans of `rows` of a market, in any order; the next one in time costs least.

    It holds what the current day, hour and minute are cut into: about 6 kB a symbol.
    """

    def __init__(self, market: Market, rows: Ints) -> None:
        self._market = market
        self._rows = rows
        self._cuts: dict[int, _Cut] = {}
        self._span: Span | None = None

    def span(self, number: int) -> Span:
        """Return a span by its number since 1970."""
        if self._span is None or self._span.number != number:
            self._span = self._make(number)
        return self._span

    def _make(self, number: int) -> Span:
        candles, before = self._node(_SPAN_LEVEL, number)
        prices, volumes = self._market.ticks(candles, np.array([number]), self._rows)
        so_far = before.then(prices, prices, volumes)
        day = number // self._market.grid.spans_per_day
        return Span(
            number=number,
            day=day,
            price=np.ascontiguousarray(prices.T),
            so_far=SoFar(*(np.ascontiguousarray(getattr(so_far, n).T) for n in so_far.__slots__)),
            day_open=self._day(day)[0].open,
        )

    def _node(self, level: int, index: int) -> tuple[Candles, SoFar]:
        """Return one candle of each symbol, and the day up to it."""
        if level == 0:
            return self._day(index)
        parent, place = divmod(index, self._market.parts(level - 1))
        cut = self._cut(level - 1, parent)
        if place == 0:
            return cut.parts.each((slice(None), 0)), self._node(level - 1, parent)[1]
        return cut.parts.each((slice(None), place)), cut.so_far.at(place - 1)

    def _cut(self, level: int, index: int) -> _Cut:
        known = self._cuts.get(level)
        if known is None or known.index != index:
            candles, before = self._node(level, index)
            parts = self._market.cut(level, candles, np.array([index]), self._rows)
            known = _Cut(index, parts, before.then(parts.high, parts.low, parts.volume))
            self._cuts[level] = known
        return known

    def _day(self, day: int) -> tuple[Candles, SoFar]:
        known = self._cuts.get(-1)
        if known is None or known.index != day:
            candles = self._market.days(self._rows, day, day + 1).each((slice(None), 0))
            nothing = SoFar(candles.open, candles.open, np.zeros_like(candles.volume))
            known = self._cuts[-1] = _Cut(day, candles, nothing)
        return known.parts, known.so_far
