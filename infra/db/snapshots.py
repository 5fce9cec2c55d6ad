"""Close, high and low of each symbol's last whole session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import price_snapshots as table
from infra.db.upsert import New, upsert

_FIELDS = ("close", "high", "low", "volume")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Values of one session (ISO date); those that no job brought yet are None."""

    symbol: str
    source: str
    session: str
    close: float | None
    high: float | None
    low: float | None
    volume: int | None
    snapshot_at: datetime
    created_at: datetime


class Snapshots:
    """The table of snapshots, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, snapshots: Sequence[Snapshot]) -> None:
        """Write values; those of the same session that are None here stay as they are."""
        if not snapshots:
            return
        keys = ("symbol", "source", "session")
        statement = upsert(self._connection.dialect.name, table, keys, _merged)
        await self._connection.execute(statement, [asdict(snapshot) for snapshot in snapshots])

    async def latest(self, source: str, symbols: Sequence[str] = ()) -> dict[str, Snapshot]:
        """Return the snapshot of each symbol's newest session; of all symbols without a list."""
        newest = (
            select(table.c.symbol, func.max(table.c.session).label("session"))
            .where(table.c.source == source)
            .group_by(table.c.symbol)
        )
        if symbols:
            newest = newest.where(table.c.symbol.in_(symbols))
        last = newest.subquery()
        same = and_(table.c.symbol == last.c.symbol, table.c.session == last.c.session)
        columns = [table.c[name] for name in Snapshot.__slots__]
        query = select(*columns).join(last, same).where(table.c.source == source)
        rows = await self._connection.execute(query.order_by(table.c.symbol))
        return {row.symbol: Snapshot(*row) for row in rows}


def _merged(new: New) -> dict[str, Any]:
    values = {name: func.coalesce(new(name), table.c[name]) for name in _FIELDS}
    return values | {"snapshot_at": new("snapshot_at")}
