"""A quote as the object that everyone is told."""

from __future__ import annotations

from typing import Any

from infra.bars import Quote
from infra.clock import utc


def price_update(quote: Quote, previous_price: float | None) -> dict[str, Any]:
    """Return the `price_update` object of a quote.

    `change_amount` and `change_percent` are against the previous session's close;
    `previous_price` is the last one sent. `open`, `high`, `low`, `volume` are of the session.
    """
    base = quote.previous_close
    change = None if base is None else quote.price - base
    return {
        "type": "price_update",
        "symbol": quote.symbol,
        "current_price": quote.price,
        "previous_price": previous_price,
        "change_amount": change,
        "change_percent": None if change is None or not base else change / base * 100,
        "previous_close": base,
        "open": quote.open,
        "high": quote.high,
        "low": quote.low,
        "volume": quote.volume,
        "market_status": quote.market_status,
        "session": quote.session.isoformat(),
        "timestamp": utc(quote.traded_at_ns / 1e9).isoformat(timespec="milliseconds"),
        "source": quote.source,
        "synthetic": quote.synthetic,
        "data_version": quote.data_version,
    }
