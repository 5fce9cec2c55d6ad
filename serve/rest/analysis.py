"""`/api/v2/technical-analysis`: indicators of whole histories, prices against references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import Body, Path, Query, Request
from starlette.responses import Response

from actors.indicators.client import NAMES, is_of_the_six, parse_names
from infra.clock import utc
from infra.directives import BACKGROUND, is_on
from infra.errors import FinstageError, IntervalUnsupported
from infra.symbols import normalise
from pipelines.driver.analysis import priced_analyses
from pipelines.jobs.analysis import keep_analyses
from serve.edge.errors import error_detail
from serve.edge.gate import need_key
from serve.rest import formats
from serve.rest.answers import (
    fresh,
    kept,
    now_iso,
    or_errors,
    raise_if_all_failed,
    supported,
)
from serve.rest.indicator_schemas import IndicatorSeries, NamedIndicators
from serve.rest.monitor import check_price
from serve.rest.parameters import (
    IntervalQuery,
    Method,
    MethodQuery,
    OpenBarQuery,
    PeriodQuery,
    SymbolPath,
    SymbolsQuery,
    check_carried,
)
from serve.rest.prices import recent_bodies
from serve.rest.questions import IndicatorQuestion
from serve.rest.routing import Router
from serve.rest.schemas import (
    BatchIndicators,
    BatchIndicatorsRequest,
    BatchPrices,
    Comprehensive,
    ComprehensiveRequest,
    Indicators,
    MonitoredPrices,
    Texts,
    documented,
)
from serve.rest.services import Services, ServicesDep
from serve.rest.tables import TableQuestion
from serve.rest.task_schemas import BackgroundQueued, BackgroundStatus, TaskRequest
from serve.rest.tasks import submitted

router = Router(prefix="/api/v2/technical-analysis", tags=["technical analysis"])

_LIST_BODY_QUERY = "For a bare list as body; an object carries its own."


@router.get(
    "/indicators/{symbol}",
    response_model=Indicators | NamedIndicators | IndicatorSeries,
    responses=documented(304, 404, 503) | {200: {"content": formats.DOCUMENTED}},
)
async def read_indicators(
    request: Request,
    services: ServicesDep,
    symbol: SymbolPath,
    period: PeriodQuery = "1mo",
    indicators: Annotated[
        str,
        Query(
            max_length=2_000,
            description="`all`, or a list of sma, ema, rsi, macd, bollinger, stochastic; or any "
            "of the catalogue with parameters, `rsi(21),bbands(20,2.5),cdlengulfing`.",
        ),
    ] = "all",
    interval: IntervalQuery = "1d",
    method: MethodQuery = "standard",
    open_bar: OpenBarQuery = False,
    series: Annotated[bool, Query(description="Values of many bars, as columns.")] = False,
    last: Annotated[
        int | None, Query(ge=1, le=10_000, description="So many bars; default: the period's.")
    ] = None,
    format: Annotated[
        formats.Format | None, Query(description="Of a series, instead of an Accept header.")
    ] = None,
) -> Response:
    """Latest value of each indicator, from all closed bars held; null where there are too few.

    `period` sets how much is reported (`data_points`), never what a value is computed from.
    Prices are adjusted for splits and dividends. `as_of` is the last bar used. The six answer in
    their own shape; with parameters, other names or `series` each is named as it was asked for.
    """
    name = normalise(symbol)
    supported(services, interval)
    if series:
        wanted = format or formats.accepted(request.headers.get("accept", ""))
        text = ",".join(NAMES) if indicators.strip() == "all" else indicators
        question = TableQuestion(name, period, interval, text, last)
        return await question.series(services, open_bar, wanted)
    if not is_of_the_six(indicators):
        table = TableQuestion(name, period, interval, indicators.strip().lower(), 1)
        if open_bar:
            return fresh((await table.table(services, True)).latest())
        return await kept(request, services, table)
    names = parse_names(indicators)
    if open_bar:
        return fresh(
            await services.indicators.indicators(name, period, interval, names, method, True)
        )
    return await kept(request, services, IndicatorQuestion(name, period, interval, names, method))


@router.post("/batch/indicators", response_model=BatchIndicators, responses=documented(404, 503))
async def read_batch(
    request: Request,
    services: ServicesDep,
    body: Annotated[BatchIndicatorsRequest | Texts, Body()],
    period: PeriodQuery = "1mo",
    batch_size: Annotated[int, Query(ge=1, le=20, description=_LIST_BODY_QUERY)] = 5,
    interval: IntervalQuery = "1d",
    method: MethodQuery = "standard",
    open_bar: OpenBarQuery = False,
) -> Response:
    """Whole analysis of many symbols in one call; a symbol that fails carries its error.

    `batch_size` is echoed: all symbols are computed in one call, whatever it is.
    """
    if isinstance(body, list):
        body = BatchIndicatorsRequest(symbols=body, period=period, batch_size=batch_size)
    else:
        check_carried(request, BatchIndicatorsRequest.model_fields)
    symbols = services.checked_symbols(body.symbols, "body")
    supported(services, interval)
    results = await _comprehensive(services, symbols, body.period, interval, method, open_bar)
    raise_if_all_failed(results)
    return fresh(
        {
            "timestamp": now_iso(services),
            "period": body.period,
            "interval": interval,
            "source": services.joined(_sources(results)),
            "requested_symbols": len(symbols),
            "analyzed_symbols": _successes(results),
            "batch_size": body.batch_size,
            "results": or_errors(results),
        }
    )


@router.get("/prices/monitor", response_model=MonitoredPrices, responses=documented(503))
async def monitor_prices(
    services: ServicesDep,
    symbols: Annotated[
        str | None, Query(description="Symbols, comma separated; default: the monitored set.")
    ] = None,
    alerts_only: Annotated[bool, Query(description="Only symbols that have an alert.")] = False,
) -> Response:
    """Each price against the previous close and the all-time high, with the alerts that gives.

    Thresholds go by the symbol's category; nothing is remembered between calls. The all-time
    high is the highest adjusted `high` of all closed bars held.
    """
    asked = (
        list(await services.feed.monitored()) if symbols is None else services.symbol_list(symbols)
    )
    prices = await services.prices(asked)
    references = await services.indicators.references(asked)
    results = {s: check_price(prices[s], references[s], services.universe) for s in asked}
    alerts = {s: r["alerts"] for s, r in results.items() if not isinstance(r, FinstageError)}
    chosen = {s: r for s, r in results.items() if alerts.get(s) or not alerts_only}
    return fresh(
        {
            "timestamp": now_iso(services),
            "source": services.joined(_sources(prices)),
            "monitored_symbols": len(asked),
            "total_alerts": sum(map(len, alerts.values())),
            "symbols_with_alerts": sum(map(bool, alerts.values())),
            "results": or_errors(chosen),
        }
    )


@router.get("/prices/batch", response_model=BatchPrices, responses=documented(503))
async def read_prices(
    services: ServicesDep,
    symbols: SymbolsQuery,
    include_history: Annotated[
        bool, Query(description="Add the closed bars of the last five sessions of each.")
    ] = False,
    interval: IntervalQuery = "1d",
) -> Response:
    """Last price of many symbols, and on request the bars of their last five sessions."""
    asked = services.symbol_list(symbols)
    prices = await services.prices(asked)
    histories = await recent_bodies(services, asked, "5d", interval) if include_history else {}
    _raise_if_unsupported(histories)
    results = {
        symbol: price
        if isinstance(price, FinstageError)
        else _last_price(symbol, price, histories)
        for symbol, price in prices.items()
    }
    return fresh(
        {
            "timestamp": now_iso(services),
            "source": services.joined(_sources(prices)),
            "requested_symbols": len(asked),
            "successful_symbols": _successes(results),
            "include_history": include_history,
            "results": or_errors(results),
        }
    )


@router.post(
    "/analysis/comprehensive",
    response_model=Comprehensive,
    responses=documented(503) | {202: {"model": BackgroundQueued}},
)
async def analyse(
    request: Request,
    services: ServicesDep,
    body: Annotated[ComprehensiveRequest | Texts, Body()],
    period: PeriodQuery = "1mo",
    save_results: Annotated[bool, Query(description=_LIST_BODY_QUERY)] = False,
    interval: IntervalQuery = "1d",
    method: MethodQuery = "standard",
    open_bar: OpenBarQuery = False,
) -> Response:
    """Price check and whole analysis of many symbols together.

    With `Prefer: respond-async` it is run as a task: 202 with the task's id, as
    `analysis/background` answers, unless the rule `background_heavy_tasks` is off.
    `save_results` keeps the analyses in the store before this answers: 503 if it cannot. Both need
    a key where there are any.
    """
    if isinstance(body, list):
        body = ComprehensiveRequest(symbols=body, period=period, save_results=save_results)
    else:
        check_carried(request, ComprehensiveRequest.model_fields)
    symbols = services.checked_symbols(body.symbols, "body")
    supported(services, interval)
    in_background = "respond-async" in request.headers.get("prefer", "") and is_on(BACKGROUND)
    if in_background or body.save_results:
        need_key(request.scope, services.settings)
    if in_background:
        answer = await _queued(services, symbols, ["indicators", "signals"])
        answer.headers["preference-applied"] = "respond-async"
        return answer
    analyses = await _comprehensive(services, symbols, body.period, interval, method, open_bar)
    if body.save_results:
        now = utc(services.clock.time_s())
        await keep_analyses(services.store, analyses, interval, now)
    prices = await services.prices(symbols)
    references = await services.indicators.references(symbols)
    checks = {s: check_price(prices[s], references[s], services.universe) for s in symbols}
    results = {
        s: analyses[s]
        if isinstance(analyses[s], FinstageError)
        else {
            **or_errors({"price_monitoring": checks[s]}),
            "technical_analysis": analyses[s],
            "data_available": analyses[s]["data_points"] > 0,
        }
        for s in symbols
    }
    good = [r for r in checks.values() if not isinstance(r, FinstageError)]
    return fresh(
        {
            "timestamp": now_iso(services),
            "source": services.joined(_sources(analyses)),
            "analysis_period": body.period,
            "interval": interval,
            "analyzed_symbols": len(symbols),
            "symbols_with_data": _successes(results),
            "total_alerts": sum(len(check["alerts"]) for check in good),
            "results": or_errors(results),
        }
    )


def _sources(results: Mapping[str, Any]) -> list[str]:
    return [r["source"] for r in results.values() if not isinstance(r, FinstageError)]


@router.post(
    "/analysis/background",
    response_model=BackgroundQueued,
    status_code=202,
    responses=documented(404, 503),
)
async def analyse_in_background(
    services: ServicesDep,
    symbols: Annotated[list[str], Query(max_length=500, description="Repeated.")],
    analysis_types: Annotated[
        list[str], Query(max_length=10, description="Repeated: indicators, signals.")
    ] = ["indicators", "signals"],  # noqa: B006  # FastAPI copies it
) -> Response:
    """Analyse symbols as a task; its status route gives the result."""
    return await _queued(services, services.checked_symbols(symbols, "query"), analysis_types)


async def _queued(services: Services, names: list[str], analysis_types: list[str]) -> Response:
    kwargs = {"symbols": names, "analysis_types": analysis_types}
    request = TaskRequest(task_name="technical_analysis_batch", kwargs=kwargs)
    task_id, _ = await submitted(services, request)
    body = kwargs | {
        "status": "queued",
        "task_id": task_id,
        "estimated_completion": None,
        "queued_at": now_iso(services),
    }
    answer = fresh(body, 202)
    answer.headers["location"] = f"{router.prefix}/analysis/status/{task_id}"
    return answer


@router.get(
    "/analysis/status/{task_id}", response_model=BackgroundStatus, responses=documented(404, 503)
)
async def read_background(
    services: ServicesDep, task_id: Annotated[str, Path(max_length=64)]
) -> Response:
    """How an analysis in the background does, with its result once it has one."""
    shown = await services.tasks.task(task_id)
    (result,) = await services.tasks.results([task_id])
    body = {name: shown[name] for name in ("task_id", "status", "progress", "error")}
    body |= {name: shown[name] for name in ("created_at", "completed_at")}
    is_good = result.state == "completed" and result.kind == "json"
    return fresh(body | {"result": orjson.Fragment(result.data) if is_good else None})


async def _comprehensive(
    services: Services,
    symbols: list[str],
    period: str,
    interval: str,
    method: Method,
    open_bar: bool,
) -> dict[str, Any]:
    """Return the analyses with each symbol's current price: one call, whatever the number."""
    answers = await services.indicators.comprehensive(symbols, period, interval, method, open_bar)
    prices = await services.prices(symbols)
    return priced_analyses(symbols, answers, prices, now_iso(services))


def _successes(results: dict[str, Any]) -> int:
    return sum(not isinstance(result, FinstageError) for result in results.values())


def _last_price(
    symbol: str, price: Mapping[str, Any], histories: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a price, with its bars or why there are none where bars were asked for."""
    answer = {
        "symbol": symbol,
        "current_price": price["current_price"],
        "as_of": price["timestamp"],
        "source": price["source"],
        "data_version": price["data_version"],
    }
    history = histories.get(symbol)
    if isinstance(history, FinstageError):
        return answer | {"history": None, "history_error": error_detail(history)}
    return answer | {"history": history} if histories else answer


def _raise_if_unsupported(histories: Mapping[str, Any]) -> None:
    """Raise for an interval that no symbol has bars of: what was asked for is wrong, not one."""
    errors = [value for value in histories.values() if isinstance(value, FinstageError)]
    if len(errors) == len(histories):
        for error in errors:
            if isinstance(error, IntervalUnsupported):
                raise error
