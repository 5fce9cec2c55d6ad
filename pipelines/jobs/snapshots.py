"""Close, high and low of the last whole session of the monitored symbols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

from infra.bars import BarSeries
from infra.clock import utc
from infra.db.snapshots import Snapshot
from infra.db.store import BATCH
from infra.errors import FinstageError
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.jobs.spec import JobSpec, hourly

Field = Literal["close", "high", "low"]


def keeping(field: Field) -> Callable[[JobContext], Awaitable[str]]:
    """Return the work that keeps one value of each symbol's last closed session, adjusted."""

    async def keep(context: JobContext) -> str:
        symbols = await context.monitored()
        answers = await context.indicators.histories(symbols, "1d")
        failed = {s: a for s, a in answers.items() if isinstance(a, FinstageError)}
        now = utc(context.clock.time_s())
        snapshots = [
            snapshot
            for symbol, series in answers.items()
            if isinstance(series, BarSeries)
            and (snapshot := _snapshot(symbol, series, field, context.source.name, now))
        ]
        await context.store.write(lambda unit: unit.snapshots.put(snapshots), limit=BATCH)
        return summary(len(snapshots), f"symbols' {field}", failed)

    return keep


def _snapshot(
    symbol: str, series: BarSeries, field: Field, source: str, now: datetime
) -> Snapshot | None:
    bars = series.bars
    if not len(bars):
        return None
    values = {name: float(getattr(bars, name)[-1]) for name in ("close", "high", "low")}
    kept = {name: value if name == field else None for name, value in values.items()}
    return Snapshot(
        symbol,
        source,
        bars.session(-1).isoformat(),
        kept["close"],
        kept["high"],
        kept["low"],
        int(bars.volume[-1]),
        now,
        now,
    )


def _job(field: Field, minute: int) -> Job:
    spec = JobSpec(
        f"snapshots.{field}",
        f"Keep the last session's {field}.",
        hourly(minute),
        timeout_s=300,
        grace_s=3_600,
    )
    return Job(spec, keeping(field))


JOBS = (_job("close", 15), _job("high", 30), _job("low", 45))
