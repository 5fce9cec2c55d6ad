"""`method=reference`: the variants of indicators that clients of the former service know.

Only those that differ are here; SMA, EMA and stochastic are the standard ones. Arguments and
results are as in `standard`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from actors.indicators.standard import (
    BOLLINGER_BARS,
    BOLLINGER_WIDTH,
    MACD_BARS,
    RSI_BARS,
    Values,
    finite,
)
from infra.bars import Bars, Floats


def rsi(bars: Bars) -> Values:
    """Return Cutler's relative strength index over 14 changes: of the last bar and the one before.

    Formula: 100 - 100 / (1 + mean gain / mean loss), plain means of the last 14 changes. The
    first bar counts as one without change, so values start at bar 14. Gains only give 100;
    no change at all gives None.
    """
    tail = bars.close[-(RSI_BARS + 2) :]
    changes = np.diff(tail, prepend=tail[:1])
    return _cutler(changes[-RSI_BARS:]), _cutler(changes[-RSI_BARS - 1 : -1])


def _cutler(changes: Floats) -> float | None:
    gain = float(changes[changes > 0].sum())
    loss = -float(changes[changes < 0].sum())
    if len(changes) < RSI_BARS or gain + loss == 0:
        return None
    return finite(100 * gain / (gain + loss))


def macd(bars: Bars) -> Values:
    """Return MACD(12, 26, 9): the line, its signal and their difference, the histogram.

    Formula: as the standard one, but each average is the weighted mean of all values so far,
    with weights (1 - alpha) ** age and alpha = 2 / (n + 1) (pandas `ewm`, adjust=True). It needs
    no seed: the first bar has values, all 0. Differs from the standard in the first 100 bars.
    """
    if len(bars) == 0:
        return None, None, None
    fast_bars, slow_bars, signal_bars = MACD_BARS
    closes = pd.Series(bars.close)
    line = closes.ewm(span=fast_bars).mean() - closes.ewm(span=slow_bars).mean()
    signal = float(line.ewm(span=signal_bars).mean().iloc[-1])
    value = float(line.iloc[-1])
    return finite(value), finite(signal), finite(value - signal)


def bollinger(bars: Bars) -> Values:
    """Return the upper, middle and lower Bollinger band over 20 closes.

    Formula: as the standard one, but with the deviation of a sample (divided by 19), which makes
    the bands 2.6 % wider.
    """
    if len(bars) < BOLLINGER_BARS:
        return None, None, None
    closes = bars.close[-BOLLINGER_BARS:]
    middle = float(closes.mean())
    width = BOLLINGER_WIDTH * float(closes.std(ddof=1))
    return finite(middle + width), finite(middle), finite(middle - width)
