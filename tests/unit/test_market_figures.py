"""Figures of a market, against ones worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infra.bars import Floats
from pipelines.forecast import forecast
from pipelines.market_figures import (
    breadth,
    drawdown_pct,
    mean_change_pct,
    mean_correlation,
    panel,
    value_at_risk_pct,
    volatility_pct,
)


def test_drawdown_is_the_deepest_fall_from_a_high() -> None:
    assert drawdown_pct(np.array([100.0, 120.0, 90.0, 130.0, 117.0])) == pytest.approx(-25.0)
    assert drawdown_pct(np.array([1.0, 2.0, 3.0])) == 0.0
    assert drawdown_pct(np.empty(0)) is None


def test_volatility_is_a_years() -> None:
    closes = np.array([100.0, 110.0, 99.0])  # +10 %, -10 %
    assert volatility_pct(closes) == pytest.approx(100 * np.sqrt(0.02) * np.sqrt(252))
    assert volatility_pct(closes[:2]) is None


def test_value_at_risk_is_a_quantile_of_what_happened() -> None:
    returns = np.array([-0.05, -0.03, *([0.01] * 38)])
    closes = 100 * np.cumprod(np.insert(1 + returns, 0, 1.0))
    var, cvar = value_at_risk_pct(closes) or (0.0, 0.0)
    assert var == pytest.approx(100 * np.quantile(returns, 0.05))
    assert cvar == pytest.approx(-4.0)
    assert value_at_risk_pct(closes[:20]) is None


def test_breadth_counts() -> None:
    rising, falling = np.arange(1.0, 301.0), np.arange(300.0, 0.0, -1.0)
    found = breadth({"A": rising, "B": falling, "C": np.array([1.0, 1.0])})
    assert (found["advances"], found["declines"], found["unchanged"]) == (1, 1, 1)
    assert (found["above_sma50_pct"], found["above_sma200_pct"]) == (50.0, 50.0)
    assert (found["new_highs"], found["new_lows"]) == (1, 1)  # C has no year
    still = breadth({"A": rising, "B": falling, "C": np.ones(252)})
    assert (still["new_highs"], still["new_lows"]) == (2, 2)  # who does not move is at both


def test_a_panel_is_of_the_bars_that_all_have() -> None:
    times: Any = np.arange(100)
    all_days = times, times * 1.0
    holiday = times[times != 50], times[times != 50] * 2.0
    young = times[60:], times[60:] * 3.0
    days: Any = np.arange(-50, 100)
    always = days, days * 4.0  # more days than others trade
    found = panel({"A": all_days, "H": holiday, "Y": young, "C": always})

    assert set(found) == {"A", "H", "C"}
    assert found["A"].tolist() == [n for n in range(100) if n != 50]
    for name, factor in (("H", 2.0), ("C", 4.0)):
        assert found[name].tolist() == [factor * value for value in found["A"]]
    assert panel({}) == {}
    assert panel({"A": (times[:10], times[:10] * 1.0), "B": (times[50:], times[50:] * 1.0)}) == {}


def test_correlation_and_changes() -> None:
    draws = np.random.default_rng(1)
    line: Any = np.cumprod(1 + draws.normal(0, 0.01, 100))
    assert mean_correlation([line, 2 * line]) == pytest.approx(1.0)
    assert mean_correlation([line]) is None
    assert mean_correlation([line, np.ones(100)]) is None  # one does not move
    assert mean_correlation([line[:30], line[:30]]) is None
    assert mean_correlation([line[:31], line[:31]]) == pytest.approx(1.0)
    assert mean_correlation([]) is None
    assert mean_change_pct([np.array([1.0, 2.0]), np.array([1.0, 1.0])], 1) == 50.0
    assert mean_change_pct([np.array([1.0])], 1) is None


def test_a_forecast_finds_what_is_there_and_nothing_where_nothing_is() -> None:
    draws = np.random.default_rng(7)
    noise: dict[str, Any] = {n: np.cumprod(1 + draws.normal(0, 0.01, 400)) for n in "ABC"}
    found = forecast(noise)
    assert found is not None
    assert 0.42 < found.accuracy < 0.58
    # after a rise a fall: each return is minus half the one before, and noise
    series: dict[str, Floats] = {}
    for name in "ABC":
        returns = [0.0]
        for _ in range(400):
            returns.append(-0.8 * returns[-1] + draws.normal(0, 0.01))
        series[name] = 100 * np.cumprod(1 + np.array(returns))
    learned = forecast(series)
    assert learned is not None
    assert learned.accuracy > learned.baseline + 0.1
    assert set(learned.rise) == {"A", "B", "C"}
    assert forecast({"A": np.arange(1.0, 30.0)}) is None
