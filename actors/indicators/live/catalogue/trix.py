"""Rate of change of a triple exponential average."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import CLOSE, LiveIndicator, at, kernel, period, window_sum


@kernel
def _trix(rows, index, final, bars, state, params, out):
    count = int(params[0])
    weight = 2.0 / (count + 1)
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        if b < count - 1:
            continue
        if b == count - 1:
            first, second, third = window_sum(bars, CLOSE, row, b, count) / count, 0.0, 0.0
        else:
            first = state[row, 0] + (at(bars, CLOSE, row, b) - state[row, 0]) * weight
            second, third = state[row, 1], state[row, 2]
        before = third
        second_at, third_at = 2 * (count - 1), 3 * (count - 1)
        if b < second_at:
            second += first
        elif b == second_at:
            second = (second + first) / count
        else:
            second += (first - second) * weight
        if second_at <= b < third_at:
            third += second
        elif b == third_at:
            third = (third + second) / count
        elif b > third_at:
            third += (second - third) * weight
            out[k, 0] = (third / before - 1.0) * 100.0 if before else 0.0
        if final[k]:
            state[row, 0], state[row, 1], state[row, 2] = first, second, third


LIVE = LiveIndicator(
    name="trix",
    title="Rate of change of a triple exponential average",
    parameters=(period(30),),
    outputs=("trix",),
    kernel=_trix,
    warm_up=lambda p: 3 * (int(p[0]) - 1) + 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 3,
    formula="100 * (e / e one bar before - 1), e = ema(ema(ema(close))), each seeded with the "
    "mean of its first n values",
    source="J. Hutson, Good TRIX, Stocks & Commodities 1:5, 1983",
)
