"""The drivers alone: the same bars, tables and transactions, without SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiosqlite
import asyncmy
from sqlalchemy import URL

Row = tuple[Any, ...]

_COLUMNS = "symbol, `interval`, opened_at, open, high, low, close, volume, source, revision"
_VALUES = ("open", "high", "low", "close", "volume", "source")
_YEAR = (
    "SELECT opened_at, open, high, low, close, volume FROM bars WHERE symbol = {0} AND"
    " `interval` = {0} AND opened_at >= {0} AND opened_at < {0} ORDER BY opened_at"
)


class BareSqlite:
    """aiosqlite on the store's file, with the store's pragmas."""

    name = "aiosqlite"

    async def open(self, url: URL) -> None:
        """Connect."""
        self._connection = await aiosqlite.connect(str(url.database), isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            await self._connection.execute(f"PRAGMA {pragma}")
        marks = ", ".join("?" * 10)
        sets = ", ".join(f"{name} = excluded.{name}" for name in _VALUES)
        self._upsert = (
            f"INSERT INTO bars ({_COLUMNS}) VALUES ({marks})"
            f" ON CONFLICT (symbol, `interval`, opened_at) DO UPDATE SET {sets}"
        )

    async def write(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction."""
        await self._connection.execute("BEGIN IMMEDIATE")
        await self._connection.executemany(self._upsert, rows)
        await self._connection.execute("COMMIT")

    async def year(self, *arguments: Any) -> list[Row]:
        """Return a span of a symbol's rows."""
        async with self._connection.execute(_YEAR.format("?"), arguments) as cursor:
            return [tuple(row) for row in await cursor.fetchall()]

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()


class BareMysql:
    """asyncmy on the store's schema."""

    name = "asyncmy"

    async def open(self, url: URL) -> None:
        """Connect."""
        self._connection = await asyncmy.connect(
            host=url.host, port=url.port or 3306, user=url.username, db=url.database
        )
        marks = ", ".join(["%s"] * 10)
        sets = ", ".join(f"{name} = VALUES({name})" for name in _VALUES)
        self._upsert = (
            f"INSERT INTO bars ({_COLUMNS}) VALUES ({marks}) ON DUPLICATE KEY UPDATE {sets}"
        )

    async def write(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction."""
        async with self._connection.cursor() as cursor:
            await cursor.executemany(self._upsert, rows)
        await self._connection.commit()

    async def year(self, *arguments: Any) -> list[Row]:
        """Return a span of a symbol's rows."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(_YEAR.format("%s"), arguments)
            found: list[Row] = list(await cursor.fetchall())
        await self._connection.commit()
        return found

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.ensure_closed()
