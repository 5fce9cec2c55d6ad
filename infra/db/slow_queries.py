"""Queries that took long, of all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.clock import utc
from infra.db.tables import slow_query_logs as table
from infra.db.watch import SlowQuery


@dataclass(frozen=True, slots=True)
class SlowQueryLog:
    """One slow query; `duration` is seconds."""

    query_hash: str
    query_template: str
    duration: float
    affected_rows: int
    table_names: str
    operation_type: str
    process: str
    execution_timestamp: datetime
    created_at: datetime


def slow_query_log(query: SlowQuery, process: str, now: datetime) -> SlowQueryLog:
    """Return what the watch saw as a row."""
    return SlowQueryLog(
        query.query_hash,
        query.query_template,
        query.duration_s,
        query.affected_rows,
        ",".join(query.tables)[:500],
        query.operation,
        process,
        utc(query.at_s),
        now,
    )


class SlowQueries:
    """The table of slow queries, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def append(self, queries: Sequence[SlowQueryLog]) -> None:
        """Add slow queries."""
        if queries:
            await self._connection.execute(insert(table), [asdict(query) for query in queries])

    async def since(
        self,
        at: datetime,
        limit: int,
        min_duration_s: float = 0.0,
        operation_type: str | None = None,
        table_name: str | None = None,
    ) -> list[SlowQueryLog]:
        """Return slow queries from an instant on, newest first."""
        columns = [table.c[name] for name in SlowQueryLog.__slots__]
        query = (
            select(*columns)
            .where(table.c.execution_timestamp >= at, table.c.duration >= min_duration_s)
            .order_by(table.c.execution_timestamp.desc(), table.c.id.desc())
        )
        if operation_type is not None:
            query = query.where(table.c.operation_type == operation_type.upper())
        if table_name is not None:
            query = query.where(table.c.table_names.contains(table_name.lower(), autoescape=True))
        return [SlowQueryLog(*row) for row in await self._connection.execute(query.limit(limit))]

    async def purge(self, before: datetime) -> int:
        """Delete slow queries from before an instant; return how many."""
        gone = delete(table).where(table.c.execution_timestamp < before)
        return (await self._connection.execute(gone)).rowcount
