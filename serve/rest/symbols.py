"""`/api/v2/symbols`: what the service knows, and the monitored set."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from infra.errors import ParameterInvalid
from serve.rest.answers import fresh
from serve.rest.routing import Router
from serve.schemas import MonitoredSymbols, SymbolPage, SymbolsRequest, documented
from serve.services import State

router = Router(prefix="/api/v2/symbols", tags=["symbols"])


@router.get("", response_model=SymbolPage, responses=documented(503))
async def list_symbols(
    services: State,
    category: Annotated[
        str | None, Query(description="Only this category, such as index or stock.")
    ] = None,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """All symbols that the source knows, alphabetically; a page past the end is empty."""
    universe = services.universe
    if category is not None and category not in universe.categories:
        raise ParameterInvalid(("query", "category"), category, universe.categories)
    known = await services.feed.symbols()
    chosen = [s for s in known if category in (None, universe.category(s))]
    monitored = set(await services.feed.monitored())
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
    return fresh({"items": items, "pagination": pagination})


@router.post("", response_model=MonitoredSymbols, responses=documented(404, 503))
async def monitor_symbols(services: State, body: SymbolsRequest) -> Response:
    """Add symbols to the monitored set; on disk before this answers."""
    symbols = services.checked_symbols(body.symbols, "body")
    return fresh({"monitored": await services.feed.monitor(symbols)})


@router.delete("", response_model=MonitoredSymbols, responses=documented(503))
async def unmonitor_symbols(
    services: State,
    symbols: Annotated[str, Query(description="Symbols, comma separated.")],
) -> Response:
    """Remove symbols from the monitored set; those that are not in it are no error."""
    return fresh({"monitored": await services.feed.unmonitor(services.symbol_list(symbols))})
