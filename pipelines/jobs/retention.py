"""What is over its age leaves the store, once it is archived."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from infra.archive import write_archive
from infra.clock import utc
from infra.db.expired import EXPIRING, Expired, Expiring, Row
from infra.db.unit import Unit
from pipelines.jobs.base import Job, JobContext, JobFailed
from pipelines.scheduler.core import JobSpec
from pipelines.scheduler.triggers import daily

_PAUSE_S = 0.1  # between batches, for others


async def expire(context: JobContext) -> str:
    """Archive rows over their age as Parquet in the data directory, then delete those rows.

    A batch is deleted only when its file is on the disk; after a failure in between the rows are
    in two files, never in none.
    """
    settings = context.settings
    days = {
        "bars": settings.keep_bars_days,
        "contents": settings.keep_contents_days,
        "slow_query_logs": settings.keep_slow_queries_days,
    }
    gone = {
        name: await _expire_table(context, EXPIRING[name], kept_days)
        for name, kept_days in days.items()
        if kept_days
    }
    return ", ".join(f"{count:,} rows of {name}" for name, count in gone.items()) or "nothing kept"


async def _expire_table(context: JobContext, expiring: Expiring, days: int) -> int:
    now = utc(context.clock.time_s())
    before, total = now - timedelta(days=days), 0

    async def read(unit: Unit) -> list[Row]:
        return await Expired(unit.connection, expiring).read(before)

    while rows := await context.store.read(read):
        folder = context.settings.data_dir / "archive"
        try:
            await asyncio.to_thread(write_archive, folder, expiring.name, rows, now)
        except OSError as error:
            raise JobFailed(f"nothing more deleted of {expiring.name}: {error}") from error

        async def delete(unit: Unit, rows: list[Row] = rows) -> int:
            return await Expired(unit.connection, expiring).delete(rows)

        total += await context.store.write(delete)
        await context.clock.sleep(_PAUSE_S)
    return total


JOBS = (
    Job(
        JobSpec(
            "store.retention",
            "Archive and delete what is over its age.",
            daily(2, 0, "UTC", "sun"),
            timeout_s=3_600,
            grace_s=86_400,
        ),
        expire,
    ),
)
