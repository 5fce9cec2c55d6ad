"""A quote as the object that everyone is told."""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from typing import Any

from infra.bars import Quote
from infra.clock import utc


def price_update(quote: Quote, previous_price: float | None) -> dict[str, Any]:
    """Return the `price_update` object of a quote.

    `change_amount` and `change_percent` are against the previous session's close;
    `previous_price` is the last one sent. `received_at` is when the price came here, null where
    it was made here. `open`, `high`, `low`, `volume` are of the session.
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
        "session": _day(quote.session),
        "timestamp": _iso(quote.traded_at_ns),
        "received_at": _iso(quote.received_at_ns) if quote.received_at_ns else None,
        "session_part": quote.session_part,
        "currency": quote.currency,
        "stale": quote.stale,
        "source": quote.source,
        "synthetic": quote.synthetic,
        "data_version": quote.data_version,
    }


# Ticks come many at one instant, and writing dates is half of what a tick costs.
@lru_cache(maxsize=1_024)
def _iso(at_ns: int) -> str:
    return utc(at_ns / 1e9).isoformat(timespec="milliseconds")


@lru_cache(maxsize=64)
def _day(session: date) -> str:
    return session.isoformat()


def quote_of(update: dict[str, Any]) -> Quote:
    """Return the quote that a `price_update` was made of; times to the millisecond."""
    return Quote(
        symbol=update["symbol"],
        price=update["current_price"],
        previous_close=update["previous_close"],
        open=update["open"],
        high=update["high"],
        low=update["low"],
        volume=update["volume"],
        session=date.fromisoformat(update["session"]),
        traded_at_ns=_ns(update["timestamp"]),
        market_status=update["market_status"],
        source=update["source"],
        synthetic=update["synthetic"],
        data_version=update["data_version"],
        received_at_ns=_ns(update["received_at"]) if update["received_at"] else 0,
        session_part=update["session_part"],
        currency=update["currency"],
        stale=update["stale"],
    )


def _ns(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1_000) * 10**6
