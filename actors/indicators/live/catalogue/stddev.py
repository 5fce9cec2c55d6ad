"""Standard deviation of closes."""

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
def _stddev(rows, index, final, bars, state, params, out):
    count, times = int(params[0]), params[1]
    mask = bars.shape[2] - 1
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0] = np.nan
            continue
        mean = window_sum(bars, CLOSE, row, b, count) / count
        squares = 0.0
        for back in range(count):
            off = bars[CLOSE, row, (b - back) & mask] - mean
            squares += off * off
        out[k, 0] = times * math.sqrt(squares / count)


LIVE = LiveIndicator(
    name="stddev",
    title="Standard deviation",
    parameters=(period(5), Parameter("times", 1.0, 0.1, 10.0, is_whole=False)),
    outputs=("stddev",),
    kernel=_stddev,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="times * deviation of the population over n closes, squares summed about the mean",
    source="https://en.wikipedia.org/wiki/Standard_deviation",
)
