"""Average true range, in price units and in percent."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    CLOSE,
    LiveIndicator,
    at,
    inline,
    kernel,
    period,
    true_range,
)


@inline
def stepped(bars, row, b, count, average):
    """Return the average one bar on: a sum until bar n, where it is seeded."""
    reach = true_range(bars, row, b)
    if b < count:
        return average + reach
    if b == count:
        return (average + reach) / count
    return (average * (count - 1) + reach) / count


@kernel
def _atr(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        average = 0.0 if b == 0 else stepped(bars, row, b, count, state[row, 0])
        if b >= count:
            out[k, 0] = average
        if final[k]:
            state[row, 0] = average


@kernel
def _natr(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        average = 0.0 if b == 0 else stepped(bars, row, b, count, state[row, 0])
        if b >= count:
            out[k, 0] = 100.0 * average / at(bars, CLOSE, row, b)
        if final[k]:
            state[row, 0] = average


_FORMULA = "average of the true range with weight 1 / n, seeded at bar n + 1 with the mean of n"
_SOURCE = "J. W. Wilder, New Concepts in Technical Trading Systems, 1978"

ATR = LiveIndicator(
    name="atr",
    title="Average true range",
    parameters=(period(14),),
    outputs=("atr",),
    kernel=_atr,
    warm_up=lambda p: int(p[0]),
    window=lambda p: 2,
    state_size=lambda p: 1,
    formula=_FORMULA,
    source=_SOURCE,
    inputs=("high", "low", "close"),
)
NATR = LiveIndicator(
    name="natr",
    title="Average true range in percent of the close",
    parameters=(period(14),),
    outputs=("natr",),
    kernel=_natr,
    warm_up=lambda p: int(p[0]),
    window=lambda p: 2,
    state_size=lambda p: 1,
    formula=f"100 * atr / close; atr: {_FORMULA}",
    source=_SOURCE,
    inputs=("high", "low", "close"),
)
