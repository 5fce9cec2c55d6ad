"""Tasks that are submitted by themselves, day after day."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from infra.clock import utc
from pipelines.jobs.base import Job, JobContext, JobFailed
from pipelines.jobs.spec import JobSpec, Trigger, daily
from pipelines.registry import task_named
from pipelines.workflow import Options, Step, planned

_INDICES = ("^IXIC", "^GSPC", "^DJI")
_WATCHED = (*_INDICES, "AAPL", "MSFT")


async def _submitted(context: JobContext, name: str, **kwargs: Any) -> str:
    """Submit a task, once a day however often the job runs."""
    day = utc(context.clock.time_s()).date().isoformat()
    step = Step(task_named(name), (), kwargs, Options(key=f"job:{name}:{day}"))
    (task_id,) = await context.tasks.submit(planned(step).submissions)
    return f"{name} is queued as {task_id}"


async def _known(context: JobContext, symbols: tuple[str, ...]) -> list[str]:
    """Return those of some symbols that the source knows, else the monitored ones."""
    known = set(await context.feed.symbols())
    found = [symbol for symbol in symbols if symbol in known] or await context.monitored()
    if not found:
        raise JobFailed("no symbol is monitored")
    return found


async def report_comprehensively(context: JobContext) -> str:
    """Have the large indices analysed, and the analyses kept."""
    symbols = await _known(context, _INDICES)
    return await _submitted(context, "daily_comprehensive_report", symbols=symbols)


async def collect_history(context: JobContext) -> str:
    """Have three months of bars of the monitored symbols kept."""
    symbols = await _known(context, ())
    return await _submitted(context, "historical_data_collection", symbols=symbols, period="3mo")


async def analyse_batch(context: JobContext) -> str:
    """Have indicators and signals of the watched symbols computed."""
    symbols = await _known(context, _WATCHED)
    return await _submitted(context, "technical_analysis_batch", symbols=symbols)


async def report_daily(context: JobContext) -> str:
    """Have the daily report made."""
    symbols = await _known(context, _INDICES[:2])
    return await _submitted(context, "generate_report", symbols=symbols)


async def report_weekly(context: JobContext) -> str:
    """Have the weekly report made."""
    symbols = await _known(context, _WATCHED)
    return await _submitted(context, "generate_weekly_report", symbols=symbols)


def _job(name: str, trigger: Trigger, run: Callable[[JobContext], Awaitable[str]]) -> Job:
    title = (run.__doc__ or "").partition("\n")[0]
    return Job(JobSpec(name, title, trigger, timeout_s=120, grace_s=21_600), run)


JOBS = (
    _job("tasks.comprehensive_report", daily(6, 0, "UTC"), report_comprehensively),
    _job("tasks.historical_collection", daily(2, 0, "UTC", "sat"), collect_history),
    _job("tasks.technical_batch", daily(14, 0, "UTC"), analyse_batch),
    _job("tasks.daily_report", daily(8, 0, "UTC"), report_daily),
    _job("tasks.weekly_report", daily(8, 30, "UTC", "sat"), report_weekly),
)
