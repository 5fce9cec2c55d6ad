"""Figures of a whole market: breadth, risk, how alike its symbols move. No state, no Ray.

Closes are float64 of one symbol, oldest first, adjusted. Returns are simple, of one bar.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infra.bars import Floats, Ints

SESSIONS_A_YEAR = 252
_TAIL = 0.05  # of the worst days, for value at risk
_LEAST_RETURNS = 30
_WHOLE = 0.9  # of the bars that half of the symbols have, below which a symbol is left out


def returns_of(closes: Floats) -> Floats:
    """Return the change of each bar against the one before, as a fraction."""
    return np.diff(closes) / closes[:-1] if len(closes) > 1 else np.empty(0)


def drawdown_pct(closes: Floats) -> float | None:
    """Return the deepest fall from a high before it, in percent, 0 or below."""
    if not len(closes):
        return None
    highs = np.maximum.accumulate(closes)
    return float(100 * np.min(closes / highs - 1))


def volatility_pct(closes: Floats) -> float | None:
    """Return the standard deviation of the returns (n - 1), a year's, in percent."""
    returns = returns_of(closes)
    if len(returns) < 2:
        return None
    return float(100 * np.std(returns, ddof=1) * np.sqrt(SESSIONS_A_YEAR))


def value_at_risk_pct(closes: Floats) -> tuple[float, float] | None:
    """Return the 5 % quantile of the returns, and the mean of those at or below it, in percent.

    Historical: no distribution is assumed. None for less than 30 returns.
    """
    returns = returns_of(closes)
    if len(returns) < _LEAST_RETURNS:
        return None
    limit = float(np.quantile(returns, _TAIL))
    return 100 * limit, float(100 * np.mean(returns[returns <= limit]))


def mean_correlation(series: Sequence[Floats]) -> float | None:
    """Return the mean of Pearson's correlation of all pairs.

    `series` are of the same bars, as `panel` makes them. None for less than two that move, or 30
    returns.
    """
    returns = np.array([returns_of(closes) for closes in series])
    if len(series) < 2 or returns.shape[1] < _LEAST_RETURNS:
        return None
    moving = returns[np.std(returns, axis=1) > 0]
    if len(moving) < 2:
        return None
    pairs = np.corrcoef(moving)[np.triu_indices(len(moving), k=1)]
    return float(np.mean(pairs))


def panel(series: Mapping[str, tuple[Ints, Floats]]) -> dict[str, Floats]:
    """Return closes side by side: those of the bars that all of these symbols have.

    `series`: opening times (int64 ns) and closes, oldest first. Symbols that lack more than a
    tenth of the bars that half of them have, such as young ones, are left out.
    """
    if not series:
        return {}
    times, counts = np.unique(
        np.concatenate([opened_at_ns for opened_at_ns, _ in series.values()]), return_counts=True
    )
    usual = times[2 * counts >= len(series)]
    kept = {
        symbol: (opened_at_ns, closes)
        for symbol, (opened_at_ns, closes) in series.items()
        if np.isin(usual, opened_at_ns).sum() >= _WHOLE * len(usual)
    }
    common = functools.reduce(np.intersect1d, (times for times, _ in kept.values()), usual)
    return {symbol: closes[np.isin(times, common)] for symbol, (times, closes) in kept.items()}


def breadth(closes: Mapping[str, Floats]) -> dict[str, Any]:
    """Return how many symbols rose and fell by the last bar, stand above their means, at extremes.

    Shares are percent of the symbols with enough bars; `new_highs` and `new_lows` are closes, of
    symbols with 252 bars.
    """
    last = {s: c for s, c in closes.items() if len(c) > 1}
    moves = [float(c[-1] - c[-2]) for c in last.values()]
    year = [c[-SESSIONS_A_YEAR:] for c in last.values() if len(c) >= SESSIONS_A_YEAR]
    return {
        "symbols": len(closes),
        "advances": sum(move > 0 for move in moves),
        "declines": sum(move < 0 for move in moves),
        "unchanged": sum(move == 0 for move in moves),
        "above_sma50_pct": _above_mean_pct(last.values(), 50),
        "above_sma200_pct": _above_mean_pct(last.values(), 200),
        "new_highs": sum(float(c[-1]) >= float(np.max(c)) for c in year),
        "new_lows": sum(float(c[-1]) <= float(np.min(c)) for c in year),
    }


def mean_change_pct(series: Sequence[Floats], bars: int) -> float | None:
    """Return the mean of the changes over the last `bars` bars, in percent, of who has them."""
    changes = [100 * (c[-1] / c[-1 - bars] - 1) for c in series if len(c) > bars]
    return float(np.mean(changes)) if changes else None


def _above_mean_pct(series: Any, bars: int) -> float | None:
    known = [c for c in series if len(c) >= bars]
    if not known:
        return None
    return 100 * sum(float(c[-1]) > float(np.mean(c[-bars:])) for c in known) / len(known)
