"""Money flow index."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import VOLUME, LiveIndicator, at, kernel, period, typical


@kernel
def _mfi(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count:
            out[k, 0] = np.nan
            continue
        up, down = 0.0, 0.0
        before = typical(bars, row, b - count)
        for back in range(count - 1, -1, -1):
            price = typical(bars, row, b - back)
            flow = price * at(bars, VOLUME, row, b - back)
            if price > before:
                up += flow
            elif price < before:
                down += flow
            before = price
        both = up + down
        out[k, 0] = 100.0 * up / both if both >= 1.0 else 0.0


LIVE = LiveIndicator(
    name="mfi",
    title="Money flow index",
    parameters=(period(14),),
    outputs=("mfi",),
    kernel=_mfi,
    warm_up=lambda p: int(p[0]),
    window=lambda p: int(p[0]) + 1,
    state_size=lambda p: 0,
    formula="100 * up / (up + down): typical price * volume of the last n bars, by whether the "
    "typical price rose or fell; 0 where less than 1 flowed",
    source="G. Quong, A. Soudack, Volume-Weighted RSI, Stocks & Commodities 7:3, 1989",
    inputs=("high", "low", "close", "volume"),
)
