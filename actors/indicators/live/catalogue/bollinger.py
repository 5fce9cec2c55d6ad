"""Bollinger bands."""

from __future__ import annotations

import math

import numpy as np

from actors.indicators.live.kernel import (
    CLOSE,
    LiveIndicator,
    Parameter,
    kernel,
    period,
    window_sum,
)


@kernel
def _bollinger(rows, index, final, bars, state, params, out):
    count, width = int(params[0]), params[1]
    mask = bars.shape[2] - 1
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0], out[k, 1], out[k, 2] = np.nan, np.nan, np.nan
            continue
        middle = window_sum(bars, CLOSE, row, b, count) / count
        squares = 0.0
        for back in range(count):
            off = bars[CLOSE, row, (b - back) & mask] - middle
            squares += off * off
        reach = width * math.sqrt(squares / count)
        out[k, 0], out[k, 1], out[k, 2] = middle + reach, middle, middle - reach


LIVE = LiveIndicator(
    name="bollinger",
    title="Bollinger bands",
    parameters=(period(20), Parameter("width", 2.0, 0.1, 10.0, is_whole=False)),
    outputs=("upper", "middle", "lower"),
    kernel=_bollinger,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="sma(n) +- width * deviation of the population, its squares summed about the mean",
    source="J. Bollinger, Bollinger on Bollinger Bands, 2001",
)
