"""Moving average convergence and divergence."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    CLOSE,
    LiveIndicator,
    Parameter,
    Params,
    at,
    kernel,
    window_sum,
)


@kernel
def _macd(rows, index, final, bars, state, params, out):
    fast, slow, smooth = int(params[0]), int(params[1]), int(params[2])
    if fast > slow:
        fast, slow = slow, fast
    fast_weight, slow_weight = 2.0 / (fast + 1), 2.0 / (slow + 1)
    weight = 2.0 / (smooth + 1)
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0], out[k, 1], out[k, 2] = np.nan, np.nan, np.nan
        if b < slow - 1:
            continue
        if b == slow - 1:
            quick = window_sum(bars, CLOSE, row, b, fast) / fast
            slack = window_sum(bars, CLOSE, row, b, slow) / slow
            signal = 0.0
        else:
            close = at(bars, CLOSE, row, b)
            quick = state[row, 0] + (close - state[row, 0]) * fast_weight
            slack = state[row, 1] + (close - state[row, 1]) * slow_weight
            signal = state[row, 2]
        line = quick - slack
        seeded_at = slow + smooth - 2
        if b < seeded_at:
            signal += line  # a sum until it is seeded
        elif b == seeded_at:
            signal = (signal + line) / smooth
        else:
            signal += (line - signal) * weight
        if b >= seeded_at:
            out[k, 0], out[k, 1], out[k, 2] = line, signal, line - signal
        if final[k]:
            state[row, 0], state[row, 1], state[row, 2] = quick, slack, signal


def _longest(params: Params) -> int:
    return int(max(params[0], params[1]))


LIVE = LiveIndicator(
    name="macd",
    title="Moving average convergence and divergence",
    parameters=(
        Parameter("fast", 12, 2, 500),
        Parameter("slow", 26, 2, 500),
        Parameter("signal", 9, 1, 500),
    ),
    outputs=("macd", "signal", "histogram"),
    kernel=_macd,
    warm_up=lambda p: _longest(p) + int(p[2]) - 2,
    window=_longest,
    state_size=lambda p: 3,
    formula="ema(fast) - ema(slow); signal is its ema; both averages seeded where the slow one "
    "is, with the mean of its last n closes, the signal with the mean of its first values",
    source="G. Appel, Technical Analysis: Power Tools for Active Investors, 2005",
)
