"""Double exponential moving average."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import CLOSE, LiveIndicator, at, kernel, period, window_sum


@kernel
def _dema(rows, index, final, bars, state, params, out):
    count = int(params[0])
    weight = 2.0 / (count + 1)
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        if b < count - 1:
            continue
        if b == count - 1:
            first, second = window_sum(bars, CLOSE, row, b, count) / count, 0.0
        else:
            first = state[row, 0] + (at(bars, CLOSE, row, b) - state[row, 0]) * weight
            second = state[row, 1]
        seeded_at = 2 * (count - 1)
        if b < seeded_at:
            second += first  # a sum until it is seeded
        elif b == seeded_at:
            second = (second + first) / count
        else:
            second += (first - second) * weight
        if b >= seeded_at:
            out[k, 0] = 2.0 * first - second
        if final[k]:
            state[row, 0], state[row, 1] = first, second


LIVE = LiveIndicator(
    name="dema",
    title="Double exponential moving average",
    parameters=(period(20),),
    outputs=("dema",),
    kernel=_dema,
    warm_up=lambda p: 2 * (int(p[0]) - 1),
    window=lambda p: int(p[0]),
    state_size=lambda p: 2,
    formula="2 * ema(close) - ema(ema(close)); each seeded with the mean of its first n values",
    source="P. Mulloy, Smoothing Data with Faster Moving Averages, Stocks & Commodities 12:1",
)
