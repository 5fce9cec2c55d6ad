"""`/api/v2/market-price`: prices beside what is kept of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import Body, Query
from starlette.responses import Response

from infra.db.high_records import Record
from infra.db.snapshots import Snapshot
from infra.errors import FinstageError
from infra.symbols import normalise
from serve.edge.last_good import Kept
from serve.rest.answers import fresh, now_iso, or_errors
from serve.rest.envelope import Envelope, enveloped
from serve.rest.parameters import SymbolPath
from serve.rest.routing import Router
from serve.rest.schemas import Texts, documented
from serve.rest.services import Services, ServicesDep
from serve.rest.store_schemas import (
    CurrentPrice,
    CurrentPrices,
    CurrentPricesRequest,
    HighRecordSummaries,
    SnapshotSummaries,
)

router = Router(prefix="/api/v2/market-price", tags=["market price"])

OptionalSymbols = Annotated[
    str | None, Query(description="Symbols, comma separated; default: the monitored set.")
]


@router.get(
    "/current/{symbol}", response_model=Envelope[CurrentPrice], responses=documented(404, 503)
)
async def read_current(
    services: ServicesDep,
    symbol: SymbolPath,
    include_details: Annotated[
        bool, Query(description="Add the last session and the records that are kept.")
    ] = False,
) -> Response:
    """A symbol's latest price; compatibility, `/api/v2/quotes` says more."""
    name = normalise(symbol)
    price = (await services.prices([name]))[name]
    if isinstance(price, FinstageError):
        raise price
    body = _current(price)
    if include_details:
        body |= {"details": await _details(services, price)}
    return enveloped(body, f"price of {name}")


@router.post(
    "/batch/current", response_model=Envelope[CurrentPrices], responses=documented(404, 503)
)
async def read_batch(
    services: ServicesDep, body: Annotated[CurrentPricesRequest | Texts, Body()]
) -> Response:
    """Latest prices of many symbols; one that fails carries its error."""
    asked = body if isinstance(body, list) else body.symbols
    symbols = services.checked_symbols(asked, "body")
    prices = await services.prices(symbols)
    results = {s: p if isinstance(p, FinstageError) else _current(p) for s, p in prices.items()}
    good = sum(not isinstance(price, FinstageError) for price in prices.values())
    data = {
        "total_symbols": len(symbols),
        "successful_count": good,
        "results": or_errors(results),
        "timestamp": now_iso(services),
    }
    return enveloped(data, f"prices of {good} symbols")


@router.get("/snapshots/summary", response_model=SnapshotSummaries, responses=documented(503))
async def read_snapshots(services: ServicesDep, symbols: OptionalSymbols = None) -> Response:
    """Close, high and low of each symbol's last whole session, as the jobs kept them."""
    asked = await _asked(services, symbols)
    kept = await _snapshots(services, asked)
    rows = [snapshot_summary(symbol, kept.value.get(symbol)) for symbol in asked]
    return fresh(
        {
            "timestamp": now_iso(services),
            "source": await services.sources_of(asked),
            "stale": kept.stale_since_s is not None,
            "total_symbols": len(rows),
            "with_complete_data": sum(row["has_complete_data"] for row in rows),
            "snapshots": rows,
        }
    )


@router.get("/high-records/summary", response_model=HighRecordSummaries, responses=documented(503))
async def read_high_records(services: ServicesDep, symbols: OptionalSymbols = None) -> Response:
    """Each symbol's all-time high (adjusted), as the job kept it."""
    asked = await _asked(services, symbols)
    kept = await _records(services, asked)
    today = _today(services)
    sources = await services.sources_by_symbol(asked)
    records = {s: kept.value.get((s, "high")) for s in asked}
    rows = [high_record_summary(s, records[s], today, sources[s]) for s in asked]
    return fresh(
        {
            "timestamp": now_iso(services),
            "source": services.joined(sources.values()),
            "stale": kept.stale_since_s is not None,
            "total_symbols": len(rows),
            "with_records": sum(row["has_record"] for row in rows),
            "high_records": rows,
        }
    )


async def _asked(services: Services, symbols: str | None) -> list[str]:
    return (
        list(await services.feed.monitored()) if symbols is None else services.symbol_list(symbols)
    )


async def _snapshots(services: Services, symbols: list[str]) -> Kept[dict[str, Snapshot]]:
    source = services.source.name
    return await services.last_good.ask(
        ("snapshots", *symbols),
        lambda: services.store.read(lambda unit: unit.snapshots.latest(source, symbols)),
    )


async def _records(services: Services, symbols: list[str]) -> Kept[dict[Any, Record]]:
    source = services.source.name
    return await services.last_good.ask(
        ("records", *symbols),
        lambda: services.store.read(lambda unit: unit.high_records.latest(source, symbols)),
    )


async def _details(services: Services, price: dict[str, Any]) -> dict[str, Any]:
    symbol = price["symbol"]
    source = (await services.sources_by_symbol([symbol]))[symbol]
    snapshot = (await _snapshots(services, [symbol])).value.get(symbol)
    record = (await _records(services, [symbol])).value.get((symbol, "high"))
    return {
        "price_summary": price_summary(price, snapshot, record),
        "snapshot_summary": snapshot_summary(symbol, snapshot),
        "high_record_summary": high_record_summary(symbol, record, _today(services), source),
    }


def _current(price: dict[str, Any]) -> dict[str, Any]:
    return {
        "symbol": price["symbol"],
        "current_price": price["current_price"],
        "timestamp": price["timestamp"],
        "source": price["source"],
        "stale": price["stale"],
    }


def price_summary(
    price: dict[str, Any], snapshot: Snapshot | None, record: Record | None
) -> dict[str, Any]:
    """Return a price against the previous close and what is kept."""
    current, close = price["current_price"], price["previous_close"]
    high = None if record is None else record.price
    return {
        "symbol": price["symbol"],
        "current_price": current,
        "prev_close": close,
        "all_time_high": high,
        "prev_high": None if snapshot is None else snapshot.high,
        "prev_low": None if snapshot is None else snapshot.low,
        "change_from_close": _change(current, close),
        "change_from_high": _change(current, high),
        "timestamp": price["timestamp"],
    }


def snapshot_summary(symbol: str, snapshot: Snapshot | None) -> dict[str, Any]:
    """Return what is kept of the last whole session."""
    values = (None,) * 3 if snapshot is None else (snapshot.close, snapshot.high, snapshot.low)
    return {
        "symbol": symbol,
        "latest_close": values[0],
        "latest_snapshot_date": None if snapshot is None else snapshot.session,
        "previous_high": values[1],
        "previous_low": values[2],
        "has_complete_data": all(value is not None for value in values),
    }


def high_record_summary(
    symbol: str, record: Record | None, today: date, source: str
) -> dict[str, Any]:
    """Return the all-time high that is kept; `source` has the symbol's bars."""
    if record is None:
        nothing = dict.fromkeys(("price", "recorded_at", "source", "days_since_high"))
        return {"symbol": symbol, "has_record": False, **nothing}
    return {
        "symbol": symbol,
        "has_record": True,
        "price": record.price,
        "recorded_at": record.recorded_at.isoformat(timespec="milliseconds"),
        "source": source,
        "days_since_high": (today - date.fromisoformat(record.session)).days,
    }


def _change(current: float, base: float | None) -> dict[str, float] | None:
    if not base:
        return None
    return {"amount": current - base, "percent": (current - base) / base * 100}


def _today(services: Services) -> date:
    return datetime.fromtimestamp(services.clock.time_s(), UTC).date()
