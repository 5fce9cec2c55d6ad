"""Minute bars from ticks, and their repair from the source's own bars."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from infra.bars import NS_PER_MINUTE, Bars

KEEP_BARS = 2_000  # five sessions of New York
GRACE_NS = 2 * 10**9  # ticks of a minute come until so long after its end
_SAME_PRICE = 1e-6  # relative: stream prices are 32-bit


@dataclass(frozen=True, slots=True)
class BarUpdate:
    """A minute's bar as told: `revision` 0 when it closed, one more for each change since."""

    symbol: str
    opened_at_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    revision: int


@dataclass(slots=True)
class _Bar:
    open: float
    high: float
    low: float
    close: float
    volume: int
    first_ns: int
    last_ns: int
    revision: int = -1  # not told yet

    def take(self, at_ns: int, price: float, volume: int) -> None:
        """Add a tick, in whatever order ticks come."""
        if at_ns < self.first_ns:
            self.first_ns, self.open = at_ns, price
        if at_ns >= self.last_ns:
            self.last_ns, self.close = at_ns, price
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.volume += volume

    def told(self, symbol: str, opened_at_ns: int) -> BarUpdate:
        """Return the bar with its next revision."""
        self.revision += 1
        return BarUpdate(
            symbol,
            opened_at_ns,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.revision,
        )


@dataclass(slots=True)
class _Symbol:
    """One symbol's bars by opening, oldest first. `day_volume` is the last tick's."""

    bars: dict[int, _Bar] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    session: date | None = None
    day_volume: int = 0

    def bar(self, opened_at_ns: int) -> _Bar | None:
        return self.bars.get(opened_at_ns)

    def put(self, opened_at_ns: int, bar: _Bar) -> None:
        if opened_at_ns not in self.bars:
            insort(self.order, opened_at_ns)
        self.bars[opened_at_ns] = bar
        while len(self.order) > KEEP_BARS:
            del self.bars[self.order.pop(0)]


class BarBuilder:
    """Builds the minute bars of many symbols from their ticks; a minute without ticks has none.

    A bar closes with the first tick of a later minute, or some seconds after its end. A late tick
    revises its bar as long as it is kept. Volume is the growth of the session's cumulative one:
    what traded while ticks were missed is counted with the tick after, until a repair says where
    it belongs. State: soft, `KEEP_BARS` bars a symbol. Not safe for several threads.
    """

    def __init__(self) -> None:
        self._symbols: dict[str, _Symbol] = {}

    def add(
        self, symbol: str, at_ns: int, price: float, day_volume: int, session: date
    ) -> list[BarUpdate]:
        """Take a tick; return the bars that it closes or revises, mostly none."""
        held = self._symbols.get(symbol)
        if held is None:
            # Of what traded before it was looked at nothing is known.
            held = self._symbols[symbol] = _Symbol(session=session, day_volume=day_volume)
        if session != held.session:
            held.session, held.day_volume = session, 0
        volume = max(0, day_volume - held.day_volume)
        held.day_volume = max(day_volume, held.day_volume)
        opened_at_ns = at_ns - at_ns % NS_PER_MINUTE
        bar = held.bar(opened_at_ns)
        if bar is None:
            held.put(opened_at_ns, _Bar(price, price, price, price, volume, at_ns, at_ns))
            is_newest = held.order[-1] == opened_at_ns
            return self._closed(symbol, held, opened_at_ns) if is_newest else []
        bar.take(at_ns, price, volume)
        return [bar.told(symbol, opened_at_ns)] if bar.revision >= 0 else []

    def close_due(self, now_ns: int) -> list[BarUpdate]:
        """Return the bars whose minute ended some seconds ago, and that were not told yet."""
        over_ns = now_ns - GRACE_NS - NS_PER_MINUTE + 1
        updates: list[BarUpdate] = []
        for symbol, held in self._symbols.items():
            updates += self._closed(symbol, held, over_ns)
        return updates

    def repair(self, symbol: str, bars: Bars) -> list[BarUpdate]:
        """Take the source's own closed bars; return those that were missing here or differ."""
        held = self._symbols.setdefault(symbol, _Symbol())
        updates: list[BarUpdate] = []
        for row in range(len(bars)):
            opened_at_ns = int(bars.opened_at_ns[row])
            own, true = held.bar(opened_at_ns), _row(bars, row)
            if own is None or not _same(own, true):
                true.revision = -1 if own is None else own.revision
                held.put(opened_at_ns, true)
                updates.append(true.told(symbol, opened_at_ns))
            elif own.revision < 0:
                updates.append(own.told(symbol, opened_at_ns))
        return updates

    def bars(self, symbol: str) -> Bars:
        """Return the bars that were told, oldest first."""
        held = self._symbols.get(symbol, _Symbol())
        told = [(at, held.bars[at]) for at in held.order if held.bars[at].revision >= 0]
        open_, high, low, close = (
            np.array([getattr(bar, name) for _, bar in told], np.float64) for name in _PRICES
        )
        opened_at_ns = np.array([at for at, _ in told], np.int64)
        volume = np.array([bar.volume for _, bar in told], np.int64)
        return Bars(opened_at_ns, open_, high, low, close, volume)

    def _closed(self, symbol: str, held: _Symbol, before_ns: int) -> list[BarUpdate]:
        """Tell the bars that opened before an instant and were not told."""
        end = bisect_left(held.order, before_ns)
        untold: list[int] = []
        for opened_at_ns in reversed(held.order[:end]):
            if held.bars[opened_at_ns].revision >= 0:
                break
            untold.append(opened_at_ns)
        return [held.bars[at].told(symbol, at) for at in reversed(untold)]


_PRICES = ("open", "high", "low", "close")


def _row(bars: Bars, row: int) -> _Bar:
    open_, high, low, close = (float(getattr(bars, name)[row]) for name in _PRICES)
    opened_at_ns = int(bars.opened_at_ns[row])
    last_ns = opened_at_ns + NS_PER_MINUTE - 1
    return _Bar(open_, high, low, close, int(bars.volume[row]), opened_at_ns, last_ns)


def _same(own: _Bar, true: _Bar) -> bool:
    pairs: Iterable[tuple[float, float]] = (
        (getattr(own, name), getattr(true, name)) for name in _PRICES
    )
    same_prices = all(abs(a - b) <= _SAME_PRICE * abs(b) for a, b in pairs)
    return same_prices and own.volume == true.volume
