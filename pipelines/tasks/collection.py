"""Histories of symbols into the store."""

from __future__ import annotations

from typing import Any

from infra.bars import History
from infra.clock import utc
from infra.db.bulk import upsert_bars
from infra.errors import FinstageError
from infra.sources.base import Lane
from pipelines.api import TaskContext, TaskPriority, task
from pipelines.driver.market import asked_symbols
from pipelines.jobs.bars import changed, fetched
from pipelines.tasks.names import Period, Symbols, all_failed


@task("historical_data_collection", priority=TaskPriority.LOW, max_retries=1, timeout_s=1_800)
async def collect_history(
    ctx: TaskContext, symbols: Symbols, period: Period = "1y"
) -> dict[str, Any]:
    """Keep the daily bars of symbols in the store, as traded; those that are there so stay.

    A symbol that fails carries its error; raises JobFailed if all do, or what a retry may help.
    """
    asked = asked_symbols(symbols)
    failed: dict[str, FinstageError] = {}
    results: dict[str, Any] = {}
    for number, (symbol, refused) in enumerate(asked.items()):
        ctx.progress(100 * number / len(asked), symbol)
        try:
            if refused is not None:
                raise refused
            results[symbol] = await _collected(ctx, symbol, period)
        except FinstageError as error:
            failed[symbol] = error
            results[symbol] = {"success": False, "error": error.message, "code": error.code}
    if len(failed) == len(asked):
        raise all_failed("nothing collected", failed.values())
    return {
        "task": "historical_data_collection",
        "status": "completed",
        "results": results,
        "processed_symbols": len(asked),
        "period": period,
        "completed_at": utc(ctx.services.clock.time_s()).isoformat(),
    }


async def _collected(ctx: TaskContext, symbol: str, period: str) -> dict[str, Any]:
    services = ctx.services
    wanted = (await services.indicators.history(symbol, period, adjusted=False)).bars
    history = (await services.feed.histories([symbol], lane=Lane.BACKGROUND))[symbol]
    if not isinstance(history, History):
        raise history
    bars, own = history.bars, fetched(history)
    if len(wanted):
        first_ns = wanted.opened_at_ns[0]
        bars, own = bars[bars.opened_at_ns >= first_ns], own[own.opened_at_ns >= first_ns]
    held = await services.store.read(lambda unit: unit.bars.read(symbol, "1d"))
    written = await upsert_bars(services.store, symbol, "1d", history.source, changed(own, held))
    dates = None
    if len(bars):
        first, last = bars.session(0), bars.session(len(bars) - 1)
        dates = {"start": first.isoformat(), "end": last.isoformat()}
    return {"success": True, "data_points": len(bars), "written": written, "date_range": dates}
