"""What is over its age leaves the store, once it is archived."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from infra.archive import write_archive
from infra.clock import Clock, utc
from infra.db.expired import (
    ALERTS,
    CONTENTS,
    DELIVERIES,
    SLOW_QUERIES,
    Condition,
    Expired,
    Expiring,
    Row,
    bars_expiring,
    older_than,
)
from infra.db.store import BULK, Store
from infra.db.unit import Unit
from infra.errors import StoreError
from pipelines.jobs.base import Job, JobContext, JobFailed
from pipelines.jobs.spec import JobSpec, daily

_PAUSE_S = 0.1  # between batches, for others


async def expire(context: JobContext) -> str:
    """Archive rows over their age as Parquet in the data directory, then delete those rows.

    A batch is deleted only when its file is on the disk; after a failure in between the rows are
    in two files, never in none.
    """
    settings, now = context.settings, utc(context.clock.time_s())
    gone = {"bars": 0, "alerts": 0, "contents": 0, "deliveries": 0, "slow_query_logs": 0}
    if settings.keep_bars_days:
        parts = await context.store.read(
            lambda unit: bars_expiring(unit.connection, settings.keep_bars_days), BULK
        )
        for expiring, old in parts:
            gone["bars"] += await _expire(context, expiring, old)
    for expiring, days in (
        (ALERTS, settings.keep_alerts_days),
        (DELIVERIES, settings.keep_alerts_days),
        (CONTENTS, settings.keep_contents_days),
        (SLOW_QUERIES, settings.keep_slow_queries_days),
    ):
        if days:
            old = older_than(expiring, now - timedelta(days=days))
            gone[expiring.name] += await _expire(context, expiring, old)
    return ", ".join(f"{count:,} rows of {name}" for name, count in gone.items())


async def _expire(context: JobContext, expiring: Expiring, old: Condition) -> int:
    return await expire_rows(
        context.store, context.settings.data_dir, context.clock, expiring, old
    )


async def expire_rows(
    store: Store, data_dir: Path, clock: Clock, expiring: Expiring, old: Condition
) -> int:
    """Archive rows in `data_dir`, then delete them, batch by batch; return how many.

    Raises JobFailed if a batch cannot be archived; those before it are deleted.
    """
    total, now = 0, utc(clock.time_s())

    async def read(unit: Unit) -> list[Row]:
        return await Expired(unit.connection, expiring, old).read()

    while rows := await store.read(read, BULK):
        folder = data_dir / "archive"
        try:
            if not expiring.has_secrets:
                await asyncio.to_thread(write_archive, folder, expiring.name, rows, now)
        except StoreError as error:
            raise JobFailed(f"nothing more deleted of {expiring.name}: {error}") from error

        async def delete(unit: Unit, rows: list[Row] = rows) -> int:
            return await Expired(unit.connection, expiring, old).delete(rows)

        total += await store.write(delete, limit=BULK)
        await clock.sleep(_PAUSE_S)
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
