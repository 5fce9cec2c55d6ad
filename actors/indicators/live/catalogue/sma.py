"""Simple moving average."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    CLOSE,
    LiveIndicator,
    kernel,
    period,
    rolled,
    window_sum,
)


@kernel
def _sma(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0] = np.nan
            continue
        if b == count - 1 or b % 64 == 0:  # now and then from the start, so that nothing builds up
            total, rest = window_sum(bars, CLOSE, row, b, count), 0.0
        else:
            total, rest = rolled(bars, CLOSE, row, b, count, state[row, 0], state[row, 1])
        out[k, 0] = (total + rest) / count
        if final[k]:
            state[row, 0], state[row, 1] = total, rest


LIVE = LiveIndicator(
    name="sma",
    title="Simple moving average",
    parameters=(period(20, least=1),),
    outputs=("sma",),
    kernel=_sma,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]) + 1,
    state_size=lambda p: 2,
    formula="mean of the last n closes; no seed",
    source="https://en.wikipedia.org/wiki/Moving_average#Simple_moving_average",
)
