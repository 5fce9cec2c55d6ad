"""Signals and moods, computed from the bars that are held."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Path, Query
from starlette.responses import Response

from actors.indicators.client import BULLISH, SIGNAL_TYPES, Signal
from infra.clock import utc
from infra.db.signals import StoredSignal
from infra.errors import FinstageError, ParameterInvalid, SignalUnknown
from infra.symbols import normalise
from serve.edge.errors import error_detail
from serve.rest.answers import fresh, now_iso, supported
from serve.rest.indicator_schemas import (
    KeptSignals,
    SentimentBody,
    SignalList,
    SignalOutcome,
    SignalPerformances,
)
from serve.rest.parameters import IntervalQuery, SymbolPath
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2/technical-analysis", tags=["technical analysis"])

SignalType = Annotated[
    str | None, Query(max_length=50, description="Only these, such as golden_cross.")
]
LastBars = Annotated[int, Query(ge=1, le=5_000, description="Of the last so many closed bars.")]
Limit = Annotated[int, Query(ge=1, le=1_000)]


@router.get("/signals", response_model=SignalList, responses=documented(404, 503))
async def read_signals(
    services: ServicesDep,
    symbols: Annotated[
        str | None, Query(description="Symbols, comma separated; default: all that have bars.")
    ] = None,
    signal_type: SignalType = None,
    interval: IntervalQuery = "1d",
    last: LastBars = 1,
    limit: Limit = 100,
) -> Response:
    """What crossed or touched what in the last bars of many symbols, newest first.

    Moving averages of 20, 50 and 200 bars, RSI(14), Bollinger bands (20, 2), the cross of 50 and
    200: sixteen types, from all closed adjusted bars held.
    """
    asked = [] if symbols is None else services.symbol_list(symbols)
    return await _signals(services, asked, signal_type, interval, last, limit)


@router.get("/signals/kept", response_model=KeptSignals, responses=documented(404, 503))
async def read_kept(
    services: ServicesDep,
    symbol: Annotated[str | None, Query(description="Only of this symbol.")] = None,
    signal_type: SignalType = None,
    hours: Annotated[
        int | None, Query(ge=1, le=87_600, description="Only so far back from now.")
    ] = None,
    limit: Limit = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Signals of the monitored symbols as the job kept them, newest first.

    Of a replay: those up to the session under way.
    """
    name = None if symbol is None else normalise(symbol)
    _check_type(signal_type)
    now = utc(services.clock.time_s())
    since = None if hours is None else now - timedelta(hours=hours)
    source, today = services.source.name, await services.market_day()
    kept = await services.last_good.ask(
        ("signals", name, signal_type, hours, limit, offset, today),
        lambda: services.store.read(
            lambda unit: unit.signals.latest(
                source, name, signal_type, since, limit, offset, today
            )
        ),
    )
    rows = [_kept_row(number, signal) for number, signal in kept.value]
    body = {
        "timestamp": now_iso(services),
        "source": await services.sources_of(dict.fromkeys(row["symbol"] for row in rows)),
        "stale": kept.stale_since_s is not None,
        "signals": rows,
    }
    return fresh(body)


@router.get("/signals/performance", response_model=SignalPerformances, responses=documented(503))
async def read_performance(services: ServicesDep) -> Response:
    """How kept signals did by each horizon: sample sizes, success rates, returns.

    A return is adjusted for direction: above 0 the signal was right.
    """
    source = services.source.name
    kept = await services.last_good.ask(
        ("performance",),
        lambda: services.store.read(lambda unit: unit.signals.performance(source)),
    )
    body = {
        "timestamp": now_iso(services),
        "source": source,
        "stale": kept.stale_since_s is not None,
        "performance": [asdict(row) for row in kept.value],
    }
    return fresh(body)


