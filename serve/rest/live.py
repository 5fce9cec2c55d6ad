"""Live indicators, for who asks now and then instead of listening."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from actors.indicators.client import LiveWant
from infra.symbols import normalise
from serve.rest.answers import fresh, supported
from serve.rest.indicator_schemas import LiveValues
from serve.rest.parameters import IntervalQuery, SymbolPath
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import ServicesDep

router = Router(prefix="/api/v2/technical-analysis", tags=["technical analysis"])


@router.get("/live/{symbol}", response_model=LiveValues, responses=documented(404, 503))
async def read_live(
    services: ServicesDep,
    symbol: SymbolPath,
    interval: IntervalQuery = "1d",
    indicators: Annotated[
        str,
        Query(
            max_length=2_000,
            description="Beside the standard ones, such as `ema(9),atr`: those that the catalogue "
            "calls live.",
        ),
    ] = "",
) -> Response:
    """Values with the bar under way, as of the last tick; those of a socket's
    `technical_analysis`.

    The first question loads the history; what nobody asks for again is let go after a while.
    """
    supported(services, interval)
    want = LiveWant(normalise(symbol), interval, indicators.strip().lower())
    return fresh(await services.indicators.live(want))
