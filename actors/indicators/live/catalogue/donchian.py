"""Donchian channel."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    HIGH,
    LOW,
    LiveIndicator,
    highest,
    kernel,
    lowest,
    period,
)


@kernel
def _donchian(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0], out[k, 1], out[k, 2] = np.nan, np.nan, np.nan
            continue
        high, low = highest(bars, HIGH, row, b, count), lowest(bars, LOW, row, b, count)
        out[k, 0], out[k, 1], out[k, 2] = high, (high + low) / 2.0, low


LIVE = LiveIndicator(
    name="donchian",
    title="Donchian channel",
    parameters=(period(20),),
    outputs=("upper", "middle", "lower"),
    kernel=_donchian,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="highest high and lowest low of the last n bars, this one included, and their mean",
    source="https://en.wikipedia.org/wiki/Donchian_channel",
    inputs=("high", "low"),
)
