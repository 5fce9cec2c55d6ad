"""Longer bars from shorter ones, by the sessions of the exchange.

A session is cut into spans of trading: the pre market, the regular hours before and after a lunch
break (one span where there is none), the post market. Bars under a day are counted from the
opening of their span in time that passes, not by the hands of the clock, and end with it: 60m
bars of New York open at 9:30, 10:30 and so on to 15:30, which has half an hour; those of Tokyo
at 9:00, 10:00, 11:00 (half an hour) and again from 12:30. So no bar holds two sessions or both
sides of a break, half days end early, and daylight saving moves nothing. Markets round the clock
have one span a session: by UTC's date for cryptocurrencies, by London's for currencies, from the
evening before their date for futures.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from infra.bars import NS_PER_MINUTE, Bars, Ints
from infra.calendars import Market
from infra.periods import DAILY_INTERVALS, INTERVALS, check_interval, day_ns
from infra.periods import resample as resample_daily

# Minutes of the intervals under a day.
MINUTES = {
    "1m": 1, "2m": 2, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "90m": 90, "1h": 60,
}  # fmt: skip

_EXTENDED_NS = 8 * 60 * NS_PER_MINUTE  # no pre or post market is longer
_ONE_DAY = timedelta(days=1)


class _Span(NamedTuple):
    """Trading without a break, Unix nanoseconds; `session_ns` is midnight UTC of its date."""

    opened_ns: int
    closed_ns: int
    session_ns: int


def resample(
    bars: Bars, interval: str, market: Market, extended: bool = False, given: str = "1m"
) -> tuple[Bars, Bars]:
    """Return the closed bars of `interval` that bars of `given` make, and the open one or none.

    `bars` are closed: a longer bar is open while the end of the last of them is before its own.
    A bar under a day opens where its place in the session begins, also if nothing traded there
    at once; places without a trade have no bar. A bar of 1d is the whole session, dated by it;
    from 5d on they are as in `infra.periods`. Only regular hours count; `extended` keeps the pre
    and post market too, in bars of their own, but never in those of 1d and longer. What no session
    covers, so also what is older than the calendar, is dropped; daily bars are not looked up.

    Raises ParameterInvalid for an unknown interval, ValueError where `given` is no part of it.
    """
    _check(interval, given)
    if len(bars) == 0:
        return bars, bars
    if given == "1d":
        return resample_daily(bars, bars[:0], interval)
    kept, spans = _covered(bars, market, extended and interval in MINUTES)
    if len(kept) == 0:
        return kept, kept
    until_ns = int(bars.opened_at_ns[-1]) + MINUTES[given] * NS_PER_MINUTE
    if interval in MINUTES:
        length_ns = MINUTES[interval] * NS_PER_MINUTE
        passed_ns = kept.opened_at_ns - spans[:, 0]
        made = _merged(kept, spans[:, 0] + passed_ns // length_ns * length_ns)
        ends_ns = min(int(made.opened_at_ns[-1]) + length_ns, int(spans[-1, 1]))
        return _parted(made, until_ns < ends_ns)
    made = _merged(kept, spans[:, 2])
    hours = market.hours(made.session(-1))
    daily = _parted(made, hours is not None and until_ns < hours[1])
    return daily if interval == "1d" else resample_daily(*daily, interval)


def _parted(bars: Bars, last_is_open: bool) -> tuple[Bars, Bars]:
    closed = len(bars) - last_is_open
    return bars[:closed], bars[closed:]


def _check(interval: str, given: str) -> None:
    check_interval(interval, INTERVALS)
    if given in MINUTES:
        fits = interval in DAILY_INTERVALS or MINUTES[interval] % MINUTES[given] == 0
    else:
        fits = given == "1d" and interval in DAILY_INTERVALS
    if not fits:
        raise ValueError(f"bars of {interval} cannot be made of bars of {given}")


def _covered(bars: Bars, market: Market, extended: bool) -> tuple[Bars, Ints]:
    """Return the bars within spans, and for each of them its span's fields, int64 (n, 3)."""
    spans = _spans(market, bars, extended)
    rows = np.searchsorted(spans[:, 0], bars.opened_at_ns, side="right") - 1
    within = rows >= 0
    within[within] = bars.opened_at_ns[within] < spans[rows[within], 1]
    return bars[within], spans[rows[within]]


def _merged(bars: Bars, opened_at_ns: Ints) -> Bars:
    """Return one bar for each run of equal openings."""
    if len(bars) == 0:
        return bars
    firsts = np.flatnonzero(np.r_[True, opened_at_ns[1:] != opened_at_ns[:-1]])
    return Bars(
        opened_at_ns[firsts],
        bars.open[firsts],
        np.maximum.reduceat(bars.high, firsts),
        np.minimum.reduceat(bars.low, firsts),
        bars.close[np.r_[firsts[1:], len(bars)] - 1],
        np.add.reduceat(bars.volume, firsts),
    )


# -- spans ---------------------------------------------------------------------------------------


def _spans(market: Market, bars: Bars, extended: bool) -> Ints:
    """Return all spans that bars may be in, in order, int64 (n, 3)."""
    first, last = (datetime.fromtimestamp(bars.opened_at_ns[row] // 10**9, UTC) for row in (0, -1))
    # An exchange's date is at most one away from UTC's.
    days = market.sessions(first.date() - _ONE_DAY, last.date() + 2 * _ONE_DAY)
    spans = [span for day in days for span in _spans_of(market, day, extended)]
    return np.array(spans, np.int64).reshape(-1, len(_Span._fields))


@functools.lru_cache(maxsize=50_000)
def _spans_of(market: Market, day: date, extended: bool) -> tuple[_Span, ...]:
    hours = market.hours(day)
    if hours is None:
        return ()
    edges = [hours[0], *market.lunch_break(day), hours[1]]
    if extended:
        edges = [_pre_opens(market, hours[0]), hours[0], *edges, hours[1]]
        edges.append(_post_closes(market, hours[1]))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple(_Span(opens, closes, day_ns(day)) for opens, closes in pairs if opens < closes)


def _pre_opens(market: Market, opens_ns: int) -> int:
    """Return when the pre market opens; `opens_ns` itself where there is none."""
    minutes = range(opens_ns - _EXTENDED_NS, opens_ns, NS_PER_MINUTE)
    closed = bisect_left(minutes, True, key=lambda at_ns: market.part(at_ns) == "pre")
    return minutes.start + closed * NS_PER_MINUTE


def _post_closes(market: Market, closes_ns: int) -> int:
    """Return when the post market closes; `closes_ns` itself where there is none."""
    minutes = range(closes_ns, closes_ns + _EXTENDED_NS, NS_PER_MINUTE)
    traded = bisect_left(minutes, True, key=lambda at_ns: market.part(at_ns) != "post")
    return closes_ns + traded * NS_PER_MINUTE
