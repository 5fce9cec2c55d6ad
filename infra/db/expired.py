"""Rows that are over their age: read, archived elsewhere, then deleted, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.bars import IMPORT
from infra.db.tables import bars, contents, slow_query_logs

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expiring:
    """A table whose rows end with age. `batch_rows` are deleted in one transaction."""

    table: Table
    age: Column[Any]
    batch_rows: int
    kept: ColumnElement[bool] | None = None  # rows that stay whatever their age

    @property
    def name(self) -> str:
        """Return the table's name."""
        return self.table.name


EXPIRING = {
    "bars": Expiring(bars, bars.c.opened_at, 1_000, bars.c.source == IMPORT),
    "contents": Expiring(contents, contents.c.published_at, 500),
    "slow_query_logs": Expiring(slow_query_logs, slow_query_logs.c.execution_timestamp, 1_000),
}


class Expired:
    """The rows of one table that are older than an instant, in one transaction."""

    def __init__(self, connection: AsyncConnection, expiring: Expiring) -> None:
        self._connection = connection
        self._expiring = expiring

    async def read(self, before: datetime) -> list[Row]:
        """Return the next batch, the oldest first."""
        expiring = self._expiring
        edge = before if expiring.table is not bars else int(before.timestamp())
        old: ColumnElement[bool] = expiring.age < edge
        if expiring.kept is not None:
            old = and_(old, ~expiring.kept)
        key = list(expiring.table.primary_key.columns)
        query = select(expiring.table).where(old).order_by(expiring.age, *key)
        found = await self._connection.execute(query.limit(expiring.batch_rows))
        return [dict(row) for row in found.mappings()]

    async def delete(self, rows: Sequence[Row]) -> int:
        """Delete these rows and no others; return how many were still there."""
        key = list(self._expiring.table.primary_key.columns)
        keys = [tuple(row[column.name] for column in key) for row in rows]
        matches = key[0].in_([k[0] for k in keys]) if len(key) == 1 else tuple_(*key).in_(keys)
        gone = await self._connection.execute(delete(self._expiring.table).where(matches))
        return gone.rowcount
