"""What is told of live indicators."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from actors.indicators.expressions import Call
from actors.indicators.live.engine import LiveEngine
from actors.indicators.signals import OVERBOUGHT, OVERSOLD
from actors.indicators.standard import finite
from actors.indicators.streaming.leases import MACD, RSI, SMA20, SMA50, SMA200, Subject
from actors.indicators.tables import BULLISH
from infra.clock import utc


class LiveSignal(NamedTuple):
    """A signal on the bar under way."""

    subject: Subject
    type: str
    price: float
    value: float
    strength: float


_CROSSES = {"golden_cross": "golden_cross", "dead_cross": "death_cross"}


def values_of(engine: LiveEngine, subject: Subject, sets: tuple[Call, ...]) -> dict[str, Any]:
    """Return `values` by set and output, None where there is none yet, and `ready` by set."""
    symbol = subject.symbol
    ready = {key.text: engine.ready(symbol, key) for key in sets}
    values = {
        key.text: {
            name: value if ready[key.text] and math.isfinite(value) else None
            for name, value in engine.values(symbol, key).items()
        }
        for key in sets
    }
    return {"values": values, "ready": ready}


def update_of(
    engine: LiveEngine, subject: Subject, sets: tuple[Call, ...], at: str | None
) -> dict[str, Any]:
    """Return the `technical_analysis_update` of a symbol that is held; `at` is the last tick's."""
    newest = engine.newest(subject.symbol)
    bar = None
    if newest is not None:
        opened_at_ns, close, is_closed = newest
        opened_at = utc(opened_at_ns // 10**9).isoformat()
        bar = {"opened_at": opened_at, "closed": is_closed, "close": close}
        at = at or opened_at
    return {
        "type": "technical_analysis_update",
        "symbol": subject.symbol,
        "interval": subject.interval,
        "data": {
            "symbol": subject.symbol,
            "timestamp": at,
            "indicators": _indicators(engine, subject.symbol),
        },
        **values_of(engine, subject, sets),
        "bar": bar,
    }


def alert_of(signal: LiveSignal, at: str) -> dict[str, Any]:
    """Return the `technical_alert` of a signal."""
    symbol, interval = signal.subject
    kind = signal.type.replace("_", " ")
    return {
        "type": "technical_alert",
        "symbol": symbol,
        "interval": interval,
        "data": {
            "type": signal.type,
            "symbol": symbol,
            "direction": "bullish" if signal.type in BULLISH else "bearish",
            "price": signal.price,
            _value_name(signal.type): signal.value,
            "strength": signal.strength,
            "message": f"{symbol}: {kind} at {signal.price:g}, bars of {interval}",
        },
        "timestamp": at,
    }


def _value_name(kind: str) -> str:
    if kind.startswith("MA"):
        return f"sma_{kind.removeprefix('MA').partition('_')[0]}"
    return {"RSI": "rsi_value", "BB": "band"}.get(kind.partition("_")[0], "sma_200")


def _indicators(engine: LiveEngine, symbol: str) -> dict[str, Any]:
    rsi = _known(engine, symbol, RSI)
    macd = _known(engine, symbol, MACD)
    return {
        "rsi": {
            "current": rsi.get("rsi"),
            "previous": finite(engine.previous(symbol, RSI)["rsi"]),
            "signal": _rsi_signal(rsi.get("rsi")),
        },
        "macd": {
            "macd": macd.get("macd"),
            "signal": macd.get("signal"),
            "histogram": macd.get("histogram"),
            "trend": _trend(macd),
        },
        "sma": {
            "20": _known(engine, symbol, SMA20).get("sma"),
            "50": _known(engine, symbol, SMA50).get("sma"),
        },
        "cross_signal": _cross(engine, symbol),
    }


def _known(engine: LiveEngine, symbol: str, key: Call) -> dict[str, float]:
    values = engine.values(symbol, key)
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _rsi_signal(rsi: float | None) -> str | None:
    if rsi is None:
        return None
    return "overbought" if rsi >= OVERBOUGHT else "oversold" if rsi <= OVERSOLD else "neutral"


def _trend(macd: dict[str, float]) -> str | None:
    if len(macd) < 3:
        return None
    above, histogram = macd["macd"] - macd["signal"], macd["histogram"]
    if above > 0 and histogram > 0:
        return "bullish"
    return "bearish" if above < 0 and histogram < 0 else "neutral"


def _cross(engine: LiveEngine, symbol: str) -> str | None:
    """Return whether SMA 50 crosses SMA 200 with the newest bar."""
    now = [engine.values(symbol, key)["sma"] for key in (SMA50, SMA200)]
    before = [engine.previous(symbol, key)["sma"] for key in (SMA50, SMA200)]
    if before[0] <= before[1] and now[0] > now[1]:
        return _CROSSES["golden_cross"]
    return _CROSSES["dead_cross"] if before[0] >= before[1] and now[0] < now[1] else None
