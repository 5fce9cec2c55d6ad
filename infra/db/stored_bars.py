"""Bars of all symbols and intervals, as traded, each with the source that it is from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.bars import IMPORT, Bars
from infra.db.tables import bars as table
from infra.db.upsert import New, upsert

_NS = 10**9
_DIALECTS: dict[str, Dialect] = {
    "mysql": MySQLDialect_asyncmy(),
    "sqlite": SQLiteDialect_aiosqlite(),
}
_ONE = literal_column("1", Integer)
_KEYS = ("symbol", "interval", "opened_at")
_VALUES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is held of a symbol at an interval from one source; openings are Unix seconds."""

    interval: str
    source: str
    first_at_s: int
    last_at_s: int
    count: int
    revised: int
    last_revision: int


class StoredBars:
    """The table of bars, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def any(self) -> bool:
        """Return whether there is a bar at all."""
        return (
            await self._connection.execute(select(table.c.symbol).limit(1))
        ).first() is not None

    async def upsert(self, symbol: str, interval: str, source: str, bars: Bars) -> None:
        """Write bars by one statement; a bar whose values change gets its next revision.

        A bar of a source is never replaced by an import, an import by any source.
        """
        if len(bars) == 0:
            return
        sql = _upsert_sql(self._connection.dialect.name, source == IMPORT)
        await self._connection.exec_driver_sql(sql, rows_of(symbol, interval, source, bars))

    async def read(
        self,
        symbol: str,
        interval: str,
        start_ns: int | None = None,
        end_ns: int | None = None,
        source: str | None = None,
    ) -> Bars:
        """Return bars that open from `start_ns` (included) to `end_ns` (not), oldest first.

        Of many bars `infra.db.bulk.read_bars` is the way.
        """
        return as_bars(await self._rows(symbol, interval, start_ns, end_ns, source))

    async def page(
        self, symbol: str, interval: str, source: str | None, start_ns: int | None, most: int
    ) -> Sequence[Sequence[Any]]:
        """Return the first `most` bars from an opening on, oldest first, for `as_bars`."""
        return await self._rows(symbol, interval, start_ns, None, source, most)

    async def _rows(
        self,
        symbol: str,
        interval: str,
        start_ns: int | None,
        end_ns: int | None,
        source: str | None,
        most: int | None = None,
    ) -> Sequence[Sequence[Any]]:
        dialect = self._connection.dialect.name
        given: list[Any] = [symbol, interval]
        for edge_ns in (start_ns, end_ns):
            given += [] if edge_ns is None else [-(-edge_ns // _NS)]
        given += [] if source is None else [source]
        has = (start_ns is not None, end_ns is not None, source is not None)
        sql = _read_sql(dialect, *has) + ("" if most is None else f" LIMIT {most}")
        result = await self._connection.exec_driver_sql(sql, tuple(given))
        return result.all()

    async def held(self, symbol: str, interval: str, bars: Bars) -> dict[int, tuple[Any, ...]]:
        """Return what is there within the span of `bars`: by opening (s) source and OHLCV."""
        if len(bars) == 0:
            return {}
        seconds = bars.opened_at_ns // _NS
        columns = (table.c.opened_at, table.c.source, *(table.c[name] for name in _VALUES))
        span = table.c.opened_at.between(int(seconds[0]), int(seconds[-1]))
        query = select(*columns).where(_of(symbol, interval), span)
        return {row[0]: tuple(row[1:]) for row in await self._connection.execute(query)}

    async def delete(self, symbol: str, interval: str, source: str, most: int) -> int:
        """Delete the oldest `most` bars of a source; return how many there were."""
        chosen = and_(_of(symbol, interval), table.c.source == source)
        oldest = select(table.c.opened_at).where(chosen).order_by(table.c.opened_at).limit(most)
        seconds = list((await self._connection.execute(oldest)).scalars())
        if seconds:
            upto = table.c.opened_at <= seconds[-1]
            await self._connection.execute(delete(table).where(chosen, upto))
        return len(seconds)

    async def last_opened_ns(self, symbol: str, interval: str, source: str) -> int | None:
        """Return when the newest bar of a source opened, None if there is none."""
        query = select(func.max(table.c.opened_at)).where(_of(symbol, interval))
        seconds = (await self._connection.execute(query.where(table.c.source == source))).scalar()
        return None if seconds is None else int(seconds) * _NS

    async def openings_s(self, symbol: str, interval: str) -> list[int]:
        """Return when all bars opened, Unix seconds, oldest first."""
        query = select(table.c.opened_at).where(_of(symbol, interval))
        return list((await self._connection.execute(query.order_by(table.c.opened_at))).scalars())

    async def coverage(self, symbol: str) -> list[Coverage]:
        """Return what is held, by interval and source."""
        opened_at, revision = table.c.opened_at, table.c.revision
        revised = func.sum(case((revision > 0, 1), else_=0))
        query = (
            select(
                table.c.interval,
                table.c.source,
                func.min(opened_at),
                func.max(opened_at),
                func.count(),
                revised,
                func.max(revision),
            )
            .where(table.c.symbol == symbol)
            .group_by(table.c.interval, table.c.source)
            .order_by(table.c.interval, table.c.source)
        )
        rows = await self._connection.execute(query)
        return [Coverage(row[0], row[1], *(int(value) for value in row[2:])) for row in rows]


def as_bars(rows: Sequence[Sequence[Any]]) -> Bars:
    """Return rows that were read as columns."""
    if not rows:
        return Bars.empty()
    opened_at, open_, high, low, close, volume = zip(*rows, strict=True)
    return Bars(
        np.array(opened_at, np.int64) * _NS,
        np.array(open_, np.float64),
        np.array(high, np.float64),
        np.array(low, np.float64),
        np.array(close, np.float64),
        np.array(volume, np.int64),
    )


def rows_of(symbol: str, interval: str, source: str, bars: Bars) -> list[tuple[Any, ...]]:
    """Return bars as rows of the table in the order of its columns, at their first revision."""
    columns = ((bars.opened_at_ns // _NS).tolist(), *(getattr(bars, n).tolist() for n in _VALUES))
    return list(zip(repeat(symbol), repeat(interval), *columns, repeat(source), repeat(0)))


@functools.cache
def _upsert_sql(dialect: str, is_import: bool) -> str:
    """Return the text of the upsert; given as text, its rows go to the driver as they are."""
    statement = upsert(dialect, table, _KEYS, _by_import if is_import else _by_source)
    compiled = statement.compile(dialect=_DIALECTS[dialect])
    assert compiled.positiontup == [column.name for column in table.columns]
    return str(compiled)


@functools.cache
def _read_sql(dialect: str, has_start: bool, has_end: bool, has_source: bool) -> str:
    """Return the text that reads bars; making it anew costs as much as reading a year."""
    columns = (table.c.opened_at, *(table.c[name] for name in _VALUES))
    query = select(*columns).where(_of("?", "?")).order_by(table.c.opened_at)
    if has_start:
        query = query.where(table.c.opened_at >= bindparam("start"))
    if has_end:
        query = query.where(table.c.opened_at < bindparam("end"))
    if has_source:
        query = query.where(table.c.source == bindparam("source_name"))
    return str(query.compile(dialect=_DIALECTS[dialect]))


def _of(symbol: str, interval: str) -> ColumnElement[bool]:
    return and_(table.c.symbol == symbol, table.c.interval == interval)


def _by_source(new: New) -> dict[str, Any]:
    # The revision first: MySQL compares with what was set before it.
    revision = case((_differs(new), table.c.revision + _ONE), else_=table.c.revision)
    return {"revision": revision} | {name: new(name) for name in (*_VALUES, "source")}


def _by_import(new: New) -> dict[str, Any]:
    is_import = table.c.source == literal_column(f"'{IMPORT}'")
    differs = and_(is_import, _differs(new))
    changes: dict[str, Any] = {
        "revision": case((differs, table.c.revision + _ONE), else_=table.c.revision)
    }
    return changes | {name: case((is_import, new(name)), else_=table.c[name]) for name in _VALUES}


def _differs(new: New) -> ColumnElement[bool]:
    return or_(*(table.c[name] != new(name) for name in _VALUES))


def chunks(bars: Bars, rows: int) -> Sequence[tuple[int, Bars]]:
    """Return bars in parts of at most `rows`, each with the number of its first row."""
    return [(first, bars[first : first + rows]) for first in range(0, len(bars), rows)]
