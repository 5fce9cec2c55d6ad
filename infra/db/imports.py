"""What was imported, so that a running service notices and people can look it up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
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


class Imports:
    """The table of imports, in one transaction. Ids grow with time."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def append(self, made: Import) -> None:
        """Note an import."""
        await self._connection.execute(insert(table), [asdict(made)])

    async def latest(self, after_id: int = 0) -> dict[tuple[str, str], int]:
        """Return by symbol and interval the id of the last import, of those after an id."""
        query = (
            select(table.c.symbol, table.c.interval, func.max(table.c.id))
            .where(table.c.id > after_id)
            .group_by(table.c.symbol, table.c.interval)
        )
        rows = await self._connection.execute(query)
        return {(symbol, interval): last for symbol, interval, last in rows}
