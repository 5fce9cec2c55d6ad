"""All that a store holds into another one, whichever databases they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, delete, func, select, tuple_
from sqlalchemy.dialects import mysql, sqlite

from infra.db.store import BULK, Store
from infra.db.tables import metadata
from infra.db.unit import Unit
from infra.errors import StoreRefused

CHUNK_ROWS = 1_000

Progress = Callable[[str, int], None]  # gets a table's name and the rows committed so far


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows of one table, before in the store copied from and now in the one copied to."""

    table: str
    rows: int


def tables() -> Iterator[Table]:
    """Yield the tables in an order in which they can be filled."""
    yield from metadata.sorted_tables


async def count_rows(store: Store) -> dict[str, int]:
    """Return the number of rows by table."""

    async def count(unit: Unit) -> dict[str, int]:
        found = {}
        for table in tables():
            rows = await unit.connection.execute(select(func.count()).select_from(table))
            found[table.name] = rows.scalar_one()
        return found

    return await store.read(count, BULK)


async def empty(store: Store) -> None:
    """Delete everything, in one transaction."""

    async def clear(unit: Unit) -> None:
        for table in reversed(list(tables())):
            await unit.connection.execute(delete(table))

    await store.write(clear, limit=BULK)


async def copy(source: Store, target: Store, progress: Progress) -> list[Copied]:
    """Copy all rows in chunks of 1,000, a transaction each; the same call again is safe.

    A row that is there with the same key is replaced. What is written to `source` meanwhile may be
    left out, nothing is taken twice. Raises StoreError; chunks before a failure stay.
    """
    copied = []
    for table in tables():
        count = 0
        async for rows in _pages(source, table):
            await _put(target, table, rows)
            count += len(rows)
            progress(table.name, count)
        copied.append(Copied(table.name, count))
    return copied


async def _pages(source: Store, table: Table) -> Any:
    key = list(table.primary_key.columns)
    last: tuple[Any, ...] | None = None
    while True:
        query = select(table).order_by(*key).limit(CHUNK_ROWS)
        if last is not None:
            query = query.where(tuple_(*key) > tuple_(*last))

        async def read(unit: Unit, query: Any = query) -> list[dict[str, Any]]:
            return [dict(row) for row in (await unit.connection.execute(query)).mappings()]

        rows = await source.read(read, BULK)
        if not rows:
            return
        yield rows
        last = tuple(rows[-1][column.name] for column in key)


async def _put(target: Store, table: Table, rows: list[dict[str, Any]]) -> None:
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key.columns]

    async def write(unit: Unit) -> None:
        if target.dialect == "sqlite":
            into = sqlite.insert(table)
            values = {name: into.excluded[name] for name in names if name not in key}
            statement: Any = into.on_conflict_do_update(index_elements=key, set_=values)
        else:
            onto = mysql.insert(table)
            statement = onto.on_duplicate_key_update(
                {name: onto.inserted[name] for name in names if name not in key}
            )
        await unit.connection.execute(statement, rows)

    try:
        await target.write(write, limit=BULK)
    except StoreRefused as error:
        raise StoreRefused(f"a row of {table.name} does not fit: {error.message}") from error
