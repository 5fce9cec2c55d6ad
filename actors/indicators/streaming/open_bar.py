"""The bar under way of one symbol at one interval, from ticks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from infra.bars import NS_PER_MINUTE, Bars
from infra.calendars import Market
from infra.periods import day_ns
from infra.session_bars import resample

_KEPT_BARS = 400  # closed here and not in a history yet


@dataclass(slots=True)
class Bar:
    """One bar; `opened_at_ns` Unix nanoseconds."""

    opened_at_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def values(self) -> list[float]:
        """Return what an engine takes."""
        return [self.open, self.high, self.low, self.close, self.volume]


def bars_of(bars: Sequence[Bar]) -> Bars:
    """Return bars as columns."""
    rows = np.array([bar.values for bar in bars], np.float64).reshape(-1, 5)
    open_, high, low, close, volume = rows.T.copy()
    stamps = np.array([bar.opened_at_ns for bar in bars], np.int64)
    return Bars(stamps, open_, high, low, close, volume.astype(np.int64))


@functools.lru_cache(maxsize=20_000)
def bar_opening(market: Market, minute_ns: int, interval: str) -> int | None:
    """Return when the bar opened that a minute of trading belongs to; None outside of hours."""
    one = bars_of([Bar(minute_ns, 1.0, 1.0, 1.0, 1.0, 0.0)])
    parts = resample(one, interval, market)
    return next((int(bars.opened_at_ns[0]) for bars in parts if len(bars)), None)


class OpenBar:
    """Ticks of one symbol as bars of one interval, and those that closed since the history.

    A bar of a day is the session's so far, as each price tells it; a shorter one opens where its
    place in the session begins, and its volume is the growth of the session's. State: soft,
    `since` is at most 400 bars; `missed` says that it was not enough, or may not be true.
    """

    def __init__(self, market: Market, interval: str) -> None:
        self.bar: Bar | None = None
        self.since: list[Bar] = []
        self.missed = False
        self._market = market
        self._interval = interval
        self._is_settled = interval == "1d"
        self._session = ""
        self._day_volume = 0

    def load(self, last_closed_ns: int, open_bar: Bars) -> None:
        """Take over from a history: what it has closed is forgotten here.

        Of a day the last price tells all, and has to be told again: it may be of another run.
        """
        if self._interval == "1d":
            self.bar = None
        self.since = [bar for bar in self.since if bar.opened_at_ns > last_closed_ns]
        newest_ns = max([last_closed_ns, *(bar.opened_at_ns for bar in self.since)])
        if self.bar is not None and self.bar.opened_at_ns <= newest_ns:
            self.bar = None
        if self.bar is None and len(open_bar) and int(open_bar.opened_at_ns[0]) > newest_ns:
            names = ("open", "high", "low", "close", "volume")
            values = (float(getattr(open_bar, name)[0]) for name in names)
            self.bar = Bar(int(open_bar.opened_at_ns[0]), *values)
        self.missed = False

    def take(self, price: dict[str, Any]) -> Bar | None:
        """Take a `price_update`; return the bar that it closes, if it closes one."""
        fresh = self._session_so_far(price) if self._interval == "1d" else self._part(price)
        if fresh is None:
            return None
        held = self.bar
        if held is not None and fresh.opened_at_ns < held.opened_at_ns:
            return None
        if self.since and fresh.opened_at_ns <= self.since[-1].opened_at_ns:
            return None
        if held is None or fresh.opened_at_ns > held.opened_at_ns:
            self.bar = fresh
            return None if held is None else self._close(held)
        if self._interval == "1d":
            self.bar = fresh
            return None
        held.high, held.low = max(held.high, fresh.high), min(held.low, fresh.low)
        held.close = fresh.close
        held.volume += fresh.volume
        return None

    def close(self, bar: Bar) -> None:
        """Take the word of somebody else for a bar that closed: the feed's of a minute."""
        if self.bar is not None and self.bar.opened_at_ns <= bar.opened_at_ns:
            self.bar = None
        self._close(bar)

    def replace(self, bar: Bar) -> None:
        """Take a revision of a bar that closed."""
        self.since = [bar if b.opened_at_ns == bar.opened_at_ns else b for b in self.since]

    def _close(self, bar: Bar) -> Bar:
        # The first may have begun before it was looked at, and bars between may be missing.
        if not self._is_settled or len(self.since) >= _KEPT_BARS:
            self._is_settled = self.missed = True
        self.since.append(bar)
        del self.since[:-_KEPT_BARS]
        return bar

    def _session_so_far(self, price: dict[str, Any]) -> Bar:
        opened_at_ns = day_ns(date.fromisoformat(price["session"]))
        values = (price[name] for name in ("open", "high", "low", "current_price", "volume"))
        return Bar(opened_at_ns, *map(float, values))

    def _part(self, price: dict[str, Any]) -> Bar | None:
        at_ns = round(datetime.fromisoformat(price["timestamp"]).timestamp() * 1_000) * 10**6
        minute_ns = at_ns - at_ns % NS_PER_MINUTE
        opened_at_ns = bar_opening(self._market, minute_ns, self._interval)
        volume = self._grown(price["session"], price["volume"])
        if opened_at_ns is None:
            return None
        value = float(price["current_price"])
        return Bar(opened_at_ns, value, value, value, value, volume)

    def _grown(self, session: str, day_volume: int) -> float:
        """Return what was traded since the last tick; of the first one nothing is known."""
        if session != self._session:
            is_first = not self._session
            self._session, self._day_volume = session, day_volume if is_first else 0
        grown = max(0, day_volume - self._day_volume)
        self._day_volume = max(day_volume, self._day_volume)
        return float(grown)
