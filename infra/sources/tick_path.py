"""A made path of ticks through one session's real bar.

With n ticks, bar O, H, L, C, V and range R = H - L:

1. Anchors. Tick 0 is O and tick n-1 is C. Two different positions, drawn evenly from 1..n-2,
   are H and L. Anchors are the bar's own floats, so the ticks give the bar again with ==.
2. Between anchors: the straight line plus a Brownian bridge. W is a random walk with normal
   steps of standard deviation s; minus the line through W at the anchors it is 0 at each of them.
   s = R / sqrt(8 n / pi) makes R the expected range of the whole walk (Feller 1951, "The
   asymptotic distribution of the range of sums of independent random variables").
3. Bounds: what leaves [L, H] is reflected at the border until it is inside, then rounded to the
   decimals that the bar's prices have (2 to 4), then clipped, as rounding may step over a border.
4. Volume: cumulative volume at tick i is floor(V * (w_0 + .. + w_i) / (w_0 + .. + w_n-1)) with
   exponential weights w, and V at the last tick, so the ticks' volumes are whole and sum to V.

Seeding: numpy's PCG64 from (seed, CRC-32 of the symbol, the session's proleptic day number), one
generator a path: any process with the same numpy makes the same path. Draws in this order:
positions, normal steps, weights.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from datetime import date

import numpy as np

from infra.bars import Floats, Ints

LEAST_TICKS = 4  # open, high, low and close need one each


@dataclass(frozen=True, slots=True, eq=False)
class TickPath:
    """The ticks of one symbol's session, columns of length n in time order, read-only.

    `price`, `high_so_far`, `low_so_far`: float64, as traded; `volume_so_far`: int64. Row i tells
    nothing of the ticks after i.
    """

    price: Floats
    high_so_far: Floats
    low_so_far: Floats
    volume_so_far: Ints

    def __post_init__(self) -> None:
        for name in self.__slots__:
            getattr(self, name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.price)


@dataclass(frozen=True, slots=True)
class SessionBar:
    """The real bar of one session, as traded: low <= open, close <= high, and volume >= 0."""

    open: float
    high: float
    low: float
    close: float
    volume: int


def path_rng(seed: int, symbol: str, session: date) -> np.random.Generator:
    """Return the generator of one symbol's session; `hash()` would differ in each process."""
    return np.random.default_rng((seed, zlib.crc32(symbol.encode()), session.toordinal()))


def make_path(bar: SessionBar, ticks: int, rng: np.random.Generator) -> TickPath:
    """Return a path whose open, high, low, close and volume equal the bar's.

    Raises ValueError below 4 ticks. Cost grows with `ticks`: under 0.5 ms for 240.
    """
    if ticks < LEAST_TICKS:
        raise ValueError(f"a path needs {LEAST_TICKS} ticks or more, not {ticks}")
    price = _prices(bar, ticks, rng)
    return TickPath(
        price,
        np.maximum.accumulate(price),
        np.minimum.accumulate(price),
        _volume_so_far(bar.volume, ticks, rng),
    )


def price_decimals(bar: SessionBar) -> int:
    """Return with how many decimals the bar's prices are written, 2 to 4."""
    prices = (bar.open, bar.high, bar.low, bar.close)
    return next((n for n in (2, 3) if all(round(p, n) == p for p in prices)), 4)


def _prices(bar: SessionBar, ticks: int, rng: np.random.Generator) -> Floats:
    high_at, low_at = 1 + rng.choice(ticks - 2, size=2, replace=False)
    anchors = {0: bar.open, int(high_at): bar.high, int(low_at): bar.low, ticks - 1: bar.close}
    at = np.array(sorted(anchors))
    anchor_prices = np.array([anchors[position] for position in at.tolist()])
    step_std = (bar.high - bar.low) / math.sqrt(8 * ticks / math.pi)
    walk = rng.normal(0.0, step_std, ticks).cumsum()
    every = np.arange(ticks)
    bridge = walk - np.interp(every, at, walk[at])
    line = np.interp(every, at, anchor_prices)
    inside = _reflected(line + bridge, bar.low, bar.high)
    price = np.clip(np.round(inside, price_decimals(bar)), bar.low, bar.high)
    price[at] = anchor_prices
    return price


def _reflected(values: Floats, low: float, high: float) -> Floats:
    if high == low:
        return np.full_like(values, low)
    place = (values - low) / (high - low)
    # A triangle wave of period 2: itself within 0..1, mirrored beyond.
    folded: Floats = low + (high - low) * (1 - np.abs(1 - place % 2))
    return folded


def _volume_so_far(volume: int, ticks: int, rng: np.random.Generator) -> Ints:
    weights = rng.exponential(size=ticks).cumsum()
    so_far = np.floor(volume * (weights / weights[-1])).astype(np.int64)
    so_far[-1] = volume
    # Beyond 2**53 a float may round up over the whole.
    capped: Ints = np.minimum(so_far, volume)
    return capped
