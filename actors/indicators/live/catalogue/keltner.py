"""Keltner channel."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.catalogue.atr import stepped
from actors.indicators.live.kernel import (
    CLOSE,
    LiveIndicator,
    Parameter,
    at,
    kernel,
    period,
    window_sum,
)


@kernel
def _keltner(rows, index, final, bars, state, params, out):
    count, range_count, width = int(params[0]), int(params[1]), params[2]
    weight = 2.0 / (count + 1)
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0], out[k, 1], out[k, 2] = np.nan, np.nan, np.nan
        average = 0.0 if b == 0 else stepped(bars, row, b, range_count, state[row, 1])
        middle = 0.0
        if b == count - 1:
            middle = window_sum(bars, CLOSE, row, b, count) / count
        elif b >= count:
            middle = state[row, 0] + (at(bars, CLOSE, row, b) - state[row, 0]) * weight
        if b >= count - 1 and b >= range_count:
            reach = width * average
            out[k, 0], out[k, 1], out[k, 2] = middle + reach, middle, middle - reach
        if final[k]:
            state[row, 0], state[row, 1] = middle, average


LIVE = LiveIndicator(
    name="keltner",
    title="Keltner channel",
    parameters=(
        period(20),
        period(10, name="range_period"),
        Parameter("width", 2.0, 0.1, 10.0, is_whole=False),
    ),
    outputs=("upper", "middle", "lower"),
    kernel=_keltner,
    warm_up=lambda p: max(int(p[0]) - 1, int(p[1])),
    window=lambda p: max(int(p[0]), 2),
    state_size=lambda p: 2,
    formula="ema(n) of closes +- width * atr(range_period), each seeded as by itself",
    source="L. B. Raschke's version of C. Keltner, How to Make Money in Commodities, 1960",
    inputs=("high", "low", "close"),
)
