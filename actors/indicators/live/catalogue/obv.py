"""On-balance volume."""

from __future__ import annotations

from actors.indicators.live.kernel import CLOSE, VOLUME, LiveIndicator, at, kernel


@kernel
def _obv(rows, index, final, bars, state, params, out):
    for k in range(len(rows)):
        row, b = rows[k], index[k]
        volume = at(bars, VOLUME, row, b)
        if b == 0:
            total = volume
        else:
            total = state[row, 0]
            close, before = at(bars, CLOSE, row, b), at(bars, CLOSE, row, b - 1)
            if close > before:
                total += volume
            elif close < before:
                total -= volume
        out[k, 0] = total
        if final[k]:
            state[row, 0] = total


LIVE = LiveIndicator(
    name="obv",
    title="On-balance volume",
    parameters=(),
    outputs=("obv",),
    kernel=_obv,
    warm_up=lambda p: 0,
    window=lambda p: 2,
    state_size=lambda p: 1,
    formula="sum of volume, added where the close rose, taken away where it fell; starts with the "
    "first bar's volume, so only its changes mean something",
    source="J. Granville, New Key to Stock Market Profits, 1963",
    inputs=("close", "volume"),
)
