"""What the store holds of symbols: how far bars reach, and news."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from infra.bars import NS_PER_DAY, BarSeries
from infra.calendars import calendar_for
from infra.clock import utc
from infra.db.contents import Content
from infra.db.stored_bars import Coverage
from infra.db.unit import Unit
from infra.errors import FinstageError, SymbolUnknown
from infra.symbols import normalise
from serve.rest.answers import fresh, now_iso
from serve.rest.parameters import SymbolPath
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import ServicesDep
from serve.rest.store_schemas import CoverageBody, StoredNewsList

router = Router(prefix="/api/v2", tags=["store"])

_DATES_SHOWN = 50

Held = tuple[list[Coverage], dict[str, list[int]]]


@router.get("/coverage/{symbol}", response_model=CoverageBody, responses=documented(404, 503))
async def read_coverage(services: ServicesDep, symbol: SymbolPath) -> Response:
    """First and last bar, sources and revisions of each interval that the store holds.

    Beside them the daily bars that are `served`, which the store may not have kept yet. A gap is a
    session of the exchange between the first and the last stored bar that has none; minutes
    without a trade are no gap. 404 for a symbol that neither has.
    """
    name = normalise(symbol)

    async def ask(unit: Unit) -> Held:
        held = await unit.bars.coverage(name)
        intervals = {row.interval for row in held}
        return held, {i: await unit.bars.openings_s(name, i) for i in intervals}

    kept = await services.last_good.ask(("coverage", name), lambda: services.store.read(ask))
    rows, openings = kept.value
    try:
        served = _served(await services.indicators.history(name, "max"))
    except FinstageError as error:
        if isinstance(error, SymbolUnknown) and not rows:
            raise
        served = None
    body = {
        "symbol": name,
        "timestamp": now_iso(services),
        "stale": kept.stale_since_s is not None,
        "intervals": [_interval(row) for row in rows],
        "gaps": {interval: gaps(name, seconds) for interval, seconds in openings.items()},
        "served": served,
    }
    return fresh(body)


def _served(series: BarSeries) -> dict[str, Any]:
    opened_ns = series.bars.opened_at_ns
    first, last = (
        utc(int(opened_ns[row]) // 10**9).isoformat() if len(opened_ns) else None
        for row in (0, -1)
    )
    return {
        "source": series.source,
        "first": first,
        "last": last,
        "bars": len(opened_ns),
        "stale": series.stale_since_s is not None,
    }


def _interval(row: Coverage) -> dict[str, Any]:
    return {
        "interval": row.interval,
        "source": row.source,
        "first": utc(row.first_at_s).isoformat(),
        "last": utc(row.last_at_s).isoformat(),
        "bars": row.count,
        "revised": row.revised,
        "last_revision": row.last_revision,
    }


def gaps(symbol: str, openings_s: list[int]) -> dict[str, Any]:
    """Return the sessions between the first and last opening that have no bar."""
    market = calendar_for(symbol)
    is_daily = all(second % (NS_PER_DAY // 10**9) == 0 for second in openings_s)
    days = {_session(market.session_of, second, is_daily) for second in openings_s} - {None}
    held = sorted(day for day in days if day is not None)
    if not held:
        return {"sessions": 0, "dates": []}
    due = market.sessions(held[0], held[-1] + timedelta(days=1))
    missing = [day.isoformat() for day in due if day not in days]
    return {"sessions": len(missing), "dates": missing[:_DATES_SHOWN]}


def _session(session_of: Any, second: int, is_daily: bool) -> date | None:
    if is_daily:
        return utc(second).date()
    found: date | None = session_of(second * 10**9)
    return found


@router.get("/news/latest", response_model=StoredNewsList, responses=documented(404, 503))
async def read_stored_news(
    services: ServicesDep,
    symbol: Annotated[str | None, Query(description="Only about this symbol.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Response:
    """Articles that the jobs kept of the monitored symbols, newest first, with sentiment."""
    name = None if symbol is None else normalise(symbol)
    kept = await services.last_good.ask(
        ("news", name, limit),
        lambda: services.store.read(lambda unit: unit.contents.latest(name, limit)),
    )
    body = {
        "timestamp": now_iso(services),
        "stale": kept.stale_since_s is not None,
        "items": [_article(content) for content in kept.value],
    }
    return fresh(body)


def _article(content: Content) -> dict[str, Any]:
    return {
        "symbol": content.symbol,
        "title": content.title,
        "url": content.url,
        "publisher": content.publisher,
        "summary": content.summary,
        "language": content.language,
        "sentiment": content.sentiment,
        "published_at": content.published_at.isoformat(timespec="milliseconds"),
        "source": content.source,
    }
