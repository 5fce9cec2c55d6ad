"""Volume weighted average price, of a session or of the last bars."""

from __future__ import annotations

import numpy as np

from actors.indicators.live.kernel import (
    SESSION,
    VOLUME,
    LiveIndicator,
    at,
    kernel,
    period,
    typical,
)


@kernel
def _vwap(rows, index, final, bars, state, params, out):
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        session, volume = at(bars, SESSION, row, b), at(bars, VOLUME, row, b)
        paid, shares = state[row, 0], state[row, 1]
        if b == 0 or state[row, 2] != session:
            paid, shares = 0.0, 0.0
        paid += typical(bars, row, b) * volume
        shares += volume
        out[k, 0] = paid / shares if shares > 0.0 else np.nan
        if final[k]:
            state[row, 0], state[row, 1], state[row, 2] = paid, shares, session


@kernel
def _rolling(rows, index, final, bars, state, params, out):
    count = int(params[0])
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        out[k, 0] = np.nan
        if b < count - 1:
            continue
        paid, shares = 0.0, 0.0
        for back in range(count - 1, -1, -1):
            volume = at(bars, VOLUME, row, b - back)
            paid += typical(bars, row, b - back) * volume
            shares += volume
        if shares > 0.0:
            out[k, 0] = paid / shares


_SOURCE = "https://en.wikipedia.org/wiki/Volume-weighted_average_price"
_INPUTS = ("high", "low", "close", "volume")

VWAP = LiveIndicator(
    name="vwap",
    title="Volume weighted average price of the session",
    parameters=(),
    outputs=("vwap",),
    kernel=_vwap,
    warm_up=lambda p: 0,
    window=lambda p: 1,
    state_size=lambda p: 3,
    formula="sum(typical price * volume) / sum(volume) since the session's first bar; none while "
    "nothing was traded",
    source=_SOURCE,
    inputs=_INPUTS,
    intraday_only=True,
)
ROLLING = LiveIndicator(
    name="rolling_vwap",
    title="Volume weighted average price of the last bars",
    parameters=(period(20, least=1),),
    outputs=("rolling_vwap",),
    kernel=_rolling,
    warm_up=lambda p: int(p[0]) - 1,
    window=lambda p: int(p[0]),
    state_size=lambda p: 0,
    formula="sum(typical price * volume) / sum(volume) of n bars; none where nothing was traded",
    source=_SOURCE,
    inputs=_INPUTS,
)
