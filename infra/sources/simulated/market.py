"""The formula of the simulated market: candles cut into smaller candles, down to ticks.

Prices are whole steps of 0.01, so that what is compared is equal or not. All is a function of
(seed, symbol, instant, ticks a second); the same numpy gives the same values in every process.

1. Closes of UTC days are geometric Brownian motion from 2020-01-01 on, with a market factor:
   log S(d) = log S(0) + m d + b M(d) + s B(d), with M of 15 % a year (365 days), and of each
   symbol: S(0) of 20 to 400, drift m (mu less half the variance) of 0 to 8 % a year, b of 0.5 to
   1.5, own deviation s of 15 to 35 % a year. A motion is the sum of 32-day steps and, within
   these, a Brownian bridge (a walk less the line through its ends), so that day d costs no more
   than d / 32. A day opens at the close of the day before: the market never closes.
2. High and low of a day, given open and close (a apart) and the day's deviation v: the maximum of
   a Brownian bridge, (a + sqrt(a^2 - 2 v^2 ln U)) / 2 above the open (Glasserman 2003, "Monte
   Carlo Methods in Financial Engineering", 6.4); the low likewise with a draw of its own.
3. A candle O, H, L, C is cut into n smaller ones by a path of n + 1 points from O to C that
   touches H and L at two random points between; from one of these four to the next it is a
   Brownian bridge with steps of v = (H - L) / sqrt(8 n / pi) (Feller 1951: H - L is then the
   expected range), reflected at H and L. Each small candle lies between two neighbouring points;
   its own high and low come from 2. with this v, bounded by H and L. So days are cut into 24
   hours, these into 60 minutes, and these into 12 spans where there are ticks enough.
4. The n ticks of a span are a path of n points: the first is O, the last C.
5. Volume is shared by weights of 0.1 to 1.1, as whole shares that sum to the larger candle's.

So each candle has exactly the open, high, low, close and volume of its parts. Within a day the
motion is arithmetic, in price, which differs from geometric by the square of a day's return.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from infra.bars import NS_PER_MINUTE, Floats, Ints
from infra.sources.simulated.draws import (
    Words,
    bells,
    key_of,
    normals,
    pairs,
    subkeys,
    uniforms,
    words,
)

STEPS_PER_UNIT = 100  # a price of 1.00 is 100 steps
EPOCH_DAY = 18_262  # 2020-01-01, in days since 1970
LEAST_TICKS = 4  # open, high, low and close need one each

MINUTES_PER_DAY = 1_440
_SPANS_PER_MINUTE = 12
_BLOCK_DAYS = 32
_DAYS_PER_YEAR = 365.0
_MARKET_VOL = 0.15 / math.sqrt(_DAYS_PER_YEAR)

# Levels of keys: what a draw is for.
_SYMBOL, _MARKET, _TRAITS, _MOTION, _BLOCK, _RANGE, _DAY, _HOUR, _MINUTE, _SPAN = range(1, 11)
_LEVELS = (_DAY, _HOUR, _MINUTE, _SPAN)


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Columns of any one shape, int64: prices in steps of 0.01, volume in shares."""

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints

    def each(self, index: object) -> Self:
        """Return the candles at a numpy index."""
        return type(self)(*(getattr(self, name)[index] for name in self.__slots__))

    def flat(self) -> Self:
        """Return them with one axis, in the order of the axes."""
        return type(self)(*(getattr(self, name).reshape(-1) for name in self.__slots__))

    def merged(self, count: int) -> Self:
        """Return each `count` neighbours of the last axis as one candle."""
        shape = (*self.open.shape[:-1], -1, count)
        return type(self)(
            self.open.reshape(shape)[..., 0],
            self.high.reshape(shape).max(axis=-1),
            self.low.reshape(shape).min(axis=-1),
            self.close.reshape(shape)[..., -1],
            self.volume.reshape(shape).sum(axis=-1),
        )

    @classmethod
    def of_ticks(cls, prices: Ints, volumes: Ints) -> Self:
        """Return the candle of each last axis of ticks."""
        return cls(
            prices[..., 0],
            prices.max(axis=-1),
            prices.min(axis=-1),
            prices[..., -1],
            volumes.sum(axis=-1),
        )

    @classmethod
    def joined(cls, first: Candles, second: Candles) -> Self:
        """Return `first` followed by `second` along the last axis."""
        return cls(
            *(
                np.concatenate((getattr(first, n), getattr(second, n)), axis=-1)
                for n in cls.__slots__
            )
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """When there are ticks: `ticks` a span, `spans` a minute; the same for all symbols.

    Tick number i counts all ticks since 1970.
    """

    ticks: int
    spans: int

    @classmethod
    def of(cls, ticks_per_s: float) -> Self:
        """Return the grid nearest to a rate; raises ValueError below four ticks a minute."""
        if ticks_per_s * 60 / _SPANS_PER_MINUTE >= LEAST_TICKS:
            return cls(round(ticks_per_s * 60 / _SPANS_PER_MINUTE), _SPANS_PER_MINUTE)
        if round(ticks_per_s * 60, 6) >= LEAST_TICKS:
            return cls(round(ticks_per_s * 60), 1)
        raise ValueError(
            f"{ticks_per_s:g} ticks a second are too few: a minute's bar needs {LEAST_TICKS} "
            f"ticks, {LEAST_TICKS / 60:.3f} a second"
        )

    @property
    def ticks_per_s(self) -> float:
        """Return the rate that this is."""
        return self.ticks * 1e9 / self.span_ns

    @property
    def span_ns(self) -> int:
        """Return how long a span is."""
        return NS_PER_MINUTE // self.spans

    def tick_at(self, now_ns: int) -> int:
        """Return the number of the last tick that is due at a time (Unix nanoseconds)."""
        span, rest_ns = divmod(now_ns, self.span_ns)
        return span * self.ticks + ((rest_ns + 1) * self.ticks - 1) // self.span_ns

    def time_ns(self, tick: int) -> int:
        """Return when a tick is due."""
        span, index = divmod(tick, self.ticks)
        return span * self.span_ns + index * self.span_ns // self.ticks

    @property
    def spans_per_day(self) -> int:
        """Return how many spans a day has."""
        return MINUTES_PER_DAY * self.spans

    def day(self, tick: int) -> int:
        """Return the UTC day of a tick, since 1970."""
        return tick // (self.ticks * self.spans_per_day)


class Market:
    """The candles and ticks of symbols by row; row i is the symbol with number `numbers[i]`."""

    def __init__(self, seed: int, numbers: Ints, grid: Grid) -> None:
        self.grid = grid
        self._keys = subkeys(key_of(seed), _SYMBOL, numbers)
        self._market_key = subkeys(key_of(seed), _MARKET, np.zeros(1, np.int64))
        uniform = uniforms(words(subkeys(self._keys, _TRAITS, np.zeros(1, np.int64)), 5))
        self._log_start = np.log(20.0) + uniform[:, 0] * np.log(20.0)
        self._drift = 0.08 * uniform[:, 1] / _DAYS_PER_YEAR
        self._beta = 0.5 + uniform[:, 2]
        self._own_vol = (0.15 + 0.2 * uniform[:, 3]) / math.sqrt(_DAYS_PER_YEAR)
        self._shares = np.exp(np.log(1e6) + uniform[:, 4] * np.log(50.0))

    def days(self, rows: Ints, first_day: int, stop_day: int) -> Candles:
        """Return the candles of UTC days (since 1970), shape (rows, days)."""
        close = self._closes(rows, first_day - 1, stop_day)
        open_, close = close[:, :-1], close[:, 1:]
        day = np.arange(first_day, stop_day)
        uniform = uniforms(words(subkeys(self._keys[rows, None], _RANGE, day), 3))
        vol = np.sqrt((self._beta[rows] * _MARKET_VOL) ** 2 + self._own_vol[rows] ** 2)
        high, low = _extremes(open_, close, vol[:, None] * open_, uniform[..., 0], uniform[..., 1])
        shares = self._shares[rows, None] * (0.5 + uniform[..., 2])
        return Candles(open_, high, np.maximum(low, 1), close, np.rint(shares).astype(np.int64))

    def minutes(self, row: int, first_day: int, stop_day: int) -> Candles:
        """Return the candles of the minutes of UTC days, shape (days * 1440,)."""
        days = self.days(np.array([row]), first_day, stop_day).flat()
        hours = self.cut(0, days, np.arange(first_day, stop_day), row).flat()
        return self.cut(1, hours, np.arange(first_day * 24, stop_day * 24), row).flat()

    def cut(self, level: int, candles: Candles, index: Ints, rows: Ints | int) -> Candles:
        """Return candles of level 0 (days), 1 (hours) or 2 (minutes) cut into the next smaller.

        `index` is their number since 1970; it and `rows` are broadcast to shape (n,). The result
        has shape (n, 24), (n, 60) or (n, spans a minute).
        """
        count = self.parts(level)
        if count == 1:
            return candles.each((slice(None), None))
        draws = words(subkeys(self._keys[rows], _LEVELS[level], index), 3 * count + 2)
        points, step = _path(candles, count, draws[:, 2 * count :])
        open_, close = points[:, :-1], points[:, 1:]
        above, below = pairs(draws[:, :count])
        high, low = _extremes(open_, close, step[:, None], above, below)
        return Candles(
            open_,
            np.minimum(high, candles.high[:, None]),
            np.maximum(low, candles.low[:, None]),
            close,
            _shared(candles.volume, draws[:, count : 2 * count]),
        )

    def parts(self, level: int) -> int:
        """Return into how many candles one of this level is cut."""
        return (24, 60, self.grid.spans)[level]

    def ticks(self, spans: Candles, index: Ints, rows: Ints | int) -> tuple[Ints, Ints]:
        """Return prices in steps and volumes of the ticks of spans (n,), each (n, ticks)."""
        count = self.grid.ticks
        draws = words(subkeys(self._keys[rows], _SPAN, index), 2 * count + 1)
        prices, _ = _path(spans, count - 1, draws[:, count:])
        return prices, _shared(spans.volume, draws[:, :count])

    def _closes(self, rows: Ints, first_day: int, stop_day: int) -> Ints:
        day = np.arange(first_day, stop_day) - EPOCH_DAY
        log_price = (
            self._log_start[rows, None]
            + self._drift[rows, None] * day
            + self._beta[rows, None] * _MARKET_VOL * _motion(self._market_key, day)
            + self._own_vol[rows, None] * _motion(self._keys[rows], day)
        )
        steps: Ints = np.maximum(np.rint(np.exp(log_price) * STEPS_PER_UNIT), 1).astype(np.int64)
        return steps


def _motion(keys: Words, days: Ints) -> Floats:
    """Return standard Brownian motion of each key at neighbouring days, shape (keys, days).

    It is 0 at day 0; there is none before.
    """
    first, last = int(days[0]) // _BLOCK_DAYS, int(days[-1]) // _BLOCK_DAYS
    draws = words(subkeys(keys, _MOTION, np.zeros(1, np.int64)), 2 * (last + 1))
    steps = normals(draws) * math.sqrt(_BLOCK_DAYS)
    ends = np.concatenate((np.zeros((len(keys), 1)), steps.cumsum(axis=1)), axis=1)
    blocks = np.arange(first, last + 1)
    draws = words(subkeys(keys[:, None], _BLOCK, blocks), 2 * _BLOCK_DAYS)
    walk = normals(draws).cumsum(axis=2)
    share = np.arange(1, _BLOCK_DAYS + 1) / _BLOCK_DAYS
    from_, to = ends[:, first : last + 1, None], ends[:, first + 1 : last + 2, None]
    bridged = from_ + walk + share * (to - from_ - walk[..., -1:])
    # Day d of a block is at its place d - 1: the place before the first is the block's start.
    whole = np.concatenate((from_[:, :1, 0], bridged.reshape(len(keys), -1)), axis=1)
    result: Floats = whole[:, days - first * _BLOCK_DAYS]
    return result


def _extremes(
    open_: Ints, close: Ints, deviation: Floats, above: Floats, below: Floats
) -> tuple[Ints, Ints]:
    """Return high and low of motions from open to close, of two uniform draws each."""
    apart = (close - open_).astype(np.float64)
    square, twice = apart * apart, 2.0 * deviation * deviation
    up = (apart + np.sqrt(square - twice * np.log(above))) / 2
    down = (apart - np.sqrt(square - twice * np.log(below))) / 2
    high = np.maximum(open_ + np.rint(up).astype(np.int64), np.maximum(open_, close))
    low = np.minimum(open_ + np.rint(down).astype(np.int64), np.minimum(open_, close))
    return high, low


def _path(candles: Candles, steps: int, draws: Words) -> tuple[Ints, Floats]:
    """Return points of shape (n, steps + 1) through O, H, L and C, and a step's deviation (n,).

    `draws` has shape (n, steps + 2).
    """
    high_at, low_at = _two_places(draws[:, -2:], steps)
    deviation = (candles.high - candles.low) / math.sqrt(8 * steps / math.pi)
    points = np.zeros((len(deviation), steps + 1))
    np.cumsum(bells(draws[:, :steps]) * deviation[:, None], axis=1, out=points[:, 1:])
    high_first = high_at < low_at
    places = (np.where(high_first, high_at, low_at), np.where(high_first, low_at, high_at))
    prices = (
        candles.open,
        np.where(high_first, candles.high, candles.low),
        np.where(high_first, candles.low, candles.high),
        candles.close,
    )
    _pull(points, places, prices)
    high, low = candles.high[:, None], candles.low[:, None]
    points = np.where(points > high, 2 * high - points, points)
    points = np.where(points < low, 2 * low - points, points)
    whole = np.clip(np.rint(points).astype(np.int64), low, high)
    whole[:, 0], whole[:, -1] = prices[0], prices[3]
    each = np.arange(len(whole))
    whole[each, places[0]], whole[each, places[1]] = prices[1], prices[2]
    return whole, deviation


def _two_places(draws: Words, steps: int) -> tuple[Ints, Ints]:
    """Return two different places in 1..steps - 1, drawn evenly."""
    uniform = uniforms(draws)
    first = 1 + (uniform[:, 0] * (steps - 1)).astype(np.int64)
    second = 1 + (uniform[:, 1] * (steps - 2)).astype(np.int64)
    return first, second + (second >= first)


def _pull(walk: Floats, places: tuple[Ints, Ints], prices: tuple[Ints, ...]) -> None:
    """Make a walk pass through four prices: add the broken line of what it misses them by."""
    each, (first, second), last = np.arange(len(walk)), places, walk.shape[1] - 1
    misses = (
        prices[0] - walk[:, 0],
        prices[1] - walk[each, first],
        prices[2] - walk[each, second],
        prices[3] - walk[:, last],
    )
    slopes = (
        (misses[1] - misses[0]) / first,
        (misses[2] - misses[1]) / (second - first),
        (misses[3] - misses[2]) / (last - second),
    )
    # The line as a sum: its slope changes at two places.
    at = np.arange(walk.shape[1], dtype=np.float64)
    walk += misses[0][:, None] + slopes[0][:, None] * at
    walk += (slopes[1] - slopes[0])[:, None] * np.maximum(at - first[:, None], 0.0)
    walk += (slopes[2] - slopes[1])[:, None] * np.maximum(at - second[:, None], 0.0)


def _shared(volume: Ints, draws: Words) -> Ints:
    """Return whole shares of each volume, shape of the draws, that sum to it."""
    weights = (uniforms(draws) + 0.1).cumsum(axis=1)
    so_far = np.floor(weights / weights[:, -1:] * volume[:, None]).astype(np.int64)
    shares: Ints = np.diff(so_far, axis=1, prepend=0)
    return shares
