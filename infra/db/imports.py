"""What was imported and deleted, so that a running service notices and people look it up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import imports as table


@dataclass(frozen=True, slots=True)
class Import:
    """One import of one file."""

    symbol: str
    interval: str
    file_name: str
    accepted: int
    replaced: int
    refused: int
    imported_at: datetime


class LastImport(NamedTuple):
    """The last that happened to a symbol's imported bars of an interval."""

    id: int
    is_there: bool  # or they were deleted


class Imports:
    """The table of imports, in one transaction. Ids grow with time."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def append(self, made: Import) -> None:
        """Note an import."""
        await self._connection.execute(insert(table), [asdict(made)])

    async def note_deleted(self, symbol: str, interval: str, deleted_at: datetime) -> None:
        """Note that what was imported is gone: an import of nothing, without a file."""
        await self.append(Import(symbol, interval, "", 0, 0, 0, deleted_at))

    async def latest(self, after_id: int = 0) -> dict[tuple[str, str], LastImport]:
        """Return by symbol and interval what happened last, of all after an id."""
        newest = (
            select(func.max(table.c.id))
            .where(table.c.id > after_id)
            .group_by(table.c.symbol, table.c.interval)
        )
        return await self._found(table.c.id.in_(newest))

    async def of(self, symbol: str) -> dict[tuple[str, str], LastImport]:
        """Return the same of one symbol, of all times."""
        newest = select(func.max(table.c.id)).where(table.c.symbol == symbol)
        return await self._found(table.c.id.in_(newest.group_by(table.c.interval)))

    async def _found(self, chosen: ColumnElement[bool]) -> dict[tuple[str, str], LastImport]:
        query = select(table.c.symbol, table.c.interval, table.c.id, table.c.accepted)
        rows = await self._connection.execute(query.where(chosen))
        return {(symbol, interval): LastImport(last, n > 0) for symbol, interval, last, n in rows}
