"""Commodity channel index."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import LiveIndicator, kernel, period, typical


@kernel
def _cci(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0] = np.nan
            continue
        newest = typical(bars, row, b)
        total = 0.0
        for back in range(count - 1, -1, -1):
            total += typical(bars, row, b - back)
        mean = total / count
        off = 0.0
        for back in range(count - 1, -1, -1):
            off += abs(typical(bars, row, b - back) - mean)
        ahead = newest - mean
        out[k, 0] = ahead / (0.015 * (off / count)) if ahead != 0.0 and off != 0.0 else 0.0


LIVE = LiveIndicator(
    name="cci",
    title="Commodity channel index",
    parameters=(period(14),),
    outputs=("cci",),
    kernel=_cci,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="(typical price - its mean) / (0.015 * its mean deviation) over n bars; 0 when flat",
    source="D. Lambert, Commodity Channel Index, Commodities, October 1980",
    inputs=("high", "low", "close"),
)
