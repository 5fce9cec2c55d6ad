"""The same TA-Lib calls and the same JSON as an answer needs, in a bare script."""

from __future__ import annotations

import time
from typing import Any

import orjson
import talib

from infra.bars import Bars


def computed(bars: Bars, about: dict[str, Any]) -> bytes:
    """Return `about` with the last values of the six indicators, as JSON."""
    high, low, close = bars.high, bars.low, bars.close
    sma = {str(n): talib.SMA(close[-n:], n).item(-1) for n in (5, 10, 20, 50, 200)}
    ema = {str(n): talib.EMA(close, n).item(-1) for n in (12, 26)}
    rsi = talib.RSI(close, 14)
    macd = [line.item(-1) for line in talib.MACD(close, 12, 26, 9)]
    bands = [line.item(-1) for line in talib.BBANDS(close[-20:], 20, 2.0, 2.0)]
    k_line = talib.STOCHF(high[-16:], low[-16:], close[-16:], 14, 1)[0][-3:].tolist()
    indicators = {
        "sma": sma,
        "ema": ema,
        "rsi": {"current": rsi.item(-1), "previous": rsi.item(-2)},
        "macd": dict(zip(("macd", "signal", "histogram"), macd, strict=True)),
        "bollinger": dict(zip(("upper", "middle", "lower"), bands, strict=True)),
        "stochastic": {"k_percent": k_line[-1], "d_percent": sum(k_line) / 3},
    }
    return orjson.dumps({**about, "indicators": indicators})


def times(bars: Bars, about: dict[str, Any], count: int) -> list[float]:
    """Return how many milliseconds each of `count` computations takes."""
    taken = []
    for _ in range(count):
        started_s = time.perf_counter()
        computed(bars, about)
        taken.append((time.perf_counter() - started_s) * 1e3)
    return taken
