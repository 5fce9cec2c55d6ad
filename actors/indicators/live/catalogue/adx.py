"""Average directional index with both directional indicators."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    HIGH,
    LOW,
    LiveIndicator,
    at,
    kernel,
    period,
    true_range,
)


@kernel
def _adx(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0], out[k, 1], out[k, 2] = np.nan, np.nan, np.nan
        if b == 0:
            if final[k]:
                state[row, :4] = 0.0
            continue
        up = at(bars, HIGH, row, b) - at(bars, HIGH, row, b - 1)
        down = at(bars, LOW, row, b - 1) - at(bars, LOW, row, b)
        plus = up if up > 0.0 and up > down else 0.0
        minus = down if down > 0.0 and up < down else 0.0
        reach = true_range(bars, row, b)
        pluses, minuses, ranges = state[row, 0], state[row, 1], state[row, 2]
        adx = state[row, 3]
        if b < count:
            pluses, minuses, ranges = pluses + plus, minuses + minus, ranges + reach
        else:
            pluses += plus - pluses / count
            minuses += minus - minuses / count
            ranges += reach - ranges / count
            has_range = abs(ranges) >= 1e-14
            out[k, 1] = 100.0 * pluses / ranges if has_range else 0.0
            out[k, 2] = 100.0 * minuses / ranges if has_range else 0.0
            both = out[k, 1] + out[k, 2]
            counts = has_range and abs(both) >= 1e-14
            dx = 100.0 * abs(out[k, 1] - out[k, 2]) / both if counts else 0.0
            if b < 2 * count - 1:
                adx += dx  # a sum until it is seeded
            elif b == 2 * count - 1:
                adx = (adx + dx) / count
            elif counts:
                adx = (adx * (count - 1) + dx) / count
            if b >= 2 * count - 1:
                out[k, 0] = adx
        if final[k]:
            state[row, 0], state[row, 1], state[row, 2] = pluses, minuses, ranges
            state[row, 3] = adx


LIVE = LiveIndicator(
    name="adx",
    title="Average directional index",
    parameters=(period(14),),
    outputs=("adx", "plus_di", "minus_di"),
    kernel=_adx,
    warm_up=lambda p: 2 * int(p[0]) - 1,
    window=lambda p: 2,
    state_size=lambda p: 4,
    formula="di: 100 * smoothed movement / smoothed true range, smoothed += new - smoothed / n, "
    "from the sums of the first n - 1; adx: average of 100 * |+di - -di| / (+di + -di) with "
    "weight 1 / n, seeded with the mean of its first n",
    source="J. W. Wilder, New Concepts in Technical Trading Systems, 1978",
    inputs=("high", "low", "close"),
)
