"""The former service's names for what sockets give: symbols that stream until they are let go."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from actors.indicators.client import LiveWant
from infra.errors import ParameterInvalid
from serve.rest.answers import fresh, now_iso
from serve.rest.routing import Router
from serve.rest.schemas import AlertsSubscribed, StreamingStarted, documented
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2/technical-analysis", tags=["technical analysis"])

ALERT_TYPES = ("rsi_overbought", "rsi_oversold", "golden_cross", "death_cross")
_MOST = 50
_ALL_ALERTS = list(ALERT_TYPES)
_COMMON = ["rsi", "macd", "sma"]

Names = Annotated[list[str], Query(max_length=_MOST, description="Repeated, or comma separated.")]


@router.post("/streaming/start", response_model=StreamingStarted, responses=documented(404, 503))
async def start_streaming(
    services: ServicesDep,
    symbols: Names,
    indicators: Names = _COMMON,
    interval_seconds: Annotated[int, Query(ge=1, le=86_400)] = 30,
) -> Response:
    """Stream symbols with live indicators until `POST /ws/streaming/stop`, whoever listens.

    Values go to sockets that take `technical_analysis`, with every tick: `interval_seconds` is
    only repeated.
    """
    named, wanted = await _pinned(services, symbols), ",".join(_split(indicators))
    await _live(services, named, wanted)
    body = {
        "status": "streaming_started",
        "symbols": named,
        "indicators": wanted.split(","),
        "interval_seconds": interval_seconds,
        "started_at": now_iso(services),
    }
    return fresh(body)


@router.post("/alerts/subscribe", response_model=AlertsSubscribed, responses=documented(404, 503))
async def subscribe_to_alerts(
    services: ServicesDep, symbols: Names, alert_types: Names = _ALL_ALERTS
) -> Response:
    """Look for signals of symbols on every tick until `POST /ws/streaming/stop`.

    They come as `technical_alert` to sockets that take `technical_analysis` of the symbol, of all
    types; `alert_types` is checked and repeated.
    """
    types = _split(alert_types)
    for kind in types:
        if kind not in ALERT_TYPES:
            raise ParameterInvalid(("query", "alert_types"), kind, ALERT_TYPES)
    named = await _pinned(services, symbols)
    await _live(services, named, "")
    body = {
        "status": "subscribed",
        "symbols": named,
        "alert_types": types,
        "subscribed_at": now_iso(services),
    }
    return fresh(body)


async def _pinned(services: Services, symbols: list[str]) -> list[str]:
    named = services.symbol_list(",".join(symbols))
    await services.feed.pin(named, True)
    return named


async def _live(services: Services, symbols: list[str], indicators: str) -> None:
    wants = [LiveWant(symbol, "1d", indicators) for symbol in symbols]
    for error in (await services.indicators.want_live(wants)).values():
        raise error


def _split(names: list[str]) -> list[str]:
    return [name.strip().lower() for part in names for name in part.split(",") if name.strip()]
