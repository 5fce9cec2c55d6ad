"""Technical analyses of many symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field

from infra.bars import Quote
from infra.clock import utc
from infra.errors import FinstageError
from infra.quotes import price_update
from pipelines.api import TaskContext, TaskPriority, task
from pipelines.driver.analysis import priced_analyses
from pipelines.driver.market import asked_symbols
from pipelines.jobs.analysis import keep_analyses
from pipelines.tasks.names import Symbols, all_failed

Kinds = Annotated[list[Literal["indicators", "signals"]], Field(min_length=1)]
_INDICES = ("^IXIC", "^GSPC", "^DJI")


@task("technical_analysis_batch", priority=TaskPriority.NORMAL, max_retries=2, timeout_s=900)
async def analyse_batch(
    ctx: TaskContext, symbols: Symbols, analysis_types: Kinds | None = None
) -> dict[str, Any]:
    """Compute indicators, and the signals of the last closed bar, of symbols.

    A symbol that fails carries its error; raises JobFailed if all do, or what a retry may help.
    """
    kinds = list(dict.fromkeys(analysis_types or ["indicators", "signals"]))
    asked = asked_symbols(symbols)
    results: dict[str, dict[str, Any]] = {s: dict.fromkeys(kinds, e) for s, e in asked.items()}
    names = _names(asked)
    if "indicators" in kinds:
        ctx.progress(10, "indicators")
        for name, answer in (await ctx.services.indicators.comprehensive(names)).items():
            results[name]["indicators"] = answer
    if "signals" in kinds:
        ctx.progress(60, "signals")
        for name, found in (await ctx.services.indicators.signals(names)).items():
            results[name]["signals"] = (
                found
                if isinstance(found, FinstageError)
                else [asdict(signal) | {"direction": signal.direction} for signal in found]
            )
    errors = [v for r in results.values() for v in r.values() if isinstance(v, FinstageError)]
    if len(errors) == len(kinds) * len(asked):
        raise all_failed("nothing analysed", errors)
    return {
        "task": "technical_analysis_batch",
        "status": "completed",
        "results": {name: _told(result) for name, result in results.items()},
        "processed_symbols": len(asked),
        "analysis_types": kinds,
        "completed_at": utc(ctx.services.clock.time_s()).isoformat(),
    }


@task("daily_comprehensive_report", priority=TaskPriority.NORMAL, max_retries=1, timeout_s=600)
async def report_comprehensively(
    ctx: TaskContext, symbols: Symbols | None = None
) -> dict[str, Any]:
    """Analyse symbols with their prices, and keep the analyses.

    Without symbols: the three large indices that the source knows, else the monitored ones. A
    symbol that fails carries its error; raises JobFailed if all do, or what a retry may help.
    """
    asked = asked_symbols(symbols or await _usual(ctx))
    names = _names(asked)
    ctx.progress(20, f"{len(asked)} symbols")
    answers = await ctx.services.indicators.comprehensive(names, "1mo")
    quotes = await ctx.services.feed.quotes(names)
    prices = {s: price_update(q, None) if isinstance(q, Quote) else q for s, q in quotes.items()}
    now = utc(ctx.services.clock.time_s())
    analyses = priced_analyses(names, answers, prices, now.isoformat(timespec="milliseconds"))
    found = {symbol: refused or analyses[symbol] for symbol, refused in asked.items()}
    errors = [result for result in found.values() if isinstance(result, FinstageError)]
    if len(errors) == len(asked):
        raise all_failed("nothing analysed", errors)
    ctx.progress(80, "keeping")
    await keep_analyses(ctx.services.store, analyses, "1d", now)
    results = {
        name: {"success": False, "error": result.message, "code": result.code}
        if isinstance(result, FinstageError)
        else {"success": True, "data": result}
        for name, result in found.items()
    }
    return {
        "task": "daily_comprehensive_report",
        "status": "completed",
        "results": results,
        "processed_symbols": len(asked),
        "completed_at": now.isoformat(),
    }


def _names(asked: Mapping[str, FinstageError | None]) -> list[str]:
    """Return the symbols that can be; raises JobFailed if none can."""
    names = [symbol for symbol, refused in asked.items() if refused is None]
    if not names:
        raise all_failed("nothing analysed", (e for e in asked.values() if e is not None))
    return names


async def _usual(ctx: TaskContext) -> list[str]:
    known = set(await ctx.services.feed.symbols())
    indices = [symbol for symbol in _INDICES if symbol in known]
    return indices or list(await ctx.services.feed.monitored())


def _told(result: dict[str, Any]) -> dict[str, Any]:
    return {
        kind: {"error": {"code": value.code, "message": value.message}}
        if isinstance(value, FinstageError)
        else value
        for kind, value in result.items()
    }
