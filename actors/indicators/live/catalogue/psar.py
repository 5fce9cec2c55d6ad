"""Parabolic stop and reverse."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import HIGH, LOW, LiveIndicator, Parameter, at, kernel


@kernel
def _psar(rows, index, final, bars, state, params, out):
    step, most = params[0], params[1]
    if step > most:
        step = most
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        if b == 0:
            out[k, 0] = np.nan
            continue
        high, low = at(bars, HIGH, row, b), at(bars, LOW, row, b)
        high_before, low_before = at(bars, HIGH, row, b - 1), at(bars, LOW, row, b - 1)
        if b == 1:
            up, down = high - high_before, low_before - low
            is_long = not (down > 0.0 and up < down)
            stop = low_before if is_long else high_before
            extreme = high if is_long else low
            factor = step
            high_before, low_before = high, low  # the first bar's own range bounds it
        else:
            is_long = state[row, 0] > 0.0
            stop, extreme, factor = state[row, 1], state[row, 2], state[row, 3]
        if is_long and low <= stop:
            is_long = False
            stop = max(extreme, high_before, high)
            out[k, 0] = stop
            factor, extreme = step, low
            stop = max(stop + factor * (extreme - stop), high_before, high)
        elif is_long:
            out[k, 0] = stop
            if high > extreme:
                extreme, factor = high, min(factor + step, most)
            stop = min(stop + factor * (extreme - stop), low_before, low)
        elif high >= stop:
            is_long = True
            stop = min(extreme, low_before, low)
            out[k, 0] = stop
            factor, extreme = step, high
            stop = min(stop + factor * (extreme - stop), low_before, low)
        else:
            out[k, 0] = stop
            if low < extreme:
                extreme, factor = low, min(factor + step, most)
            stop = max(stop + factor * (extreme - stop), high_before, high)
        if final[k]:
            state[row, 0] = 1.0 if is_long else -1.0
            state[row, 1], state[row, 2], state[row, 3] = stop, extreme, factor


LIVE = LiveIndicator(
    name="psar",
    title="Parabolic stop and reverse",
    parameters=(
        Parameter("step", 0.02, 0.001, 1.0, is_whole=False),
        Parameter("most", 0.2, 0.001, 1.0, is_whole=False),
    ),
    outputs=("psar",),
    kernel=_psar,
    warm_up=lambda p: 1,
    window=lambda p: 2,
    state_size=lambda p: 4,
    formula="stop += factor * (extreme - stop), never inside the last two bars; turns when "
    "touched; starts long unless the second bar moved down",
    source="J. W. Wilder, New Concepts in Technical Trading Systems, 1978",
    inputs=("high", "low"),
)
