"""Volume against its average."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import VOLUME, LiveIndicator, at, kernel, period


@kernel
def _ratio(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        if b < count - 1:
            continue
        total = 0.0  # of whole numbers, so without rounding
        for back in range(count):
            total += at(bars, VOLUME, row, b - back)
        mean = total / count
        if mean > 0.0:
            out[k, 0] = at(bars, VOLUME, row, b) / mean


LIVE = LiveIndicator(
    name="volume_ratio",
    title="Volume against its average",
    parameters=(period(20),),
    outputs=("volume_ratio",),
    kernel=_ratio,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="volume / mean volume of the last n bars, this one included; none without any volume",
    source="https://en.wikipedia.org/wiki/Volume_(finance)",
    inputs=("volume",),
)
