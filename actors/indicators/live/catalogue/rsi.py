"""Wilder's relative strength index."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import CLOSE, LiveIndicator, at, kernel, period


@kernel
def _rsi(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        if b == 0:
            if final[k]:
                state[row, 0], state[row, 1] = 0.0, 0.0
            continue
        change = at(bars, CLOSE, row, b) - at(bars, CLOSE, row, b - 1)
        gain, loss = max(change, 0.0), max(-change, 0.0)
        gains, losses = state[row, 0], state[row, 1]
        if b <= count:
            gains, losses = gains + gain, losses + loss  # sums until they are seeded
            if b == count:
                gains, losses = gains / count, losses / count
        else:
            gains = (gains * (count - 1) + gain) / count
            losses = (losses * (count - 1) + loss) / count
        if b >= count:
            both = gains + losses
            out[k, 0] = 100.0 * gains / both if both > 0.0 else 50.0
        if final[k]:
            state[row, 0], state[row, 1] = gains, losses


LIVE = LiveIndicator(
    name="rsi",
    title="Relative strength index, Wilder's",
    parameters=(period(14),),
    outputs=("rsi",),
    kernel=_rsi,
    warm_up=lambda p: int(p[0]),
    window=lambda p: 2,
    state_size=lambda p: 2,
    formula="100 * gain / (gain + loss), averages with weight 1 / n; seeded at bar n + 1 with the "
    "means of the first n changes; 50 without any change",
    source="J. W. Wilder, New Concepts in Technical Trading Systems, 1978",
)
