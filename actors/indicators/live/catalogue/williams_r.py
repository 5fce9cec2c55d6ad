"""Williams %R."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    CLOSE,
    HIGH,
    LOW,
    LiveIndicator,
    at,
    highest,
    kernel,
    lowest,
    period,
)


@kernel
def _williams(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count - 1:
            out[k, 0] = np.nan
            continue
        high = highest(bars, HIGH, row, b, count)
        reach = high - lowest(bars, LOW, row, b, count)
        close = at(bars, CLOSE, row, b)
        out[k, 0] = -100.0 * (high - close) / reach if reach > 0.0 else 0.0


LIVE = LiveIndicator(
    name="williams_r",
    title="Williams %R",
    parameters=(period(14),),
    outputs=("williams_r",),
    kernel=_williams,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="-100 * (highest high - close) / (highest high - lowest low) over n bars; 0 when flat",
    source="L. Williams, How I Made One Million Dollars, 1973",
    inputs=("high", "low", "close"),
)
