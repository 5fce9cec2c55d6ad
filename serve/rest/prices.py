"""`/api/v2/prices`: histories of bars."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from infra.bars import Bars
from infra.errors import FinstageError, RangeInvalid
from infra.symbols import normalise
from serve.near import Rendered
from serve.rest.answers import Question, fresh, kept, rendered, supported
from serve.rest.parameters import (
    DateQuery,
    IntervalQuery,
    OpenBarQuery,
    Period,
    SymbolPath,
)
from serve.schemas import HistoryBody, documented
from serve.services import Services, State

router = APIRouter(prefix="/api/v2/prices", tags=["prices"])

_NS_PER_S = 10**9


@router.get("/{symbol}/history", response_model=HistoryBody, responses=documented(304, 404, 503))
async def read_history(
    request: Request,
    services: State,
    symbol: SymbolPath,
    period: Annotated[
        Period | None, Query(description="Counted back from the last bar; default 1mo.")
    ] = None,
    start: DateQuery = None,
    end: DateQuery = None,
    interval: IntervalQuery = "1d",
    adjusted: Annotated[
        bool, Query(description="For splits and dividends, so that history meets the ticks.")
    ] = True,
    open_bar: OpenBarQuery = False,
) -> Response:
    """Bars, oldest first, as columns; `start` is included, `end` is not.

    `timestamps` are Unix seconds of midnight UTC of `sessions`, the exchange's dates.
    """
    name = normalise(symbol)
    supported(services, interval)
    if period and (start or end):
        raise RangeInvalid(("query", "period"), "give period, or start and end, not both")
    if start and end and start >= end:
        raise RangeInvalid(("query", "end"), f"end {end} must be after start {start}")
    chosen = None if start or end else period or "1mo"
    if open_bar:
        return fresh(
            await history_body(services, name, chosen, start, end, interval, adjusted, True)
        )
    question = HistoryQuestion(name, chosen, start, end, interval, adjusted)
    return await kept(request, services, question)


@dataclass(frozen=True, slots=True)
class HistoryQuestion(Question):
    """Closed bars of one symbol."""

    symbol: str
    period: str | None
    start: date | None
    end: date | None
    interval: str
    adjusted: bool

    async def render(self, services: Services) -> Rendered:
        """Ask the indicators; raises SymbolUnknown or ActorUnavailable."""
        asked = (self.period, self.start, self.end, self.interval, self.adjusted)
        value = await history_body(services, self.symbol, *asked)
        version = value["data_version"]
        route = "/api/v2/prices/{symbol}/history"
        return Rendered(rendered(value), self.symbol, version, route, services.cache_control)


async def history_body(
    services: Services,
    symbol: str,
    period: str | None = "1mo",
    start: date | None = None,
    end: date | None = None,
    interval: str = "1d",
    adjusted: bool = True,
    open_bar: bool = False,
) -> dict[str, Any]:
    """Return a history as the API shows it; raises SymbolUnknown."""
    answer = await services.indicators.history(
        symbol, period, start, end, interval, adjusted, open_bar
    )
    return {
        "symbol": symbol,
        "period": period,
        "start": None if start is None else start.isoformat(),
        "end": None if end is None else end.isoformat(),
        "interval": interval,
        "adjusted": adjusted,
        **_bars_body(answer),
    }


async def recent_bodies(services: Services, symbols: list[str], period: str) -> dict[str, Any]:
    """Return the closed daily bars of many symbols in one call, an error where there is one."""
    answers = await services.indicators.histories(symbols, period)
    asked = {"period": period, "start": None, "end": None, "interval": "1d", "adjusted": True}
    return {
        symbol: answer
        if isinstance(answer, FinstageError)
        else {"symbol": symbol, **asked, **_bars_body(answer)}
        for symbol, answer in answers.items()
    }


def _bars_body(answer: tuple[Bars, str, str]) -> dict[str, Any]:
    bars, data_version, source = answer
    return {
        "source": source,
        "data_version": data_version,
        "as_of": f"{bars.session(len(bars) - 1)}T00:00:00+00:00" if len(bars) else None,
        **columns(bars),
        "data_points": len(bars),
    }


def columns(bars: Bars) -> dict[str, Any]:
    """Return bars as lists by name."""
    return {
        "timestamps": bars.opened_at_ns // _NS_PER_S,
        "sessions": [bars.session(row).isoformat() for row in range(len(bars))],
        "open": bars.open,
        "high": bars.high,
        "low": bars.low,
        "close": bars.close,
        "volume": bars.volume,
    }
