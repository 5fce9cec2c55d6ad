"""The six indicators as the field defines them: their last values, by TA-Lib.

Every function takes all bars held, oldest first and without NaN, and returns Python floats in
the order that its docstring names. None stands for a value that needs more bars. Prices are in
the symbol's currency; RSI and stochastic go from 0 to 100.

Functions over a fixed window pass TA-Lib only the rows of the window: the value is the same, but
its running sums then carry no rounding from dearer times.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import talib

from infra.bars import Bars, Floats

Values = tuple[float | None, ...]

# TA-Lib looks for frames of pandas and polars around each call, as long as many of them take.
_SMA, _EMA, _RSI, _CMO, _MACD, _BBANDS, _STOCHF, _MAX, _MIN = (
    inspect.unwrap(getattr(talib, name))
    for name in ("SMA", "EMA", "RSI", "CMO", "MACD", "BBANDS", "STOCHF", "MAX", "MIN")
)

SMA_BARS = (5, 10, 20, 50, 200)
EMA_BARS = (12, 26)
RSI_BARS = 14
MACD_BARS = (12, 26, 9)  # fast, slow, signal
BOLLINGER_BARS = 20
BOLLINGER_WIDTH = 2.0  # in standard deviations
K_BARS = 14
D_BARS = 3

FLAT = 50.0  # where prices did not move, RSI and stochastic say neither up nor down


def sma(bars: Bars) -> Values:
    """Return the simple moving averages of the last 5, 10, 20, 50 and 200 closes.

    Formula: sum of the last n closes / n, from bar n on.
    """
    return tuple(at_end(_SMA(bars.close[-count:], count)) for count in SMA_BARS)


def ema(bars: Bars) -> Values:
    """Return the exponential moving averages of 12 and 26 closes.

    Formula: ema += 2 / (n + 1) * (close - ema). Seeded at bar n with the mean of the first n.
    """
    return tuple(at_end(_EMA(bars.close, count)) for count in EMA_BARS)


def rsi(bars: Bars) -> Values:
    """Return Wilder's relative strength index over 14 changes: of the last bar, of the one before.

    Formula: 100 * gain / (gain + loss), where each is an average with weight 1/14. Seeded at
    bar 15 with the means of the first 14 changes. Without any change the answer is 50.
    Source: J. W. Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    line = _RSI(bars.close, RSI_BARS)
    values = at_end(line), at_end(line, 2)
    if 0.0 in values:
        # TA-Lib says 0 both for falls only and for no change. Its CMO, 100 * (gain - loss) /
        # (gain + loss) of the same averages, says -100 for the one and 0 for the other.
        line = FLAT + _CMO(bars.close, RSI_BARS) / 2
        values = at_end(line), at_end(line, 2)
    return values


def macd(bars: Bars) -> Values:
    """Return MACD(12, 26, 9): the line, its signal and their difference, the histogram.

    Formula: ema(12) - ema(26); signal = ema(9) of that. Both averages are seeded at bar 26, with
    the mean of the last 12 and of all 26 closes; the signal at bar 34, with the mean of the first
    9 values of the line. TA-Lib gives all three from bar 34 on.
    """
    return tuple(at_end(line) for line in _MACD(bars.close, *MACD_BARS))


def bollinger(bars: Bars) -> Values:
    """Return the upper, middle and lower Bollinger band over 20 closes.

    Formula: sma(20) + 2 deviations, sma(20), sma(20) - 2 deviations; the deviation is that of
    the population (divided by 20). Source: J. Bollinger, Bollinger on Bollinger Bands, 2001.
    """
    lines = _BBANDS(bars.close[-BOLLINGER_BARS:], BOLLINGER_BARS, BOLLINGER_WIDTH, BOLLINGER_WIDTH)
    return tuple(at_end(line) for line in lines)


def stochastic(bars: Bars) -> Values:
    """Return the fast stochastic: %K over 14 bars, and %D, the mean of the last three %K.

    Formula: 100 * (close - lowest low) / (highest high - lowest low). Without any range %K
    is 50. As TA-Lib's STOCHF, both start at bar 16, when there are three %K.
    """
    count = K_BARS + D_BARS - 1
    if len(bars) < count:
        return None, None
    high, low, close = bars.high[-count:], bars.low[-count:], bars.close[-count:]
    lines = _STOCHF(high, low, close, K_BARS, 1)[0][-D_BARS:].tolist()
    if 0.0 in lines:  # a close at the lowest low, or no range: TA-Lib says 0 for both
        ranges = _MAX(high, K_BARS)[-D_BARS:] - _MIN(low, K_BARS)[-D_BARS:]
        lines = np.where(ranges == 0.0, FLAT, lines).tolist()
    return finite(lines[-1]), finite(sum(lines) / D_BARS)


def without_nan(bars: Bars) -> Bars:
    """Return the bars that have a close; TA-Lib spreads one NaN over all that follows."""
    missing = np.isnan(bars.close)
    return bars[~missing] if missing.any() else bars


def at_end(line: Floats, place: int = 1) -> float | None:
    """Return the `place`-th value from the end, or None if there is no finite one."""
    return finite(line[-place].item()) if len(line) >= place else None


def finite(value: float) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None
