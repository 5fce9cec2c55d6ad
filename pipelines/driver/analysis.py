"""The analysis of many symbols: indicators of closed bars beside the price of now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.errors import FinstageError

Answers = Mapping[str, dict[str, Any] | FinstageError]


def priced_analyses(
    symbols: Sequence[str], answers: Answers, prices: Answers, timestamp: str
) -> dict[str, dict[str, Any] | FinstageError]:
    """Return each symbol's analysis with its current price, or the error that it met.

    `answers` are those of the indicators, `prices` are `price_update` objects, `timestamp` the
    wall time (ISO). `price_change_pct` is the price against the previous session's close.
    """
    results: dict[str, dict[str, Any] | FinstageError] = {}
    for symbol in symbols:
        answer, price = answers[symbol], prices[symbol]
        if isinstance(answer, FinstageError):
            results[symbol] = answer
        elif isinstance(price, FinstageError):
            results[symbol] = price
        else:
            results[symbol] = {
                **answer,
                "timestamp": timestamp,
                "current_price": price["current_price"],
                "price_change_pct": price["change_percent"],
            }
    return results
