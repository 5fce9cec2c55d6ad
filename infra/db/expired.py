"""Rows that are over their age: read, archived elsewhere, then deleted, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.bars import IMPORT
from infra.db.tables import alerts, bars, contents, deliveries, slow_query_logs

Row = dict[str, Any]
Condition = ColumnElement[bool]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Expiring:
    """A table whose rows end with age. `batch_rows` are deleted in one transaction.

    Rows with secrets are not archived.
    """

    table: Table
    age: Column[Any]
    batch_rows: int
    has_secrets: bool = False

    @property
    def name(self) -> str:
        """Return the table's name."""
        return self.table.name


CONTENTS = Expiring(contents, contents.c.published_at, 500)
ALERTS = Expiring(alerts, alerts.c.triggered_at, 1_000)
DELIVERIES = Expiring(deliveries, deliveries.c.created_at, 500, has_secrets=True)
SLOW_QUERIES = Expiring(slow_query_logs, slow_query_logs.c.execution_timestamp, 1_000)


async def bars_expiring(
    connection: AsyncConnection, days: int
) -> list[tuple[Expiring, Condition]]:
    """Return for each symbol and interval which of its bars are over their age.

    That is counted from the newest bar, not from today: a replay's bars are all of the past.
    """
    newest = select(bars.c.symbol, bars.c.interval, func.max(bars.c.opened_at)).group_by(
        bars.c.symbol, bars.c.interval
    )
    found = []
    for symbol, interval, last_s in await connection.execute(newest):
        old = and_(
            bars.c.symbol == symbol,
            bars.c.interval == interval,
            bars.c.opened_at < last_s - days * _DAY_S,
            bars.c.source != IMPORT,
        )
        found.append((Expiring(bars, bars.c.opened_at, 1_000), old))
    return found


async def free_bytes(connection: AsyncConnection) -> int | None:
    """Return what the database's file has free inside, None where it does not say."""
    if connection.dialect.name != "sqlite":
        return None
    pages = await connection.exec_driver_sql("PRAGMA freelist_count")
    size = await connection.exec_driver_sql("PRAGMA page_size")
    return int(pages.scalar_one()) * int(size.scalar_one())


def older_than(expiring: Expiring, before: datetime) -> Condition:
    """Return the condition of rows older than an instant."""
    return expiring.age < before


class Expired:
    """The rows of one table that fit a condition, in one transaction."""

    def __init__(self, connection: AsyncConnection, expiring: Expiring, old: Condition) -> None:
        self._connection = connection
        self._expiring = expiring
        self._old = old

    async def read(self) -> list[Row]:
        """Return the next batch, the oldest first."""
        expiring = self._expiring
        key = list(expiring.table.primary_key.columns)
        query = select(expiring.table).where(self._old).order_by(expiring.age, *key)
        found = await self._connection.execute(query.limit(expiring.batch_rows))
        return [dict(row) for row in found.mappings()]

    async def delete(self, rows: Sequence[Row]) -> int:
        """Delete these rows and no others; return how many were still there."""
        key = list(self._expiring.table.primary_key.columns)
        keys = [tuple(row[column.name] for column in key) for row in rows]
        matches = key[0].in_([k[0] for k in keys]) if len(key) == 1 else tuple_(*key).in_(keys)
        gone = await self._connection.execute(delete(self._expiring.table).where(matches))
        return gone.rowcount
