"""A small model of the next session's direction, and how often it was right.

Logistic regression on returns and volatility of before, over all symbols together. Walk-forward:
each block of sessions is forecast by a model that saw only sessions before it, so the stated
accuracy is of forecasts that could have been made. Needs scikit-learn (`finstage[ml]`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.bars import Floats
from pipelines.market_figures import returns_of

LAGS, VOLATILITY_BARS, BLOCKS = 5, 20, 5
_FIRST_SHARE = 0.5  # of the sessions, that the first model learns from
_LEAST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Forecast:
    """The chance of a rise by symbol, and what is known of such forecasts.

    `accuracy` and `baseline` (always the direction that was more frequent before) are shares of
    `forecasts` made out of sample.
    """

    rise: dict[str, float]
    accuracy: float
    baseline: float
    forecasts: int


def can_forecast() -> bool:
    """Return whether scikit-learn is installed."""
    return importlib.util.find_spec("sklearn") is not None


def forecast(closes: Mapping[str, Floats]) -> Forecast | None:
    """Return forecasts for the session after the last bar; None where there are too few bars.

    `closes` are of the same sessions for all symbols, as `panel` makes them: else a model would
    learn from sessions that are forecast elsewhere.
    """
    examples = [_examples(series) for series in closes.values()]
    features = np.concatenate([e[0] for e in examples]) if examples else np.empty((0, LAGS + 1))
    if len(features) < _LEAST_ROWS:
        return None
    outcomes = np.concatenate([e[1] for e in examples])
    places = np.concatenate(
        [e[2] for e in examples]
    )  # 0 the first session of a symbol, 1 its last
    right = baseline = total = 0
    edges = np.linspace(_FIRST_SHARE, 1.0, BLOCKS + 1)
    edges[-1] = np.inf
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        seen, ahead = places < first, (places >= first) & (places < last)
        if not ahead.any() or len(np.unique(outcomes[seen])) < 2:
            continue
        model = _fitted(features[seen], outcomes[seen])
        right += int(np.sum(model.predict(features[ahead]) == outcomes[ahead]))
        usual = int(np.mean(outcomes[seen]) >= 0.5)
        baseline += int(np.sum(outcomes[ahead] == usual))
        total += int(np.sum(ahead))
    if not total:
        return None
    model = _fitted(features, outcomes)
    now = {s: f for s, series in closes.items() if (f := _latest(series)) is not None}
    rise = {s: float(model.predict_proba(f[None, :])[0, 1]) for s, f in now.items()}
    return Forecast(rise, right / total, baseline / total, total)


def _fitted(features: Floats, outcomes: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, outcomes)


def _examples(closes: Floats) -> tuple[Floats, Any, Floats]:
    """Return features, whether the next bar rose, and each row's place from 0 to 1."""
    returns = returns_of(closes)
    rows = range(VOLATILITY_BARS, len(returns))
    if not rows:
        return np.empty((0, LAGS + 1)), np.empty(0, int), np.empty(0)
    features = np.array([_features(returns[:row]) for row in rows])
    outcomes = (returns[VOLATILITY_BARS:] > 0).astype(int)
    return features, outcomes, np.linspace(0, 1, len(features))


def _latest(closes: Floats) -> Floats | None:
    returns = returns_of(closes)
    return _features(returns) if len(returns) >= VOLATILITY_BARS else None


def _features(returns: Floats) -> Floats:
    return np.append(returns[-LAGS:], np.std(returns[-VOLATILITY_BARS:]))
