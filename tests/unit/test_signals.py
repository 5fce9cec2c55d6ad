"""Signals follow the rules of the contract, bar by bar, and moods add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import talib

from actors.indicators.signals import sentiment_of, signals_of
from actors.indicators.tables import BULLISH, SIGNAL_TYPES
from infra.bars import NS_PER_DAY, Bars, Floats
from infra.sources.replay import load_records
from tests.contract.test_live_indicators import random_bars

AAPL = load_records()["AAPL"].bars[-1_500:]
Names = dict[str, list[int]]


def made(close: Floats) -> Bars:
    stamps = np.arange(len(close), dtype=np.int64) * NS_PER_DAY
    return Bars(stamps, close, close + 1, close - 1, close, np.full(len(close), 100, np.int64))


def by_rule(bars: Bars) -> Names:
    """Return the rows of each signal by the contract's table, one bar after the other."""
    close = bars.close
    found: Names = {name: [] for name in SIGNAL_TYPES}
    averages = {n: talib.SMA(close, n) for n in (20, 50, 200)}
    rsi, (upper, _, lower) = talib.RSI(close, 14), talib.BBANDS(close, 20, 2, 2)
    for row in range(1, len(close)):
        p, c = close[row - 1], close[row]
        for n, ma in averages.items():
            if p <= ma[row - 1] and c > ma[row]:
                found[f"MA{n}_breakout_up"].append(row)
            if p >= ma[row - 1] and c < ma[row]:
                found[f"MA{n}_breakout_down"].append(row)
        before, now = rsi[row - 1], rsi[row]
        if before < 70 <= now:
            found["RSI_overbought"].append(row)
        elif before > 30 >= now:
            found["RSI_oversold"].append(row)
        elif before < 50 <= now:
            found["RSI_bullish"].append(row)
        elif before > 50 >= now:
            found["RSI_bearish"].append(row)
        if p <= upper[row - 1] and c > upper[row]:
            found["BB_break_upper"].append(row)
        elif abs(c - upper[row]) / upper[row] <= 0.01:
            found["BB_touch_upper"].append(row)
        if p >= lower[row - 1] and c < lower[row]:
            found["BB_break_lower"].append(row)
        elif abs(c - lower[row]) / lower[row] <= 0.01:
            found["BB_touch_lower"].append(row)
        short, long = averages[50], averages[200]
        if short[row - 1] <= long[row - 1] and short[row] > long[row]:
            found["golden_cross"].append(row)
        if short[row - 1] >= long[row - 1] and short[row] < long[row]:
            found["dead_cross"].append(row)
    return found


@pytest.mark.parametrize("bars", [AAPL, random_bars(1, 600)], ids=["real", "random"])
def test_signals_are_those_of_the_rules(bars: Bars) -> None:
    found: Names = {name: [] for name in SIGNAL_TYPES}
    for signal in signals_of(bars):
        found[signal.type].append(signal.row)

    wanted = by_rule(bars)
    for name in SIGNAL_TYPES:
        assert found[name] == wanted[name], name
    assert sum(map(len, wanted.values())) > 100


def test_each_type_is_found_somewhere() -> None:
    found = {signal.type for signal in signals_of(AAPL)}

    assert found == set(SIGNAL_TYPES)


def test_strength_is_the_distance_from_what_was_crossed() -> None:
    for signal in signals_of(AAPL):
        if signal.type.startswith(("MA", "BB")):
            wanted = abs(signal.price - signal.value) / signal.value * 100
        elif signal.type.startswith("RSI"):
            wanted = abs(signal.value - 50)
        else:
            continue
        assert signal.strength == pytest.approx(wanted)
        assert (signal.direction == "bullish") == (signal.type in BULLISH)


def test_the_last_bars_are_a_part_of_all() -> None:
    whole = signals_of(AAPL)

    assert signals_of(AAPL, 30) == [s for s in whole if s.row >= len(AAPL) - 30]


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_few_or_flat_bars_have_none(count: int) -> None:
    assert signals_of(made(np.full(count, 5.0))) == []


# -- sentiment ---------------------------------------------------------------------------------


def test_fewer_than_a_hundred_bars_have_no_mood() -> None:
    assert sentiment_of(AAPL[:99]) is None
    assert sentiment_of(AAPL[:100]) is not None


def test_a_rise_is_bullish_but_for_what_calls_it_overbought() -> None:
    mood = sentiment_of(made(np.exp(np.linspace(0, 1, 200)) * 100))

    assert mood is not None
    assert mood.components["averages"] == 2
    assert mood.components["macd"] == 2
    assert mood.components["rsi"] == -2
    assert mood.score == sum(mood.components.values())
    assert mood.ratio == pytest.approx((mood.score + 10) / 20)


def test_a_fall_mirrors_a_rise() -> None:
    mood = sentiment_of(made(400 - np.exp(np.linspace(0, 1, 200)) * 100))

    assert mood is not None
    assert mood.components["averages"] == -2
    assert mood.components["macd"] == -2
    assert mood.components["rsi"] == 2


def test_flat_prices_are_neutral() -> None:
    mood = sentiment_of(made(np.full(200, 7.0)))

    assert mood is not None
    assert (mood.score, mood.label, mood.ratio) == (0, "neutral", 0.5)


def test_moods_lie_between_their_bounds() -> None:
    for stop in range(100, 1_500, 50):
        mood = sentiment_of(AAPL[:stop])
        assert mood is not None
        assert 0 <= mood.ratio <= 1
        assert math.isclose(mood.ratio, (mood.score + 10) / 20)
