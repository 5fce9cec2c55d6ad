"""Many symbols at once: the catalogue, screens, rankings, correlations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from infra.errors import FinstageError, RangeInvalid
from serve.edge.errors import error_detail, of_body
from serve.rest.answers import fresh, now_iso, supported
from serve.rest.indicator_schemas import (
    Catalogue,
    CorrelationResult,
    RankingResult,
    ScreenRequest,
    ScreenResult,
)
from serve.rest.parameters import DateQuery, IntervalQuery, PeriodQuery, SymbolsQuery
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import ServicesDep

router = Router(prefix="/api/v2/technical-analysis", tags=["technical analysis"])

_MOST_CORRELATED = 100

OptionalSymbols = Annotated[
    str | None, Query(description="Symbols, comma separated; default: all that have bars.")
]


@router.get("/catalog", response_model=Catalogue, responses=documented(503))
async def read_catalogue(services: ServicesDep) -> Response:
    """Every indicator: what it takes with its bounds, what it gives, its formula, whether live."""
    entries = await services.indicators.catalogue()
    return fresh({"count": len(entries), "items": entries})


@router.post("/screen", response_model=ScreenResult, responses=documented(404, 503))
async def screen(services: ServicesDep, body: ScreenRequest) -> Response:
    """Symbols that fulfil a condition such as `rsi(14) < 30 and close crossed_above sma(50)`.

    At the last closed bar, or the last one by `as_of`. The language is in the guide.
    """
    symbols = services.checked_symbols(body.symbols, "body") if body.symbols else []
    with of_body(indicators="expression"):
        supported(services, body.interval)
        matches, errors = await services.indicators.screen(
            body.expression, symbols, body.interval, body.as_of
        )
    asked = len(symbols) or len(await services.indicators.symbols())
    answer = {
        "timestamp": now_iso(services),
        "source": await services.sources_of(
            (m.symbol for m in matches[: body.limit]), body.interval
        ),
        "expression": body.expression,
        "interval": body.interval,
        "as_of": None if body.as_of is None else body.as_of.isoformat(),
        "screened_symbols": asked - len(errors),
        "matched_symbols": len(matches),
        "matches": [
            {"symbol": m.symbol, "session": m.session, "values": m.values}
            for m in matches[: body.limit]
        ],
        "errors": _details(errors),
    }
    return fresh(answer)


@router.get("/ranking", response_model=RankingResult, responses=documented(404, 503))
async def rank(
    services: ServicesDep,
    by: Annotated[str, Query(max_length=2_000, description="A value, as `roc(20)`.")],
    symbols: OptionalSymbols = None,
    interval: IntervalQuery = "1d",
    as_of: DateQuery = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Response:
    """Symbols by a value, the highest first; those without one are left out."""
    supported(services, interval)
    asked = [] if symbols is None else services.symbol_list(symbols)
    found, errors = await services.indicators.ranking(by, asked, interval, as_of)
    answer = {
        "timestamp": now_iso(services),
        "source": await services.sources_of((m.symbol for m in found[:limit]), interval),
        "by": by,
        "interval": interval,
        "ranked_symbols": len(found),
        "items": [
            {"rank": place, "symbol": m.symbol, "session": m.session, "value": m.values["value"]}
            for place, m in enumerate(found[:limit], start=1)
        ],
        "errors": _details(errors),
    }
    return fresh(answer)


@router.get("/correlation", response_model=CorrelationResult, responses=documented(404, 503))
async def correlate(
    services: ServicesDep,
    symbols: SymbolsQuery,
    period: PeriodQuery = "1y",
    interval: IntervalQuery = "1d",
) -> Response:
    """How the returns of symbols moved together, over the bars that all of them have."""
    asked = services.symbol_list(symbols)
    supported(services, interval)
    if not 2 <= len(asked) <= _MOST_CORRELATED:
        told = f"symbols must name 2 to {_MOST_CORRELATED}, got {len(asked)}"
        raise RangeInvalid(("query", "symbols"), told, _MOST_CORRELATED)
    found = await services.indicators.correlation(asked, period, interval)
    answer = {
        "timestamp": now_iso(services),
        "source": await services.sources_of(found.symbols, interval),
        "period": period,
        "interval": interval,
        "bars": found.bars,
        "symbols": found.symbols,
        "matrix": found.matrix,
    }
    return fresh(answer)


def _details(errors: dict[str, FinstageError]) -> dict[str, Any]:
    return {symbol: error_detail(error) for symbol, error in errors.items()}
