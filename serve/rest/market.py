"""`/api/v2`: latest prices, and what is known of symbols beside their bars."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from infra.bars import IMPORT
from infra.calendars import calendar_for, market_state
from infra.clock import utc
from infra.errors import FinstageError
from infra.sources.base import Action, Found, NewsItem
from infra.symbols import normalise
from serve.edge.errors import error_detail
from serve.rest.answers import fresh, now_iso
from serve.rest.parameters import SymbolPath, SymbolsQuery
from serve.rest.routing import Router
from serve.rest.schemas import (
    Actions,
    FundamentalsBody,
    LatestNews,
    MarketStatus,
    News,
    Quotes,
    SearchResults,
    SymbolDetail,
    documented,
)
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2", tags=["market"])

_STREAMED = ("type", "data_version")  # members that only a stream's reader needs

CountQuery = Annotated[int, Query(ge=1, le=100, description="At most so many.")]


@router.get("/quotes", response_model=Quotes, responses=documented(503))
async def read_quotes(
    services: ServicesDep,
    symbols: SymbolsQuery,
    extended: Annotated[
        bool, Query(description="Take prices before and after regular hours too.")
    ] = False,
) -> Response:
    """Latest price of many symbols, with source, both times and staleness.

    Prices are of regular hours; with `extended=true` the latest of all, and `session_part` says
    which that is. A symbol that fails stands under `errors`. `stale` prices are the last good
    ones while the source does not answer; the `Age` header is that of the oldest, in seconds.
    """
    asked = services.symbol_list(symbols)
    prices = await services.prices(asked)
    good = {s: p for s, p in prices.items() if not isinstance(p, FinstageError)}
    if extended:
        good = {s: _later(p, services.near.extended_price(s)) for s, p in good.items()}
    quotes = {s: _quote(p, services) for s, p in good.items()}
    body = {
        "timestamp": now_iso(services),
        "source": services.joined(p["source"] for p in good.values()),
        "quotes": quotes,
        "errors": {s: error_detail(p) for s, p in prices.items() if isinstance(p, FinstageError)},
    }
    response = fresh(body)
    ages_s = [quote["age_seconds"] for quote in quotes.values() if quote["stale"]]
    if ages_s:
        response.headers["age"] = str(int(max(ages_s)))
    return response


def _later(regular: dict[str, Any], extended: dict[str, Any] | None) -> dict[str, Any]:
    if extended is None or extended["timestamp"] <= regular["timestamp"]:
        return regular
    return extended


def _quote(price: dict[str, Any], services: Services) -> dict[str, Any]:
    quote = {key: value for key, value in price.items() if key not in _STREAMED}
    received_at = price["received_at"]
    age_s = None if received_at is None else services.age_s(received_at)
    return quote | {"age_seconds": age_s}


@router.get("/news/{symbol}", response_model=News, responses=documented(404, 501, 503))
async def read_news(services: ServicesDep, symbol: SymbolPath, count: CountQuery = 10) -> Response:
    """Latest headlines about a symbol, newest first."""
    name = normalise(symbol)
    items = await services.feed.news(name, count)
    return fresh({"symbol": name, "timestamp": now_iso(services), "items": [*map(_news, items)]})


@router.get(
    "/news/{symbol}/latest", response_model=LatestNews, responses=documented(404, 501, 503)
)
async def read_latest_news(services: ServicesDep, symbol: SymbolPath) -> Response:
    """The newest headline about a symbol, null if there is none."""
    name = normalise(symbol)
    items = await services.feed.news(name, 1)
    latest = _news(items[0]) if items else None
    return fresh({"symbol": name, "timestamp": now_iso(services), "item": latest})


@router.get("/search", response_model=SearchResults, responses=documented(501, 503))
async def search(
    services: ServicesDep,
    q: Annotated[str, Query(min_length=1, max_length=100, description="A symbol or a name.")],
    count: CountQuery = 10,
) -> Response:
    """Symbols that a text may mean, best first."""
    found = await services.feed.search(q, count)
    return fresh({"query": q, "items": [*map(_found, found)]})


@router.get("/actions/{symbol}", response_model=Actions, responses=documented(404, 501, 503))
async def read_actions(services: ServicesDep, symbol: SymbolPath) -> Response:
    """Splits and dividends, oldest first.

    `value` is new shares for one old, or the amount a share; `price_step` what it did to the
    adjusted price. Either is null where the source does not say.
    """
    name = normalise(symbol)
    actions = await services.feed.actions(name)
    is_import = await services.sources_of([name]) == IMPORT
    body = {
        "symbol": name,
        "source": IMPORT if is_import else services.source.name,
        "timestamp": now_iso(services),
        "items": [*map(_action, actions)],
    }
    return fresh(body)


@router.get(
    "/fundamentals/{symbol}", response_model=FundamentalsBody, responses=documented(404, 501, 503)
)
async def read_fundamentals(services: ServicesDep, symbol: SymbolPath) -> Response:
    """Figures of the company under the source's own names."""
    found = await services.feed.fundamentals(normalise(symbol))
    body = {
        "symbol": found.symbol,
        "source": found.source,
        "received_at": _iso(found.received_at_ns),
        "values": found.values,
    }
    return fresh(body)


@router.get("/market/status", response_model=MarketStatus, responses=documented(404))
async def read_market_status(
    services: ServicesDep,
    symbol: Annotated[
        str, Query(description="Whose exchange is asked about; default: New York.")
    ] = "^GSPC",
) -> Response:
    """Whether the symbol's exchange is open now, by its calendar; times are UTC.

    With replay the prices are of the past: their own `market_status` says how it was then.
    """
    name = normalise(symbol)
    state = market_state(calendar_for(name), int(services.clock.time_s() * 1e9))
    body = {
        "symbol": name,
        "market": state.market,
        "timestamp": now_iso(services),
        "status": state.status,
        "session": None if state.session is None else state.session.isoformat(),
        "opens_at": _iso(state.opens_at_ns),
        "closes_at": _iso(state.closes_at_ns),
        "next_open": _iso(state.next_open_ns),
        "is_half_day": state.is_half_day,
    }
    return fresh(body)


@router.get("/symbols/{symbol}", response_model=SymbolDetail, responses=documented(404, 503))
async def read_symbol(services: ServicesDep, symbol: SymbolPath) -> Response:
    """What a symbol is: name, exchange, currency, time zone, kind and how late its quotes are."""
    info = await services.feed.info(normalise(symbol))
    body = asdict(info) | {
        "name": info.name or services.universe.name(info.symbol),
        "category": services.universe.category(info.symbol),
        "received_at": _iso(info.received_at_ns),
    }
    del body["received_at_ns"]
    return fresh(body)


def _news(item: NewsItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "title": item.title,
        "url": item.url,
        "publisher": item.publisher,
        "published_at": _iso(item.published_at_ns),
        "symbols": item.symbols,
        "summary": item.summary,
        "source": item.source,
        "received_at": _iso(item.received_at_ns),
    }


def _found(found: Found) -> dict[str, Any]:
    return {
        "symbol": found.symbol,
        "name": found.name,
        "exchange": found.exchange,
        "kind": found.kind,
        "source": found.source,
    }


def _action(action: Action) -> dict[str, Any]:
    return {
        "ex_date": action.ex_date.isoformat(),
        "kind": action.kind,
        "value": action.value,
        "price_step": action.price_step,
    }


def _iso(at_ns: int | None) -> str | None:
    return utc(at_ns / 1e9).isoformat(timespec="milliseconds") if at_ns else None
