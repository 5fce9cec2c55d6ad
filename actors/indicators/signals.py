"""Signals of a history: what crossed or touched what, bar by bar, and the mood they add up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from actors.indicators.functions import function_named
from actors.indicators.tables import Sentiment, Signal
from infra.bars import Bars, Floats

OVERBOUGHT, MIDDLE, OVERSOLD = 70.0, 50.0, 30.0  # Wilder's levels of the RSI
TOUCH = 0.01  # of a band: so near is touched
SENTIMENT_BARS = 100  # of fewer there is none

_Bools = NDArray[np.bool_]


Line = Mapping[str, Floats]  # close, sma20, sma50, sma200, rsi, upper, lower
Found = tuple[str, _Bools, Floats, Floats]  # type, where, the value that made it, strength


def signals_of(bars: Bars, last: int | None = None) -> list[Signal]:
    """Return the signals of the last so many bars, or of all, oldest first.

    `bars` are closed and adjusted, oldest first. Of the four of RSI a bar has one at most, the
    first of overbought, oversold, bullish, bearish; a band that is broken is not touched too.
    """
    if len(bars) < 2:
        return []
    now = _lines(bars)
    before = {name: np.concatenate(([np.nan], line[:-1])) for name, line in now.items()}
    first = 0 if last is None else max(0, len(bars) - last)
    found = _signals(bars, signals_between(before, now), first)
    return sorted(found, key=lambda signal: signal.row)


def signals_between(before: Line, now: Line) -> list[Found]:
    """Return where signals are, from lines at bars and at the bar before each."""
    found: list[Found] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for count in (20, 50, 200):
            name, line = f"MA{count}_breakout", now[f"sma{count}"]
            apart = np.abs(now["close"] - line) / line * 100
            pair = "close", f"sma{count}"
            found.append((f"{name}_up", _went_above(before, now, *pair), line, apart))
            found.append((f"{name}_down", _went_below(before, now, *pair), line, apart))
        found += _of_rsi(before["rsi"], now["rsi"])
        found += _of_bands(before, now)
        long, pair = now["sma200"], ("sma50", "sma200")
        apart = np.abs(now["sma50"] - long) / long * 100
        found.append(("golden_cross", _went_above(before, now, *pair), long, apart))
        found.append(("dead_cross", _went_below(before, now, *pair), long, apart))
    return found


def _signals(bars: Bars, found: list[Found], first: int) -> Iterator[Signal]:
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


def _of_rsi(before: Floats, now: Floats) -> list[Found]:
    distance = np.abs(now - MIDDLE)
    kinds = {
        "RSI_overbought": (before < OVERBOUGHT) & (now >= OVERBOUGHT),
        "RSI_oversold": (before > OVERSOLD) & (now <= OVERSOLD),
        "RSI_bullish": (before < MIDDLE) & (now >= MIDDLE),
        "RSI_bearish": (before > MIDDLE) & (now <= MIDDLE),
    }
    taken = np.zeros(len(now), np.bool_)
    found: list[Found] = []
    for name, where in kinds.items():
        found.append((name, where & ~taken, now, distance))
        taken |= where
    return found


def _of_bands(before: Line, now: Line) -> list[Found]:
    found: list[Found] = []
    for side, broke in (("upper", _went_above), ("lower", _went_below)):
        band = now[side]
        apart = np.abs(now["close"] - band) / np.abs(band) * 100
        broken = broke(before, now, "close", side)
        touched = (apart <= TOUCH * 100) & ~broken & (now["upper"] > now["lower"])
        found.append((f"BB_break_{side}", broken, band, apart))
        found.append((f"BB_touch_{side}", touched, band, apart))
    return found


def _lines(bars: Bars) -> dict[str, Floats]:
    bands = function_named("bollinger").compute(bars, (20.0, 2.0))
    averages = {f"sma{n}": _line(bars, "sma", n) for n in (20, 50, 200)}
    rsi = _line(bars, "rsi", 14)
    sides = {side: bands[side] for side in ("upper", "lower")}
    return {"close": bars.close, "rsi": rsi} | averages | sides


def _line(bars: Bars, name: str, count: int) -> Floats:
    return np.ascontiguousarray(function_named(name).compute(bars, (float(count),))[name])


def _went_above(before: Line, now: Line, line: str, other: str) -> _Bools:
    return (before[line] <= before[other]) & (now[line] > now[other])


def _went_below(before: Line, now: Line, line: str, other: str) -> _Bools:
    return (before[line] >= before[other]) & (now[line] < now[other])


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
