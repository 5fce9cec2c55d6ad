"""Aroon."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import HIGH, LOW, LiveIndicator, at, kernel, period


@kernel
def _aroon(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count:
            out[k, 0], out[k, 1] = np.nan, np.nan
            continue
        high, low = at(bars, HIGH, row, b), at(bars, LOW, row, b)
        since_high, since_low = 0, 0
        for back in range(1, count + 1):  # of equal ones the newest counts
            value = at(bars, HIGH, row, b - back)
            if value > high:
                high, since_high = value, back
            value = at(bars, LOW, row, b - back)
            if value < low:
                low, since_low = value, back
        out[k, 0] = 100.0 * (count - since_high) / count
        out[k, 1] = 100.0 * (count - since_low) / count


LIVE = LiveIndicator(
    name="aroon",
    title="Aroon",
    parameters=(period(14),),
    outputs=("up", "down"),
    kernel=_aroon,
    warm_up=lambda p: int(p[0]),
    window=lambda p: int(p[0]) + 1,
    state_size=lambda p: 0,
    formula="100 * (n - bars since the highest high (lowest low) of n + 1 bars) / n",
    source="T. Chande, Time Price Oscillator, Stocks & Commodities 13:9, 1995",
    inputs=("high", "low"),
)