@router.get(
    "/signals/outcomes/{signal_id}", response_model=SignalOutcome, responses=documented(404, 503)
)
async def read_outcome(
    services: ServicesDep, signal_id: Annotated[int, Path(ge=1, le=2**62)]
) -> Response:
    """What became of a kept signal; 404 where nothing is known of it."""
    found = await services.store.read(lambda unit: unit.signals.outcome(signal_id))
    if found is None:
        raise SignalUnknown(signal_id)
    shown = {name: getattr(found, name) for name in SignalOutcome.model_fields}
    return fresh(shown | {"last_updated_at": found.last_updated_at.isoformat()})


@router.get("/signals/{symbol}", response_model=SignalList, responses=documented(404, 503))
async def read_symbol_signals(
    services: ServicesDep,
    symbol: SymbolPath,
    signal_type: SignalType = None,
    interval: IntervalQuery = "1d",
    last: LastBars = 100,
    limit: Limit = 100,
) -> Response:
    """The same of one symbol; 404 for an unknown one."""
    name = normalise(symbol)
    return await _signals(services, [name], signal_type, interval, last, limit, name)


@router.get("/sentiment/{symbol}", response_model=SentimentBody, responses=documented(404, 503))
async def read_sentiment(
    services: ServicesDep, symbol: SymbolPath, interval: IntervalQuery = "1d"
) -> Response:
    """What RSI, MACD, stochastic, averages and volume of the last closed bar add up to.

    `score` is the sum of the components, `ratio` its place between the least and the most.
    """
    supported(services, interval)
    origin, mood = await services.indicators.sentiment(normalise(symbol), interval)
    found = {
        "score": None if mood is None else mood.score,
        "ratio": None if mood is None else mood.ratio,
        "label": None if mood is None else mood.label,
        "components": {} if mood is None else mood.components,
    }
    return fresh({**origin, "method": "standard", **found})


async def _signals(
    services: Services,
    symbols: list[str],
    signal_type: str | None,
    interval: str,
    last: int,
    limit: int,
    only: str | None = None,
) -> Response:
    supported(services, interval)
    _check_type(signal_type)
    answers = await services.indicators.signals(symbols, interval, last)
    errors = {s: a for s, a in answers.items() if isinstance(a, FinstageError)}
    if only in errors:
        raise errors[only]
    found = [
        (symbol, signal)
        for symbol, answer in answers.items()
        if not isinstance(answer, FinstageError)
        for signal in answer
        if signal_type in (None, signal.type)
    ]
    found.sort(key=lambda pair: (-pair[1].opened_at_ns, pair[0]))
    body = {
        "timestamp": now_iso(services),
        "source": await services.sources_of((s for s, _ in found[:limit]), interval),
        "timeframe": interval,
        "total": len(found),
        "signals": [_row(symbol, signal, interval) for symbol, signal in found[:limit]],
        "errors": {symbol: error_detail(error) for symbol, error in errors.items()},
    }
    return fresh(body)


def _check_type(signal_type: str | None) -> None:
    if signal_type is not None and signal_type not in SIGNAL_TYPES:
        raise ParameterInvalid(("query", "signal_type"), signal_type, SIGNAL_TYPES)


def _kept_row(number: int, signal: StoredSignal) -> dict[str, Any]:
    return {
        "id": number,
        "symbol": signal.symbol,
        "signal_type": signal.signal_type,
        "direction": "bullish" if signal.signal_type in BULLISH else "bearish",
        "timeframe": signal.timeframe,
        "triggered_at": signal.triggered_at.isoformat(),
        "current_price": signal.current_price,
        "indicator_value": signal.indicator_value,
        "signal_strength": signal.signal_strength,
        "volume": signal.volume,
        "created_at": signal.created_at.isoformat(timespec="milliseconds"),
    }


def _row(symbol: str, signal: Signal, interval: str) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "signal_type": signal.type,
        "direction": signal.direction,
        "timeframe": interval,
        "triggered_at": utc(signal.opened_at_ns // 10**9).isoformat(),
        "current_price": signal.price,
        "indicator_value": signal.value,
        "signal_strength": signal.strength,
        "volume": signal.volume,
    }
