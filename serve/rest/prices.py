"""`/api/v2/prices`: histories of bars."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from infra.bars import Bars, BarSeries
from infra.clock import utc
from infra.db.bulk import delete_import
from infra.errors import FinstageError, RangeInvalid
from infra.symbols import normalise
from serve.edge.near import Rendered
from serve.rest import formats
from serve.rest.answers import Question, fresh, kept, now_iso, rendered, supported
from serve.rest.parameters import (
    DateQuery,
    Interval,
    IntervalQuery,
    OpenBarQuery,
    Period,
    SymbolPath,
)
from serve.rest.routing import Router
from serve.rest.schemas import HistoryBody, documented
from serve.rest.services import Services, ServicesDep
from serve.rest.store_schemas import ImportDeleted

router = Router(prefix="/api/v2/prices", tags=["prices"])

_NS_PER_S = 10**9


@router.get(
    "/{symbol}/history",
    response_model=HistoryBody,
    responses=documented(304, 404, 503) | {200: {"content": formats.DOCUMENTED}},
)
async def read_history(
    request: Request,
    services: ServicesDep,
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
    format: Annotated[
        formats.Format | None, Query(description="Instead of an Accept header; default json.")
    ] = None,
) -> Response:
    """Bars, oldest first, as columns; `start` is included, `end` is not.

    `timestamps` are Unix seconds of the bar's opening, for 1d and longer of midnight UTC of
    `sessions`, the exchange's dates. CSV, Parquet and Arrow have a row a bar with `opened_at`.
    """
    name = normalise(symbol)
    supported(services, interval)
    if period and (start or end):
        raise RangeInvalid(("query", "period"), "give period, or start and end, not both")
    if start and end and start >= end:
        raise RangeInvalid(("query", "end"), f"end {end} must be after start {start}")
    chosen = None if start or end else period or "1mo"
    question = HistoryQuestion(name, chosen, start, end, interval, adjusted)
    wanted = format or formats.accepted(request.headers.get("accept", ""))
    if wanted == "json" and not open_bar:
        return await kept(request, services, question)
    series = await question.series(services, open_bar)
    if wanted == "json":
        return fresh(question.body(series))
    return formats.response(series, wanted, name)


@router.delete("/{symbol}/import", response_model=ImportDeleted, responses=documented(404, 503))
async def delete_imported(
    services: ServicesDep,
    symbol: SymbolPath,
    interval: Annotated[
        Interval | None, Query(description="Only this imported one; default: all.")
    ] = None,
) -> Response:
    """Delete what was imported of a symbol; from then on it has the source's bars alone.

    A symbol that the source has not is unknown then, and monitored no longer. 404 if nothing is
    imported.
    """
    name = normalise(symbol)
    intervals = () if interval is None else (interval,)
    now = utc(services.clock.time_s())
    counts = await delete_import(services.store, name, intervals, now)
    await services.feed.look_for_imports()
    body = {
        "symbol": name,
        "timestamp": now_iso(services),
        "deleted": [{"interval": i, "bars": count} for i, count in counts.items()],
    }
    return fresh(body)


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
        """Ask the indicators; raises SymbolUnknown, SourceError or ActorUnavailable."""
        series = await self.series(services)
        return services.rendered(
            rendered(self.body(series)),
            self.symbol,
            series.data_version,
            "/api/v2/prices/{symbol}/history",
            self.interval,
            series.stale_since_s,
        )

    async def series(self, services: Services, open_bar: bool = False) -> BarSeries:
        """Return the bars; raises as `render`."""
        asked = (self.period, self.start, self.end, self.interval, self.adjusted)
        return await services.indicators.history(self.symbol, *asked, open_bar)

    def body(self, series: BarSeries) -> dict[str, Any]:
        """Return bars as the API shows them."""
        return {
            "symbol": self.symbol,
            "period": self.period,
            "start": None if self.start is None else self.start.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
            "interval": self.interval,
            "adjusted": self.adjusted,
            **_bars_body(series),
        }


async def recent_bodies(
    services: Services, symbols: list[str], period: str, interval: str
) -> dict[str, Any]:
    """Return the closed bars of many symbols in one call, an error where there is one."""
    answers = await services.indicators.histories(symbols, period, interval)
    return {
        symbol: answer
        if isinstance(answer, FinstageError)
        else HistoryQuestion(symbol, period, None, None, interval, True).body(answer)
        for symbol, answer in answers.items()
    }


def _bars_body(series: BarSeries) -> dict[str, Any]:
    bars = series.bars
    last_s = int(bars.opened_at_ns[-1]) // _NS_PER_S if len(bars) else None
    first, last = series.available or (None, None)
    return {
        "source": series.source,
        "data_version": series.data_version,
        "stale": series.stale_since_s is not None,
        "as_of": None if last_s is None else utc(last_s).isoformat(),
        "available_from": None if first is None else first.isoformat(),
        "available_to": None if last is None else last.isoformat(),
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
