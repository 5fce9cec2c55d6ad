"""Candles of one symbol in a row, of any length from a minute to a day, up to a tick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infra.bars import NS_PER_DAY, NS_PER_MINUTE, Ints
from infra.sources.simulated.market import MINUTES_PER_DAY, Candles, Market


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Candles and when they opened (Unix nanoseconds), both of shape (n,)."""

    opened_at_ns: Ints
    candles: Candles

    @classmethod
    def regular(cls, first_ns: int, minutes: int, candles: Candles) -> Series:
        """Return candles that follow each other from a time on."""
        numbers = np.arange(len(candles.open), dtype=np.int64)
        return cls(first_ns + numbers * (minutes * NS_PER_MINUTE), candles)

    @classmethod
    def joined(cls, first: Series, second: Series) -> Series:
        """Return `first` followed by `second`."""
        stamps = np.concatenate((first.opened_at_ns, second.opened_at_ns))
        return cls(stamps, Candles.joined(first.candles, second.candles))


def whole_days(market: Market, row: int, minutes: int, first_day: int, stop_day: int) -> Series:
    """Return the candles of UTC days (since 1970), each `minutes` long: a divisor of a day's."""
    if minutes == MINUTES_PER_DAY:
        candles = market.days(np.array([row]), first_day, stop_day).flat()
    else:
        candles = market.minutes(row, first_day, stop_day).merged(minutes)
    return Series.regular(first_day * NS_PER_DAY, minutes, candles)


def day_so_far(market: Market, row: int, minutes: int, tick: int) -> tuple[Series, Series]:
    """Return the closed candles of a tick's day, and the open one with the tick as its last."""
    opened_ns = market.grid.day(tick) * NS_PER_DAY
    so_far = _minutes_so_far(market, row, tick)
    done = (len(so_far.open) - 1) // minutes * minutes  # the last minute is under way
    closed = so_far.each(slice(done)).merged(minutes)
    rest = so_far.each(slice(done, None))
    return (
        Series.regular(opened_ns, minutes, closed),
        Series.regular(opened_ns + done * NS_PER_MINUTE, minutes, rest.merged(len(rest.open))),
    )


def _minutes_so_far(market: Market, row: int, tick: int) -> Candles:
    span, index = divmod(tick, market.grid.ticks)
    minute, part = divmod(span, market.grid.spans)
    day, of_day = divmod(minute, MINUTES_PER_DAY)
    minutes = market.minutes(row, day, day + 1)
    spans = market.cut(2, minutes.each(slice(of_day, of_day + 1)), np.array([minute]), row).flat()
    prices, volumes = market.ticks(spans.each(slice(part, part + 1)), np.array([span]), row)
    ticks = Candles.of_ticks(prices[:, : index + 1], volumes[:, : index + 1])
    last = Candles.joined(spans.each(slice(part)), ticks).merged(part + 1)
    return Candles.joined(minutes.each(slice(of_day)), last)
