"""What every live indicator must say: TA-Lib, or exact arithmetic where that has no function,
answers 0 on flat prices, or drifts after a jump.

Each oracle takes bars as float64 columns and the parameters, and returns one array an output, as
long as the bars, NaN where there is no value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import talib
from numpy.typing import NDArray

Line = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prices:
    """Columns of bars; `session` numbers the days."""

    open: Line
    high: Line
    low: Line
    close: Line
    volume: Line
    session: Line

    def __len__(self) -> int:
        return len(self.close)


Oracle = Callable[..., tuple[Line, ...]]


def windowed(function: Callable[[Prices, int], Any], back: int, prices: Prices) -> Line:
    """Return a function of each bar's number, from bar `back` on."""
    found = np.full(len(prices), np.nan)
    for row in range(back, len(prices)):
        found[row] = function(prices, row)
    return found


def mean(values: Line) -> float:
    return math.fsum(values) / len(values)


def deviation(values: Line) -> float:
    middle = mean(values)
    return math.sqrt(math.fsum((v - middle) ** 2 for v in values) / len(values))


def last(values: Line, row: int, n: int) -> Line:
    return values[row - n + 1 : row + 1]


def sma(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)
    return (windowed(lambda q, row: mean(last(q.close, row, n)), n - 1, p),)


def wma(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)
    weights = np.arange(1, n + 1)
    total = n * (n + 1) / 2
    return (windowed(lambda q, row: math.fsum(weights * last(q.close, row, n)) / total, n - 1, p),)


def bollinger(p: Prices, n: float, width: float) -> tuple[Line, ...]:
    n = int(n)
    (middle,) = sma(p, n)
    reach = width * windowed(lambda q, row: deviation(last(q.close, row, n)), n - 1, p)
    return middle + reach, middle, middle - reach


def stddev(p: Prices, n: float, times: float) -> tuple[Line, ...]:
    n = int(n)
    return (times * windowed(lambda q, row: deviation(last(q.close, row, n)), n - 1, p),)


def rsi(p: Prices, n: float) -> tuple[Line, ...]:
    # TA-Lib's CMO is of the same averages, and tells flat (0) from falling only (-100).
    return (50.0 + safely(talib.CMO, p.close, int(n), back=int(n)) / 2.0,)


def cutler_rsi(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)

    def one(q: Prices, row: int) -> float:
        changes = np.diff(q.close[row - n : row + 1])
        up, down = math.fsum(changes[changes > 0]), -math.fsum(changes[changes < 0])
        return 100 * up / (up + down) if up + down else 50.0

    return (windowed(one, n, p),)


def percent(p: Prices, k: int) -> Line:
    def one(q: Prices, row: int) -> float:
        low, high = last(q.low, row, k).min(), last(q.high, row, k).max()
        return float(100 * (q.close[row] - low) / (high - low)) if high > low else 50.0

    return windowed(one, k - 1, p)


def moving(line: Line, n: int) -> Line:
    found = np.full(len(line), np.nan)
    for row in range(len(line)):
        part = line[max(0, row - n + 1) : row + 1]
        if len(part) == n and not np.isnan(part).any():
            found[row] = mean(part)
    return found


def stochastic(p: Prices, k: float, d: float) -> tuple[Line, ...]:
    fast = percent(p, int(k))
    smooth = moving(fast, int(d))
    return np.where(np.isnan(smooth), np.nan, fast), smooth


def slow_stochastic(p: Prices, k: float, smooth: float, d: float) -> tuple[Line, ...]:
    slow = moving(percent(p, int(k)), int(smooth))
    again = moving(slow, int(d))
    return np.where(np.isnan(again), np.nan, slow), again


def mfi(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)
    typical = (p.high + p.low + p.close) / 3.0

    def one(q: Prices, row: int) -> float:
        rows = range(row - n + 1, row + 1)
        flow = typical * q.volume
        up = math.fsum(flow[r] for r in rows if typical[r] > typical[r - 1])
        down = math.fsum(flow[r] for r in rows if typical[r] < typical[r - 1])
        return float(100 * up / (up + down)) if up + down >= 1.0 else 0.0

    return (windowed(one, n, p),)


def cci(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)
    typical = (p.high + p.low + p.close) / 3.0

    def one(q: Prices, row: int) -> float:
        part = last(typical, row, n)
        total = 0.0  # summed as TA-Lib does: whether prices are flat hangs on the last bit
        for value in part:
            total += value
        middle = total / n
        off = sum(abs(value - middle) for value in part)
        ahead = typical[row] - middle
        return float(ahead / (0.015 * (off / n))) if ahead and off else 0.0

    return (windowed(one, n - 1, p),)


def vwap(p: Prices) -> tuple[Line, ...]:
    typical = (p.high + p.low + p.close) / 3.0
    found = np.full(len(p), np.nan)
    for row in range(len(p)):
        rows = [r for r in range(row + 1) if p.session[r] == p.session[row]]
        shares = math.fsum(p.volume[rows])
        if shares:
            found[row] = math.fsum(typical[rows] * p.volume[rows]) / shares
    return (found,)


