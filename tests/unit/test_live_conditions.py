"""Conditions on the values of now: what they say, and when they stop to hold."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.indicators.language import parse_live_condition
from infra.errors import ExpressionInvalid, ParameterInvalid

ROOT = Path(__file__).parents[2]
NOW = {
    "close": 210.0,
    "change_pct": 4.0,
    "rsi(14).rsi": 28.0,
    "sma(50).sma": 200.0,
    "vwap.vwap": 207.0,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("price > 200 and rsi(14) < 30", True),
        ("close > 200 and rsi(14) < 20", False),
        ("change_pct >= 4 or price < 1", True),
        ("not price > 300", True),
        ("price / sma(50) > 1.04", True),
        ("price - sma(50) == 10", True),
        ("price != 210", False),
        ("-price < -200", True),
        ("ema(9) > 1", False),  # not known
        ("not ema(9) > 1", False),
        ("price / (change_pct - 4) > 1", False),  # divides by zero
        ("not price / (change_pct - 4) > 1", False),
        ("not (ema(9) > 1 and price > 300)", True),
        ("not (ema(9) > 1 or price > 300)", False),
        ("vwap < 208", True),
        ("volume > 1 or price > 1", True),
    ],
)
def test_what_a_condition_says(text: str, holds: bool) -> None:
    assert parse_live_condition(text).holds(NOW, {}) is holds


def test_a_crossing_is_since_the_last_values() -> None:
    condition = parse_live_condition("close crossed_above sma(50)")
    before = NOW | {"close": 199.0}
    assert condition.holds(NOW, before)
    assert not condition.holds(NOW, {})
    assert not condition.holds(NOW, NOW)
    assert not parse_live_condition("close crossed_below sma(50)").holds(NOW, before)
    assert parse_live_condition("close crossed_below sma(50)").holds(before, NOW)


@settings(deadline=None)  # the first example makes the parser
@given(st.floats(1, 1_000), st.floats(0, 10), st.sampled_from([">", ">=", "<", "<="]))
def test_what_holds_holds_with_slack_too(price: float, slack: float, sign: str) -> None:
    for text in (f"price {sign} 200", f"not price {sign} 200"):
        condition = parse_live_condition(text)
        if condition.holds({"close": price}, {}):
            assert condition.holds({"close": price}, {}, slack)


def test_slack_is_percent_of_the_right_side() -> None:
    condition = parse_live_condition("price > 200")
    assert condition.holds({"close": 198.1}, {}, 1.0)
    assert not condition.holds({"close": 198.0}, {}, 1.0)
    inverse = parse_live_condition("not price < 200")
    assert inverse.holds({"close": 198.0}, {}, 1.0)
    assert not inverse.holds({"close": 197.9}, {}, 1.0)


def test_it_says_what_it_needs_and_travels() -> None:
    condition = parse_live_condition("price > sma(50) and macd.signal > 0")
    assert condition.indicators == "sma(50),macd(12,26,9)"
    assert pickle.loads(pickle.dumps(condition)) == condition
    assert parse_live_condition("price > 1").indicators == ""


def test_alerts_ask_conditions_without_what_computes_indicators() -> None:
    heavy = {"numba", "talib", "pandas", "scipy", "lark"}
    check = f"import sys, actors.alerts.actor; print(sorted({heavy} & set(sys.modules)))"

    found = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)

    assert found.stdout.strip() == "[]", found.stderr


@pytest.mark.parametrize(
    "text", ["price", "close[1] > 2", "sma(50)[2] > 1", "price >", "moon > 1", "",
             "close crossed_above sma(50) within 5"],
)  # fmt: skip
def test_what_cannot_be_live_is_refused(text: str) -> None:
    with pytest.raises((ExpressionInvalid, ParameterInvalid)):
        parse_live_condition(text)
