"""Weighted moving average."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import CLOSE, LiveIndicator, kernel, period


@kernel
def _wma(rows, index, final, bars, state, params, out):
    count = int(params[0])
    weights = count * (count + 1) / 2.0
    mask = bars.shape[2] - 1
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0] = np.nan
            continue
        total = 0.0
        for back in range(count - 1, -1, -1):
            total += (count - back) * bars[CLOSE, row, (b - back) & mask]
        out[k, 0] = total / weights


LIVE = LiveIndicator(
    name="wma",
    title="Weighted moving average",
    parameters=(period(20),),
    outputs=("wma",),
    kernel=_wma,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="sum of i * close over the last n closes, i from 1 to n, / (n * (n + 1) / 2); no seed",
    source="https://en.wikipedia.org/wiki/Moving_average#Weighted_moving_average",
)
