"""A price held against its references, and the alerts that gives."""

from __future__ import annotations

from typing import Any

from infra.errors import FinstageError
from infra.universe import Universe

Check = dict[str, Any] | FinstageError


def check_price(
    price: dict[str, Any] | FinstageError, reference: Any, universe: Universe
) -> Check:
    """Return what the monitor says of one symbol, or the error that stands in the way.

    `price` is a `price_update`, `reference` the previous close and the all-time high. Rise and
    drop are in percent of the previous session's close, by the symbol's category.
    """
    if isinstance(price, FinstageError):
        return price
    if isinstance(reference, FinstageError):
        return reference
    current = price["current_price"]
    alerts = [
        *_close_alerts(price, universe),
        *_high_alerts(current, reference["all_time_high"], universe.monitor_drop_from_high_pct),
    ]
    high = _against(current, reference["all_time_high"])
    return {
        "symbol": price["symbol"],
        "current_price": current,
        "timestamp": price["timestamp"],
        "as_of": price["timestamp"],
        "market_status": price["market_status"],
        "data_version": price["data_version"],
        "alerts": alerts,
        "analysis": {
            "prev_close": _against(current, price["previous_close"]),
            "all_time_high": high and high | {"record_date": reference["record_date"]},
        },
    }


def _against(current: float, base: float | None) -> dict[str, float] | None:
    if not base:
        return None
    change = current - base
    return {
        "base_price": base,
        "change_amount": change,
        "change_percent": change / base * 100,
    }


def _close_alerts(price: dict[str, Any], universe: Universe) -> list[dict[str, Any]]:
    change = price["change_percent"]
    limits = universe.thresholds(price["symbol"])
    if change is None:
        return []
    if change >= limits.price_rise_pct:
        return [_alert("price_rise", "info", limits.price_rise_pct, change, "previous close")]
    if change <= limits.price_drop_pct:
        return [_alert("price_drop", "warning", limits.price_drop_pct, change, "previous close")]
    return []


def _high_alerts(current: float, high: float | None, drop_pct: float) -> list[dict[str, Any]]:
    if not high:
        return []
    change = (current - high) / high * 100
    if current > high:
        return [_alert("new_high", "info", None, change, "all-time high")]
    if change <= drop_pct:
        return [_alert("drop_from_high", "warning", drop_pct, change, "all-time high")]
    return []


def _alert(
    kind: str, severity: str, threshold: float | None, actual: float, base: str
) -> dict[str, Any]:
    return {
        "type": kind,
        "message": f"{actual:+.2f} % against the {base}",
        "severity": severity,
        "threshold": threshold,
        "actual": actual,
    }