def rolling_vwap(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)
    typical = (p.high + p.low + p.close) / 3.0

    def one(q: Prices, row: int) -> float:
        shares = math.fsum(last(q.volume, row, n))
        paid = math.fsum(last(typical * q.volume, row, n))
        return paid / shares if shares else math.nan

    return (windowed(one, n - 1, p),)


def donchian(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)
    high = windowed(lambda q, row: last(q.high, row, n).max(), n - 1, p)
    low = windowed(lambda q, row: last(q.low, row, n).min(), n - 1, p)
    return high, (high + low) / 2, low


def keltner(p: Prices, n: float, m: float, width: float) -> tuple[Line, ...]:
    middle = safely(talib.EMA, p.close, int(n), back=int(n) - 1)
    reach = width * safely(talib.ATR, p.high, p.low, p.close, int(m), back=int(m))
    middle = np.where(np.isnan(reach), np.nan, middle)
    return middle + reach, middle, middle - reach


def volume_ratio(p: Prices, n: float) -> tuple[Line, ...]:
    n = int(n)

    def one(q: Prices, row: int) -> float:
        middle = mean(last(q.volume, row, n))
        return float(q.volume[row] / middle) if middle else math.nan

    return (windowed(one, n - 1, p),)


def safely(function: Callable[..., Any], *arguments: Any, back: int) -> Line:
    """Return what TA-Lib says, NaN for all where there are too few bars for it to run."""
    count = len(arguments[0])
    if count <= back:
        return np.full(count, np.nan)
    return np.asarray(function(*arguments), np.float64)


def from_talib(
    name: str, *inputs: str, back: Callable[..., int], whole: int | None = None
) -> Oracle:
    """Return the oracle that asks TA-Lib; `whole` of the parameters count bars."""
    function = getattr(talib, name)

    def ask(p: Prices, *params: float) -> tuple[Line, ...]:
        columns = [getattr(p, column) for column in inputs]
        given = [int(v) if whole is None or i < whole else v for i, v in enumerate(params)]
        if len(p) <= back(*params):
            outputs = 3 if name == "MACD" else 2 if name == "AROON" else 1
            return (np.full(len(p), np.nan),) * outputs
        found = function(*columns, *given)
        return tuple(found) if isinstance(found, tuple) else (found,)

    return ask


_HLC = ("high", "low", "close")


def adx(p: Prices, n: float) -> tuple[Line, ...]:
    columns, n = (p.high, p.low, p.close), int(n)
    return (
        safely(talib.ADX, *columns, n, back=2 * n - 1),
        safely(talib.PLUS_DI, *columns, n, back=n),
        safely(talib.MINUS_DI, *columns, n, back=n),
    )


def aroon(p: Prices, n: float) -> tuple[Line, ...]:
    down, up = from_talib("AROON", "high", "low", back=lambda n: int(n))(p, n)
    return up, down


ORACLES: dict[str, Oracle] = {
    "sma": sma,
    "ema": from_talib("EMA", "close", back=lambda n: int(n) - 1),
    "wma": wma,
    "dema": from_talib("DEMA", "close", back=lambda n: 2 * (int(n) - 1)),
    "rsi": rsi,
    "cutler_rsi": cutler_rsi,
    "macd": from_talib("MACD", "close", back=lambda f, s, g: int(max(f, s) + g) - 2),
    "bollinger": bollinger,
    "stochastic": stochastic,
    "slow_stochastic": slow_stochastic,
    "atr": from_talib("ATR", *_HLC, back=lambda n: int(n)),
    "natr": from_talib("NATR", *_HLC, back=lambda n: int(n)),
    "adx": adx,
    "cci": cci,
    "roc": from_talib("ROC", "close", back=lambda n: int(n)),
    "momentum": from_talib("MOM", "close", back=lambda n: int(n)),
    "williams_r": from_talib("WILLR", *_HLC, back=lambda n: int(n) - 1),
    "obv": from_talib("OBV", "close", "volume", back=lambda: 0),
    "mfi": mfi,
    "vwap": vwap,
    "rolling_vwap": rolling_vwap,
    "donchian": donchian,
    "keltner": keltner,
    "aroon": aroon,
    "trix": from_talib("TRIX", "close", back=lambda n: 3 * (int(n) - 1) + 1),
    "psar": from_talib("SAR", "high", "low", back=lambda *_: 1, whole=0),
    "stddev": stddev,
    "volume_ratio": volume_ratio,
}

# Those of exact arithmetic, beside what TA-Lib says of them where prices are ordinary.
BESIDE: dict[str, Oracle] = {
    "sma": from_talib("SMA", "close", back=lambda n: int(n) - 1),
    "wma": from_talib("WMA", "close", back=lambda n: int(n) - 1),
    "rsi": from_talib("RSI", "close", back=lambda n: int(n)),
    "cci": from_talib("CCI", *_HLC, back=lambda n: int(n) - 1),
    "mfi": from_talib("MFI", *_HLC, "volume", back=lambda n: int(n)),
}
