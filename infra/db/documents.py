"""Small documents by kind and id: the present state of things that one process owns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import documents as table
from infra.db.upsert import upsert


class Documents:
    """The table of documents, in one transaction. Bodies are what JSON takes."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, kind: str, id_: str, body: Any, now: datetime) -> None:
        """Write a document in the place of what was there."""
        statement = upsert(
            self._connection.dialect.name,
            table,
            ("kind", "id"),
            lambda new: {"body": new("body"), "updated_at": new("updated_at")},
        )
        row = {"kind": kind, "id": id_, "body": orjson.dumps(body).decode(), "updated_at": now}
        await self._connection.execute(statement, [row])

    async def get(self, kind: str, id_: str) -> Any:
        """Return a document's body, None if there is none."""
        query = select(table.c.body).where(table.c.kind == kind, table.c.id == id_)
        body = (await self._connection.execute(query)).scalar_one_or_none()
        return None if body is None else orjson.loads(body)

    async def all(self, kind: str) -> dict[str, Any]:
        """Return the bodies of a kind by id, in the order of ids."""
        query = select(table.c.id, table.c.body).where(table.c.kind == kind)
        rows = await self._connection.execute(query.order_by(table.c.id))
        return {id_: orjson.loads(body) for id_, body in rows}

    async def forget(self, kind: str, before: datetime) -> int:
        """Delete the documents of a kind that were not written since; return how many."""
        done = await self._connection.execute(
            delete(table).where(table.c.kind == kind, table.c.updated_at < before)
        )
        return int(done.rowcount)

    async def remove(self, kind: str, id_: str) -> bool:
        """Delete a document; return whether it was there."""
        done = await self._connection.execute(
            delete(table).where(table.c.kind == kind, table.c.id == id_)
        )
        return bool(done.rowcount)
