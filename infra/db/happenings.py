"""What happened, by kind and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import happenings as table


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened; `body` is what JSON takes."""

    kind: str
    subject: str
    at: datetime
    body: Any


class Happenings:
    """The table of happenings, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, happened: Sequence[Happening]) -> None:
        """Keep what happened."""
        rows = [
            {
                "kind": one.kind,
                "subject": one.subject,
                "at": one.at,
                "body": orjson.dumps(one.body).decode(),
            }
            for one in happened
        ]
        if rows:
            await self._connection.execute(insert(table), rows)

    async def since(
        self, kind: str, start: datetime, limit: int, subject: str | None = None
    ) -> list[Happening]:
        """Return what happened from `start` on, oldest first; the newest `limit` of it."""
        query = select(table.c.kind, table.c.subject, table.c.at, table.c.body).where(
            table.c.kind == kind, table.c.at >= start
        )
        if subject is not None:
            query = query.where(table.c.subject == subject)
        rows = await self._connection.execute(query.order_by(table.c.id.desc()).limit(limit))
        found = [Happening(kind, about, at, orjson.loads(body)) for kind, about, at, body in rows]
        return found[::-1]

    async def forget(self, kind: str, before: datetime) -> int:
        """Delete what is older; return how many rows."""
        done = await self._connection.execute(
            delete(table).where(table.c.kind == kind, table.c.at < before)
        )
        return int(done.rowcount)
