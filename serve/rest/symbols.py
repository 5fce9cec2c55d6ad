"""`/api/v2/symbols`: what the service knows, and the monitored set."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from actors.feed.client import Listing
from infra.errors import ParameterInvalid, SourceError, SymbolUnknown
from infra.sources.trouble import Trouble
from serve.rest.answers import fresh
from serve.rest.routing import Router
from serve.rest.schemas import MonitoredSymbols, SymbolPage, SymbolsRequest, documented
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2/symbols", tags=["symbols"])


@router.get("", response_model=SymbolPage, responses=documented(503))
async def list_symbols(
    services: ServicesDep,
    category: Annotated[
        str | None, Query(description="Only this category, such as index or stock.")
    ] = None,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """All symbols that the source knows or that are monitored, alphabetically.

    They are known while the source does not answer: `no_price` and `source` say why not then. A
    page past the end is empty.
    """
    universe = services.universe
    if category is not None and category not in universe.categories:
        raise ParameterInvalid(("query", "category"), category, universe.categories)
    listing = await services.feed.listing()
    chosen = [s for s in listing.symbols if category in (None, universe.category(s))]
    monitored = set(listing.monitored)
    first = (page - 1) * size
    shown = chosen[first : first + size]
    sources = await services.sources_by_symbol(shown)
    items = [
        {
            "symbol": s,
            "name": universe.name(s),
            "category": universe.category(s),
            "monitored": s in monitored,
            "source": sources[s],
            "no_price": no_price(s, listing, services) if s in monitored else None,
        }
        for s in shown
    ]
    pages = math.ceil(len(chosen) / size)
    pagination = {
        "page": page,
        "size": size,
        "total": len(chosen),
        "total_pages": pages,
        "has_next": page < pages,
        "has_prev": page > 1,
    }
    state = source_state(listing.trouble, services)
    return fresh({"items": items, "pagination": pagination, "source": state})


def source_state(trouble: Trouble | None, services: Services) -> dict[str, Any]:
    """Return where prices come from and whether it answers."""
    facts = services.source
    return {
        "name": facts.name,
        **asdict(facts.origin),
        "synthetic": facts.synthetic,
        "status": "ok" if trouble is None else "degraded",
        "trouble": None if trouble is None else trouble.body(services.clock.time_s()),
    }


def no_price(symbol: str, listing: Listing, services: Services) -> dict[str, Any] | None:
    """Return why a symbol has no price: its own fault, else the source's; None if it has one."""
    if services.near.price(symbol) is not None:
        return None
    error, trouble = listing.failures.get(symbol), listing.trouble
    if trouble is not None and not isinstance(error, SymbolUnknown):
        body = trouble.body(services.clock.time_s())
        del body["since"]
        return body
    if error is None:
        return _no_price("waiting", "its first price is to come")
    text = error.text if isinstance(error, SourceError) else error.message
    return _no_price(error.cause if isinstance(error, SourceError) else error.code, text)


def _no_price(cause: str, text: str) -> dict[str, Any]:
    return {"cause": cause, "text": text, "retry_at": None, "retry_after_s": None}


@router.post("", response_model=MonitoredSymbols, responses=documented(404, 503))
async def monitor_symbols(services: ServicesDep, body: SymbolsRequest) -> Response:
    """Add symbols to the monitored set; on disk before this answers.

    While a live source does not answer, any that is written as symbols are is added: whether the
    source has it shows in `no_price` when it answers again.
    """
    symbols = services.checked_symbols(body.symbols, "body")
    return fresh({"monitored": await services.feed.monitor(symbols)})


@router.delete("", response_model=MonitoredSymbols, responses=documented(503))
async def unmonitor_symbols(
    services: ServicesDep,
    symbols: Annotated[str, Query(description="Symbols, comma separated.")],
) -> Response:
    """Remove symbols from the monitored set; those that are not in it are no error."""
    return fresh({"monitored": await services.feed.unmonitor(services.symbol_list(symbols))})
