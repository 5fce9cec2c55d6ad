"""All-time highs and lows, one row for each change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import price_high_records as table

Kind = Literal["high", "low"]
Reason = Literal["first", "beaten", "rebased"]


@dataclass(frozen=True, slots=True)
class Record:
    """The highest or lowest adjusted price that a source knows of a symbol.

    `session` is the ISO date of the bar that made it. `reason`: `rebased` when a split, a dividend
    or another run of a replay moved the bars.
    """

    symbol: str
    source: str
    kind: Kind
    price: float
    session: str
    reason: Reason
    recorded_at: datetime
    created_at: datetime


class HighRecords:
    """The table of records, in one transaction. Appended to; the last row is what holds."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def append(self, records: Sequence[Record]) -> None:
        """Add records, in order."""
        if records:
            await self._connection.execute(insert(table), [asdict(record) for record in records])

    async def latest(
        self, source: str, symbols: Sequence[str] = ()
    ) -> dict[tuple[str, Kind], Record]:
        """Return what holds, by symbol and kind; of all symbols without a list."""
        newest = select(func.max(table.c.id)).where(table.c.source == source)
        if symbols:
            newest = newest.where(table.c.symbol.in_(symbols))
        columns = [table.c[name] for name in Record.__slots__]
        ids = newest.group_by(table.c.symbol, table.c.kind)
        query = select(*columns).where(table.c.id.in_(ids)).order_by(table.c.symbol)
        rows = await self._connection.execute(query)
        return {(row.symbol, row.kind): Record(*row) for row in rows}
