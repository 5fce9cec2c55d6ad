"""Old records out of the store."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from infra.clock import utc
from infra.db.expired import ALERTS, CONTENTS, DELIVERIES, SLOW_QUERIES, free_bytes, older_than
from pipelines.api import TaskContext, TaskPriority, task
from pipelines.jobs.retention import expire_rows

_TABLES = (ALERTS, DELIVERIES, CONTENTS, SLOW_QUERIES)


@task("cleanup_data", priority=TaskPriority.LOW, max_retries=1, timeout_s=600, destructive=True)
async def clean_up(
    ctx: TaskContext, days_to_keep: Annotated[int, Field(ge=1, le=36_500)] = 30
) -> dict[str, Any]:
    """Archive as Parquet, then delete, older alerts, deliveries, news and slow queries.

    Bars are history and stay; their age is FINSTAGE_KEEP_BARS_DAYS. `space_freed_mb` is what the
    database's file has free now and had not before; None where the database does not say.
    """
    began_s, services = time.monotonic(), ctx.services
    cutoff = utc(services.clock.time_s()) - timedelta(days=days_to_keep)
    cleaned: list[dict[str, Any]] = []
    for number, expiring in enumerate(_TABLES):
        ctx.progress(100 * number / len(_TABLES), expiring.name)
        before = await services.store.read(lambda unit: free_bytes(unit.connection))
        old = older_than(expiring, cutoff)
        count = await expire_rows(
            services.store, services.settings.data_dir, services.clock, expiring, old
        )
        after = await services.store.read(lambda unit: free_bytes(unit.connection))
        cleaned.append(
            {
                "table_name": expiring.name,
                "records_deleted": count,
                "space_freed_mb": _freed_mb(before, after),
            }
        )
    freed = [row["space_freed_mb"] for row in cleaned]
    return {
        "cutoff_date": cutoff.isoformat(),
        "cleaned_tables": cleaned,
        "total_records_deleted": sum(row["records_deleted"] for row in cleaned),
        "space_freed_mb": None if None in freed else sum(freed),
        "cleanup_time_seconds": time.monotonic() - began_s,
    }


def _freed_mb(before: int | None, after: int | None) -> float | None:
    if before is None or after is None:
        return None
    return max(0, after - before) / 2**20
