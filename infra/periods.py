"""Periods and intervals: the names the API takes, and what they select."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal

import numpy as np
from dateutil.relativedelta import relativedelta

from infra.bars import NS_PER_DAY, Bars, History, Ints
from infra.errors import ParameterInvalid

PERIODS = ("1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max")
INTERVALS = (
    "1m", "2m", "5m", "15m", "30m", "60m", "90m", "1h", "1d", "5d", "1wk", "1mo", "3mo",
)  # fmt: skip
DAILY_INTERVALS = ("1d", "5d", "1wk", "1mo", "3mo")

_EPOCH = date(1970, 1, 1)
_SPANS = {
    "1mo": relativedelta(months=1),
    "3mo": relativedelta(months=3),
    "6mo": relativedelta(months=6),
    "1y": relativedelta(years=1),
    "2y": relativedelta(years=2),
    "5y": relativedelta(years=5),
    "10y": relativedelta(years=10),
}


def check_period(period: str) -> str:
    """Return `period` if it is one of `PERIODS`, else raise ParameterInvalid."""
    if period not in PERIODS:
        raise ParameterInvalid(("query", "period"), period, PERIODS)
    return period


def day_ns(day: date) -> int:
    """Return midnight UTC of a date as Unix nanoseconds."""
    return (day - _EPOCH).days * NS_PER_DAY


def rows_of_period(bars: Bars, period: str, interval: str = "1d") -> slice:
    """Return the rows that `period` selects, counted back from the last bar, never from today.

    `1d` and `5d` are the last one and five sessions: of bars under a day, those of the last UTC
    dates that have bars. Months and years reach back to the same day of the month, that day not
    included; `ytd` starts on 1 January of the last bar's year.
    """
    count = len(bars)
    if count == 0 or period == "max":
        return slice(0, count)
    if period in ("1d", "5d"):
        wanted = int(period[0])
        if interval in DAILY_INTERVALS:
            return slice(max(0, count - wanted), count)
        days = np.unique(bars.opened_at_ns // NS_PER_DAY)
        return slice(
            int(np.searchsorted(bars.opened_at_ns, days[-wanted:][0] * NS_PER_DAY)), count
        )
    first_ns = _first_ns(int(bars.opened_at_ns[-1]) // NS_PER_DAY, period)
    side: Literal["left", "right"] = "left" if period == "ytd" else "right"
    start = int(np.searchsorted(bars.opened_at_ns, first_ns, side=side))
    return slice(min(start, count - 1), count)


@functools.lru_cache(maxsize=1_024)
def _first_ns(last_day: int, period: str) -> int:
    """Return the midnight that a period begins at; days count from 1970-01-01."""
    last = _EPOCH + timedelta(days=last_day)
    return day_ns(date(last.year, 1, 1) if period == "ytd" else last - _SPANS[period])


def rows_of_range(bars: Bars, start: date | None, end: date | None) -> slice:
    """Return the rows from `start` (included) to `end` (not), both dates of the exchange."""
    stamps = bars.opened_at_ns
    first = 0 if start is None else int(np.searchsorted(stamps, day_ns(start)))
    stop = len(bars) if end is None else int(np.searchsorted(stamps, day_ns(end)))
    return slice(first, max(first, stop))


def between(history: History, start: date | None, end: date | None) -> History:
    """Return the part of a history from `start` (included) to `end` (not); None is no bound."""
    if start is None and end is None:
        return history
    rows = rows_of_range(history.bars, start, end)
    return replace(
        history,
        bars=history.bars[rows],
        price_factor=history.price_factor[rows],
        volume_factor=history.volume_factor[rows],
        open_bar=history.open_bar[rows_of_range(history.open_bar, start, end)],
    )


def bar_keys(sessions_ns: Ints, interval: str) -> Ints:
    """Return for each daily bar the number of the longer bar that it belongs to (int64).

    `5d` counts blocks of five sessions from the first one given; `1wk` is Monday to Sunday;
    `1mo` and `3mo` are calendar months and quarters.
    """
    if interval == "5d":
        return np.arange(len(sessions_ns), dtype=np.int64) // 5
    days = sessions_ns // NS_PER_DAY
    if interval == "1wk":
        return (days + 3) // 7  # 1970-01-01 was a Thursday
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return months // 3 if interval == "3mo" else months


def resample(daily: Bars, open_bar: Bars, interval: str) -> tuple[Bars, Bars]:
    """Return the closed bars of `interval`, and the open one (one row, or none).

    A longer bar is closed when the session under way, `open_bar`, belongs to the next one
    (for `5d`: when it has its five sessions); it opens at its first session.
    """
    if interval == "1d" or len(daily) + len(open_bar) == 0:
        return daily, open_bar
    both = Bars.concat(daily, open_bar)
    keys = bar_keys(both.opened_at_ns, interval)
    firsts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    lasts = np.r_[firsts[1:], len(keys)] - 1
    merged = Bars(
        both.opened_at_ns[firsts],
        both.open[firsts],
        np.maximum.reduceat(both.high, firsts),
        np.minimum.reduceat(both.low, firsts),
        both.close[lasts],
        np.add.reduceat(both.volume, firsts),
    )
    last_is_full = interval == "5d" and lasts[-1] - firsts[-1] == 4 and len(open_bar) == 0
    closed = len(merged) if last_is_full else len(merged) - 1
    return merged[:closed], merged[closed:]


def check_interval(interval: str, supported: Sequence[str]) -> str:
    """Return `interval` if the source has it, else raise ParameterInvalid."""
    if interval not in supported:
        raise ParameterInvalid(("query", "interval"), interval, supported)
    return interval
