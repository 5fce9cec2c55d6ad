"""`/api/v2/async`: the short price and trend routes, kept for clients that use them."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from infra.errors import FinstageError
from infra.symbols import normalise
from serve.edge.errors import error_detail
from serve.rest.answers import fresh, now_iso
from serve.rest.parameters import IntervalQuery, PeriodQuery, SymbolPath, SymbolsQuery
from serve.rest.routing import Router
from serve.rest.schemas import SimplePrice, SimplePrices, SimpleTrend, documented
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2/async", tags=["compatibility"])


@router.get("/symbols/batch", response_model=SimplePrices, responses=documented(503))
async def read_prices(services: ServicesDep, symbols: SymbolsQuery) -> Response:
    """Last price of many symbols; null, and its error under `errors`, where there is none."""
    prices = await services.prices(services.symbol_list(symbols))
    found = {s: p for s, p in prices.items() if not isinstance(p, FinstageError)}
    failed = {s: error_detail(p) for s, p in prices.items() if isinstance(p, FinstageError)}
    body = {
        "timestamp": now_iso(services),
        "source": services.joined(p["source"] for p in found.values()),
        "as_of": max((p["timestamp"] for p in found.values()), default=None),
        "data_version": {s: p["data_version"] for s, p in found.items()},
        "prices": {s: found[s]["current_price"] if s in found else None for s in prices},
        "errors": failed,
    }
    return fresh(body)


@router.get("/symbols/{symbol}/price", response_model=SimplePrice, responses=documented(404, 503))
async def read_price(services: ServicesDep, symbol: SymbolPath) -> Response:
    """Last price of one symbol. `timestamp` is the market's time, in a replay long past."""
    price = await _price(services, normalise(symbol))
    body = {
        "symbol": price["symbol"],
        "price": price["current_price"],
        "timestamp": price["timestamp"],
        "as_of": price["timestamp"],
        "source": price["source"],
        "market_status": price["market_status"],
        "data_version": price["data_version"],
    }
    return fresh(body)


@router.get(
    "/technical/analysis/{symbol}", response_model=SimpleTrend, responses=documented(404, 503)
)
async def read_trend(
    services: ServicesDep,
    symbol: SymbolPath,
    period: PeriodQuery = "1mo",
    interval: IntervalQuery = "1d",
) -> Response:
    """Averages of the last 20 and 50 closes and what they say; null where bars are too few."""
    name = normalise(symbol)
    trend = await services.indicators.trend(name, period, interval)
    price = await _price(services, name)
    body = {
        "symbol": name,
        "current_price": price["current_price"],
        "timestamp": now_iso(services),
        "source": services.source.name,
        **trend,
    }
    return fresh(body)


async def _price(services: Services, symbol: str) -> dict[str, Any]:
    price = (await services.prices([symbol]))[symbol]
    if isinstance(price, FinstageError):
        raise price
    return price
