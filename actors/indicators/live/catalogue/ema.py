"""Exponential moving average, once and twice."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import CLOSE, LiveIndicator, at, kernel, period, window_sum


@kernel
def _ema(rows, index, final, bars, state, params, out):
    count = int(params[0])
    weight = 2.0 / (count + 1)
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0] = np.nan
            continue
        if b == count - 1:
            value = window_sum(bars, CLOSE, row, b, count) / count
        else:
            value = state[row, 0] + (at(bars, CLOSE, row, b) - state[row, 0]) * weight
        out[k, 0] = value
        if final[k]:
            state[row, 0] = value


LIVE = LiveIndicator(
    name="ema",
    title="Exponential moving average",
    parameters=(period(20),),
    outputs=("ema",),
    kernel=_ema,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 1,
    formula="ema += 2 / (n + 1) * (close - ema); seeded at bar n with the mean of the first n",
    source="https://en.wikipedia.org/wiki/Exponential_smoothing",
)
