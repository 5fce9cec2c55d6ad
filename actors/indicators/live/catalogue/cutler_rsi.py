"""Cutler's relative strength index."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import CLOSE, LiveIndicator, kernel, period


@kernel
def _cutler(rows, index, final, bars, state, params, out):
    count = int(params[0])
    mask = bars.shape[2] - 1
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b < count:
            out[k, 0] = np.nan
            continue
        gains, losses = 0.0, 0.0
        for back in range(count):
            change = bars[CLOSE, row, (b - back) & mask] - bars[CLOSE, row, (b - back - 1) & mask]
            gains += max(change, 0.0)
            losses += max(-change, 0.0)
        both = gains + losses
        out[k, 0] = 100.0 * gains / both if both > 0.0 else 50.0


LIVE = LiveIndicator(
    name="cutler_rsi",
    title="Relative strength index, Cutler's",
    parameters=(period(14),),
    outputs=("cutler_rsi",),
    kernel=_cutler,
    warm_up=lambda p: int(p[0]),
    window=lambda p: int(p[0]) + 1,
    state_size=lambda p: 0,
    formula="100 * gain / (gain + loss), plain means of the last n changes; 50 without any change",
    source="https://en.wikipedia.org/wiki/Relative_strength_index#Cutler's_RSI",
)
