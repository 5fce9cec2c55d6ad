"""Stochastic oscillators, fast and slow."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    CLOSE,
    HIGH,
    LOW,
    LiveIndicator,
    at,
    highest,
    inline,
    kernel,
    lowest,
    period,
)


@inline
def _percent(bars, row, b, count):
    low = lowest(bars, LOW, row, b, count)
    reach = highest(bars, HIGH, row, b, count) - low
    return 100.0 * (at(bars, CLOSE, row, b) - low) / reach if reach > 0.0 else 50.0


@kernel
def _fast(rows, index, final, bars, state, params, out):
    count, smooth = int(params[0]), int(params[1])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0], out[k, 1] = np.nan, np.nan
        if b < count - 1:
            continue
        newest = _percent(bars, row, b, count)
        if b >= count + smooth - 2:
            total = newest
            for back in range(1, smooth):
                total += state[row, (b - back) % smooth]
            out[k, 0], out[k, 1] = newest, total / smooth
        if final[k]:
            state[row, b % smooth] = newest


@kernel
def _slow(rows, index, final, bars, state, params, out):
    count, smooth, again = int(params[0]), int(params[1]), int(params[2])
    kept = smooth + again - 1
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0], out[k, 1] = np.nan, np.nan
        if b < count - 1:
            continue
        fastest = _percent(bars, row, b, count)
        if b >= count + smooth + again - 3:
            newest, total = 0.0, 0.0
            for back in range(kept):
                percent = fastest if back == 0 else state[row, (b - back) % kept]
                if back < smooth:
                    newest += percent
                # how many of the last slow values hold this one
                total += percent * min(back + 1, smooth, again, kept - back)
            out[k, 0], out[k, 1] = newest / smooth, total / (smooth * again)
        if final[k]:
            state[row, b % kept] = fastest


_SOURCE = "G. C. Lane, Lane's Stochastics, Stocks & Commodities 2:3, 1984"

FAST = LiveIndicator(
    name="stochastic",
    title="Fast stochastic oscillator",
    parameters=(period(14, name="k"), period(3, least=1, most=50, name="d")),
    outputs=("k_percent", "d_percent"),
    kernel=_fast,
    warm_up=lambda p: int(p[0] + p[1]) - 2,
    window=lambda p: int(p[0]),
    state_size=lambda p: int(p[1]),
    formula="100 * (close - lowest low) / (highest high - lowest low) over k bars, 50 without any "
    "range; %D is the mean of d of them",
    source=_SOURCE,
    inputs=("high", "low", "close"),
)
SLOW = LiveIndicator(
    name="slow_stochastic",
    title="Slow stochastic oscillator",
    parameters=(
        period(14, name="k"),
        period(3, least=1, most=50, name="smooth"),
        period(3, least=1, most=50, name="d"),
    ),
    outputs=("k_percent", "d_percent"),
    kernel=_slow,
    warm_up=lambda p: int(sum(p)) - 3,
    window=lambda p: int(p[0]),
    state_size=lambda p: int(p[1] + p[2]) - 1,
    formula="%K is the mean of the last `smooth` fast %K, %D the mean of d of those",
    source=_SOURCE,
    inputs=("high", "low", "close"),
)
