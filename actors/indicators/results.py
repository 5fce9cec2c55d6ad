"""Indicator results as plain dictionaries: Python floats and None, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from actors.indicators import reference, standard
from actors.indicators.names import NAMES, check_method
from actors.indicators.signals import OVERBOUGHT, OVERSOLD
from actors.indicators.standard import EMA_BARS, SMA_BARS, Values, at_end
from infra.bars import Bars

Fields = dict[str, float | None]

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "sma": tuple(map(str, SMA_BARS)),
    "ema": tuple(map(str, EMA_BARS)),
    "rsi": ("current", "previous"),
    "macd": ("macd", "signal", "histogram"),
    "bollinger": ("upper", "middle", "lower"),
    "stochastic": ("k_percent", "d_percent"),
}
_STANDARD: Mapping[str, Callable[[Bars], Values]] = {
    "sma": standard.sma,
    "ema": standard.ema,
    "rsi": standard.rsi,
    "macd": standard.macd,
    "bollinger": standard.bollinger,
    "stochastic": standard.stochastic,
}
_CATALOGUE: Mapping[str, Mapping[str, Callable[[Bars], Values]]] = {
    "standard": _STANDARD,
    "reference": {
        **_STANDARD,
        "rsi": reference.rsi,
        "macd": reference.macd,
        "bollinger": reference.bollinger,
    },
}


def latest(bars: Bars, names: Sequence[str], method: str) -> dict[str, Fields]:
    """Return the last values of the indicators in `names`, in catalogue order.

    Values come from all `bars`, oldest first; None stands for a value that needs more of them.
    Raises ParameterInvalid for an unknown method. Cost grows with the number of bars.
    """
    compute = _CATALOGUE[check_method(method)]
    bars = standard.without_nan(bars)
    return {
        name: dict(zip(_FIELDS[name], compute[name](bars), strict=True))
        for name in NAMES
        if name in names
    }


def comprehensive(bars: Bars, method: str) -> dict[str, Any]:
    """Return all indicators and the signals of RSI and MACD, each named or None."""
    indicators = latest(bars, NAMES, method)
    signals = {"rsi": _rsi_signal(indicators["rsi"]), "macd": _macd_signal(indicators["macd"])}
    renamed = {f"current_{field}": value for field, value in indicators["macd"].items()}
    return {"signals": signals, "indicators": {**indicators, "macd": renamed}}


def _rsi_signal(rsi: Fields) -> str | None:
    previous, current = rsi["previous"], rsi["current"]
    if previous is None or current is None:
        return None
    if previous < OVERBOUGHT <= current:
        return "overbought"
    return "oversold" if previous > OVERSOLD >= current else None


def _macd_signal(macd: Fields) -> str | None:
    line, signal, histogram = macd["macd"], macd["signal"], macd["histogram"]
    if line is None or signal is None or histogram is None:
        return None
    if line > signal and histogram > 0:
        return "bullish"
    return "bearish" if line < signal and histogram < 0 else None


def trend(bars: Bars) -> dict[str, Any]:
    """Return `ma_20` and `ma_50` (simple, in price units) and the `trend` of them and the close.

    Bullish: ma_20 above ma_50 and the last close above ma_20; bearish: both below; else neutral.
    None where there are not 50 bars.
    """
    bars = standard.without_nan(bars)
    averages = latest(bars, ("sma",), "standard")["sma"]
    ma_20, ma_50 = averages["20"], averages["50"]
    return {"ma_20": ma_20, "ma_50": ma_50, "trend": _trend(at_end(bars.close), ma_20, ma_50)}


def _trend(close: float | None, ma_20: float | None, ma_50: float | None) -> str | None:
    if close is None or ma_20 is None or ma_50 is None:
        return None
    if ma_20 > ma_50 and close > ma_20:
        return "bullish"
    return "bearish" if ma_20 < ma_50 and close < ma_20 else "neutral"
