"""Signals of a history: what crossed or touched what, bar by bar, and the mood they add up to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from actors.indicators.functions import function_named
from actors.indicators.tables import Sentiment, Signal
from infra.bars import Bars, Floats

OVERBOUGHT, MIDDLE, OVERSOLD = 70.0, 50.0, 30.0
TOUCH = 0.01  # of a band: so near is touched
SENTIMENT_BARS = 100  # of fewer there is none

_Bools = NDArray[np.bool_]


def signals_of(bars: Bars, last: int | None = None) -> list[Signal]:
    """Return the signals of the last so many bars, or of all, oldest first.

    `bars` are closed and adjusted, oldest first. Of the four of RSI a bar has one at most, the
    first of overbought, oversold, bullish, bearish; a band that is broken is not touched too.
    """
    if len(bars) < 2:
        return []
    close = bars.close
    found: list[tuple[str, _Bools, Floats, Floats]] = []
    averages = {n: _line(bars, "sma", n) for n in (20, 50, 200)}
    for count, line in averages.items():
        apart = np.abs(close - line) / line * 100
        found.append((f"MA{count}_breakout_up", _went_above(close, line), line, apart))
        found.append((f"MA{count}_breakout_down", _went_below(close, line), line, apart))
    found += _of_rsi(_line(bars, "rsi", 14))
    found += _of_bands(bars)
    apart = np.abs(averages[50] - averages[200]) / averages[200] * 100
    crosses = _went_above(averages[50], averages[200]), _went_below(averages[50], averages[200])
    found.append(("golden_cross", crosses[0], averages[200], apart))
    found.append(("dead_cross", crosses[1], averages[200], apart))
    first = 0 if last is None else max(0, len(bars) - last)
    return sorted(_signals(bars, found, first), key=lambda signal: signal.row)


def _signals(
    bars: Bars, found: list[tuple[str, _Bools, Floats, Floats]], first: int
) -> Iterator[Signal]:
    for name, where, values, strengths in found:
        for row in np.flatnonzero(where[first:]) + first:
            yield Signal(
                name,
                int(row),
                int(bars.opened_at_ns[row]),
                float(bars.close[row]),
                float(values[row]),
                float(strengths[row]),
                int(bars.volume[row]),
            )


def _of_rsi(rsi: Floats) -> list[tuple[str, _Bools, Floats, Floats]]:
    distance = np.abs(rsi - MIDDLE)
    before, now = _before(rsi), rsi
    with np.errstate(invalid="ignore"):
        kinds = {
            "RSI_overbought": (before < OVERBOUGHT) & (now >= OVERBOUGHT),
            "RSI_oversold": (before > OVERSOLD) & (now <= OVERSOLD),
            "RSI_bullish": (before < MIDDLE) & (now >= MIDDLE),
            "RSI_bearish": (before > MIDDLE) & (now <= MIDDLE),
        }
    taken = np.zeros(len(rsi), np.bool_)
    found = []
    for name, where in kinds.items():
        found.append((name, where & ~taken, rsi, distance))
        taken |= where
    return found


def _of_bands(bars: Bars) -> list[tuple[str, _Bools, Floats, Floats]]:
    close = bars.close
    bands = function_named("bollinger").compute(bars, (20.0, 2.0))
    found = []
    for side, broke in (("upper", _went_above), ("lower", _went_below)):
        band = bands[side]
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.abs(close - band) / np.abs(band) * 100
            broken = broke(close, band)
            touched = (apart <= TOUCH * 100) & ~broken & (bands["upper"] > bands["lower"])
        found.append((f"BB_break_{side}", broken, band, apart))
        found.append((f"BB_touch_{side}", touched, band, apart))
    return found


def _line(bars: Bars, name: str, count: int) -> Floats:
    return np.ascontiguousarray(function_named(name).compute(bars, (float(count),))[name])


def _before(line: Floats) -> Floats:
    return np.concatenate(([np.nan], line[:-1]))


def _went_above(line: Floats, other: Floats) -> _Bools:
    with np.errstate(invalid="ignore"):
        return (_before(line) <= _before(other)) & (line > other)


def _went_below(line: Floats, other: Floats) -> _Bools:
    with np.errstate(invalid="ignore"):
        return (_before(line) >= _before(other)) & (line < other)


# -- sentiment ---------------------------------------------------------------------------------


def sentiment_of(bars: Bars) -> Sentiment | None:
    """Return the mood of the last bar; None of fewer than 100 bars."""
    if len(bars) < SENTIMENT_BARS:
        return None
    close = float(bars.close[-1])
    rsi = float(_line(bars, "rsi", 14)[-1])
    macd = function_named("macd").compute(bars, (12.0, 26.0, 9.0))
    k, d = (v[-1] for v in function_named("stochastic").compute(bars, (14.0, 3.0)).values())
    short, long = (float(_line(bars, "sma", n)[-1]) for n in (20, 50))
    volume = float(function_named("volume_ratio").compute(bars, (20.0,))["volume_ratio"][-1])
    components = {
        "rsi": _rsi_score(rsi),
        "macd": _macd_score(float(macd["macd"][-1]), float(macd["signal"][-1])),
        "stochastic": _stochastic_score(float(k), float(d)),
        "averages": _averages_score(close, short, long),
    }
    if np.isfinite(volume):
        components["volume"] = 1 if volume >= 1.5 else -1 if volume <= 0.7 else 0
    score, most = sum(components.values()), 2 * len(components)
    return Sentiment(score, (score + most) / (2 * most), _label(score), components)


def _rsi_score(rsi: float) -> int:
    if rsi >= 70:
        return -2
    if rsi >= 60:
        return -1
    if rsi <= 30:
        return 2
    return 1 if rsi <= 40 else 0


def _macd_score(line: float, signal: float) -> int:
    if line == signal:
        return 0
    # The histogram is their difference, so it always agrees.
    return 2 if line > signal else -2


def _stochastic_score(k: float, d: float) -> int:
    if min(k, d) >= 80:
        return -2
    if max(k, d) <= 20:
        return 2
    if max(k, d) >= 70:
        return -1
    return 1 if min(k, d) <= 30 else 0


def _averages_score(close: float, short: float, long: float) -> int:
    if close > short:
        return 2 if short > long else 1
    if close < short:
        return -2 if short < long else -1
    return 0


def _label(score: int) -> str:
    for least, label in ((4, "very"), (2, ""), (1, "slightly")):
        if abs(score) >= least:
            return f"{label} {'bullish' if score > 0 else 'bearish'}".strip()
    return "neutral"
