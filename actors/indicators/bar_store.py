"""The bars of every symbol in one process, and what is derived from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from infra.bars import Bars, History
from infra.periods import DAILY_INTERVALS, INTERVALS, check_interval, resample

_Key = tuple[str, bool]  # interval, adjusted
Extremes = tuple[tuple[float, date], tuple[float, date]]


@dataclass(slots=True)
class _Shelf:
    """One symbol's bars of one interval of the source, and those derived from them so far."""

    history: History
    closed: dict[_Key, Bars] = field(default_factory=dict)
    open: dict[_Key, Bars] = field(default_factory=dict)
    extremes: Extremes | None = None


def base_interval(interval: str) -> str:
    """Return the interval whose bars `interval` is made from: 1d for days and longer."""
    return "1d" if interval in DAILY_INTERVALS else interval


class BarStore:
    """Holds a `History` per symbol and interval, and derives longer and adjusted bars from daily
    ones when first asked.

    Derived bars are kept until the data version changes. A symbol that is not held raises
    KeyError from every method but `get` and `forget`. Not safe for several threads.
    """

    def __init__(self) -> None:
        self._shelves: dict[str, dict[str, _Shelf]] = {}  # by base interval, by symbol
        self.revision = 0  # grows whenever closed bars of some symbol may be others

    @property
    def symbols(self) -> Collection[str]:
        """The symbols whose daily bars are held, in the order in which they came."""
        return self._shelves.get("1d", {}).keys()

    def put(self, history: History) -> None:
        """Hold `history`, instead of the symbol's former one if there is one."""
        shelves = self._shelves.setdefault(history.interval, {})
        shelf = shelves.get(history.symbol)
        if shelf is None or shelf.history.data_version != history.data_version:
            shelves[history.symbol] = _Shelf(history)
            self.revision += 1
        else:
            shelf.history = replace(shelf.history, stale_since_s=history.stale_since_s)
            self.revision += _replace_open_bar(shelf, history.open_bar)

    def get(self, symbol: str, interval: str = "1d") -> History | None:
        """Return the history that `interval` is made from, with its latest open bar, if held."""
        shelf = self._shelves.get(base_interval(interval), {}).get(symbol)
        return None if shelf is None else shelf.history

    def forget(self, symbol: str) -> None:
        """Drop all that is held of the symbol, if anything is."""
        self.revision += 1
        for shelves in self._shelves.values():
            shelves.pop(symbol, None)

    def _shelf(self, symbol: str, interval: str) -> _Shelf:
        return self._shelves[base_interval(interval)][symbol]

    def set_open_bar(self, symbol: str, bars: Bars) -> None:
        """Replace the session under way: `bars` is one daily bar, or empty when there is none.

        Cheap: longer bars that are closed depend on the session's date alone and stay. A session
        that is closed already is a late tick's and is left out.
        """
        shelf = self._shelf(symbol, "1d")
        closed = shelf.history.bars
        if len(bars) and len(closed) and bars.opened_at_ns[0] <= closed.opened_at_ns[-1]:
            return
        self.revision += _replace_open_bar(shelf, bars)

    def closed(self, symbol: str, interval: str = "1d", adjusted: bool = True) -> Bars:
        """Return the closed bars, oldest first; the same object until they change.

        Raises ParameterInvalid unless `interval` is one of `INTERVALS`.
        """
        shelf, key = self._shelf(symbol, check_interval(interval, INTERVALS)), (interval, adjusted)
        if key not in shelf.closed:
            _derive(shelf, key)
        return shelf.closed[key]

    def open_bar(self, symbol: str, interval: str = "1d", adjusted: bool = True) -> Bars:
        """Return the bar that is not closed yet: one row, or none.

        Its prices under way are as traded, which is adjusted too: their factor is 1.
        Raises ParameterInvalid unless `interval` is one of `INTERVALS`.
        """
        shelf, key = self._shelf(symbol, check_interval(interval, INTERVALS)), (interval, adjusted)
        if key not in shelf.open:
            _derive(shelf, key)
        return shelf.open[key]

    def extremes(self, symbol: str) -> Extremes | None:
        """Return the highest and the lowest adjusted price of all closed sessions, each with the
        first session that had it; None without bars."""
        shelf, bars = self._shelf(symbol, "1d"), self.closed(symbol)
        if shelf.extremes is None and len(bars):
            high, low = int(np.argmax(bars.high)), int(np.argmin(bars.low))
            shelf.extremes = (
                (float(bars.high[high]), bars.session(high)),
                (float(bars.low[low]), bars.session(low)),
            )
        return shelf.extremes


def _replace_open_bar(shelf: _Shelf, bars: Bars) -> bool:
    """Return whether bars of longer intervals may have closed with that."""
    former = shelf.history.open_bar
    shelf.history = replace(shelf.history, open_bar=bars)
    shelf.open.clear()
    if np.array_equal(former.opened_at_ns, bars.opened_at_ns):
        return False
    # another session can close a week or a month; days do not depend on it
    shelf.closed = {key: kept for key, kept in shelf.closed.items() if key[0] == "1d"}
    return True


def _derive(shelf: _Shelf, key: _Key) -> None:
    interval, adjusted = key
    held = _held(shelf, adjusted)
    if interval in DAILY_INTERVALS:
        closed, shelf.open[key] = resample(held, shelf.history.open_bar, interval)
    else:
        closed, shelf.open[key] = held, shelf.history.open_bar
    shelf.closed.setdefault(key, closed)


def _held(shelf: _Shelf, adjusted: bool) -> Bars:
    history = shelf.history
    if not adjusted:
        return history.bars
    key = (history.interval, True)
    if key not in shelf.closed:
        shelf.closed[key] = _adjust(history)
    return shelf.closed[key]


def _adjust(history: History) -> Bars:
    bars, factor = history.bars, history.price_factor
    return Bars(
        bars.opened_at_ns,
        bars.open * factor,
        bars.high * factor,
        bars.low * factor,
        bars.close * factor,
        np.rint(bars.volume * history.volume_factor).astype(np.int64),
    )
