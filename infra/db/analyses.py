"""Whole analyses of a symbol, the last word on each bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import analyses as table
from infra.db.upsert import New, upsert


@dataclass(frozen=True, slots=True)
class Analysis:
    """An analysis as of a bar; `body` is JSON as the API gives it."""

    symbol: str
    interval: str
    source: str
    as_of: datetime
    data_version: str
    body: str
    created_at: datetime


class Analyses:
    """The table of analyses, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, analyses: Sequence[Analysis]) -> None:
        """Write analyses; one of the same bar is replaced."""
        if not analyses:
            return
        keys = ("symbol", "interval", "source", "as_of")
        statement = upsert(self._connection.dialect.name, table, keys, _replaced)
        await self._connection.execute(statement, [asdict(analysis) for analysis in analyses])

    async def latest(self, symbol: str, interval: str, source: str) -> Analysis | None:
        """Return the analysis of the newest bar."""
        columns = [table.c[name] for name in Analysis.__slots__]
        query = (
            select(*columns)
            .where(
                table.c.symbol == symbol,
                table.c.interval == interval,
                table.c.source == source,
            )
            .order_by(table.c.as_of.desc())
            .limit(1)
        )
        row = (await self._connection.execute(query)).first()
        return None if row is None else Analysis(*row)


def _replaced(new: New) -> dict[str, Any]:
    return {name: new(name) for name in ("data_version", "body", "created_at")}
