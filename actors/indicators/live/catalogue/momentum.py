"""Momentum and rate of change."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import CLOSE, LiveIndicator, at, kernel, period


@kernel
def _momentum(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        if b >= count:
            out[k, 0] = at(bars, CLOSE, row, b) - at(bars, CLOSE, row, b - count)


@kernel
def _roc(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        if b >= count:
            before = at(bars, CLOSE, row, b - count)
            out[k, 0] = (at(bars, CLOSE, row, b) / before - 1.0) * 100.0 if before else 0.0


MOMENTUM = LiveIndicator(
    name="momentum",
    title="Momentum",
    parameters=(period(10, least=1),),
    outputs=("momentum",),
    kernel=_momentum,
    warm_up=lambda p: int(p[0]),
    window=lambda p: int(p[0]) + 1,
    state_size=lambda p: 0,
    formula="close - close n bars before",
    source="https://en.wikipedia.org/wiki/Momentum_(technical_analysis)",
)
ROC = LiveIndicator(
    name="roc",
    title="Rate of change",
    parameters=(period(10, least=1),),
    outputs=("roc",),
    kernel=_roc,
    warm_up=lambda p: int(p[0]),
    window=lambda p: int(p[0]) + 1,
    state_size=lambda p: 0,
    formula="100 * (close / close n bars before - 1)",
    source="https://en.wikipedia.org/wiki/Momentum_(technical_analysis)",
)
