"""News, each link of a source once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import contents as table
from infra.db.upsert import insert_new


@dataclass(frozen=True, slots=True)
class Content:
    """One article; `language` is ISO 639-1, `sentiment` -1 to 1, None unless English."""

    symbol: str
    source: str
    url: str
    title: str
    summary: str | None
    publisher: str | None
    language: str | None
    sentiment: float | None
    published_at: datetime
    crawled_at: datetime


class Contents:
    """The table of news, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, contents: Sequence[Content]) -> int:
        """Keep articles whose link is not there yet; return how many those are."""
        if not contents:
            return 0
        before = await self._count()
        statement = insert_new(self._connection.dialect.name, table, ("source", "link_hash"))
        rows = [asdict(c) | {"link_hash": _hash(c.url)} for c in contents]
        await self._connection.execute(statement, rows)
        return await self._count() - before

    async def known(self, source: str, urls: Sequence[str]) -> set[str]:
        """Return those of the links that are there."""
        hashes = {_hash(url): url for url in urls}
        query = select(table.c.link_hash).where(
            table.c.source == source, table.c.link_hash.in_(hashes)
        )
        return {hashes[found] for found in (await self._connection.execute(query)).scalars()}

    async def latest(self, symbol: str | None, limit: int) -> list[Content]:
        """Return the newest articles, of one symbol or of all."""
        columns = [table.c[name] for name in Content.__slots__]
        query = select(*columns).order_by(table.c.published_at.desc(), table.c.id.desc())
        if symbol is not None:
            query = query.where(table.c.symbol == symbol)
        rows = await self._connection.execute(query.limit(limit))
        return [Content(*row) for row in rows]

    async def _count(self) -> int:
        return (
            await self._connection.execute(select(func.count()).select_from(table))
        ).scalar_one()


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
