"""Which indexes there are, and which ones slow queries would have used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, inspect, select

from infra.db.slow_queries import SlowQueryLog
from infra.db.tables import metadata
from infra.db.unit import Unit

_WHERE = re.compile(r"\bWHERE\b(.*?)(?:\bORDER BY\b|\bGROUP BY\b|\bLIMIT\b|$)", re.DOTALL)
_COLUMN = re.compile(r"[`\"]?(\w+)[`\"]?\s*(?:=|>=|<=|>|<|IN\b|BETWEEN\b)")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index of a table; `PRIMARY` is the key."""

    name: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table, its rows and indexes."""

    table: str
    rows: int
    indexes: tuple[IndexInfo, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """An index that a slow query would have used."""

    table: str
    columns: tuple[str, ...]
    reason: str
    query_hash: str

    @property
    def sql(self) -> str:
        """Return the statement that makes it."""
        name = f"ix_{self.table}_{'_'.join(self.columns)}"[:60]
        return f"CREATE INDEX {name} ON {self.table} ({', '.join(self.columns)})"


async def table_infos(unit: Unit) -> list[TableInfo]:
    """Return all our tables as the database has them."""
    indexes = await unit.connection.run_sync(_indexes)
    found = []
    for name, table in sorted(metadata.tables.items()):
        count = await unit.connection.execute(select(func.count()).select_from(table))
        found.append(TableInfo(name, count.scalar_one(), tuple(indexes[name])))
    return found


def _indexes(connection: Connection) -> dict[str, list[IndexInfo]]:
    inspector = inspect(connection)
    found = {}
    for name in metadata.tables:
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        rows: list[Any] = [IndexInfo("PRIMARY", tuple(key), True)]
        seen = set()
        for index in inspector.get_indexes(name):
            columns = tuple(c for c in index["column_names"] if c is not None)
            rows.append(IndexInfo(str(index["name"]), columns, bool(index["unique"])))
            seen.add(index["name"])
        for constraint in inspector.get_unique_constraints(name):
            if constraint["name"] not in seen:
                columns = tuple(constraint["column_names"])
                rows.append(IndexInfo(str(constraint["name"]), columns, True))
        found[name] = rows
    return found


def advice(slow: Sequence[SlowQueryLog], tables: Sequence[TableInfo]) -> list[Advice]:
    """Return an index for each kind of slow query whose conditions no index begins with."""
    by_name = {table.table: table for table in tables}
    found: dict[tuple[str, tuple[str, ...]], Advice] = {}
    for log in slow:
        table = by_name.get(log.table_names.split(",")[0])
        if table is None:
            continue
        columns = conditions(log.query_template, table.table)
        if not columns or any(index.columns[0] in columns for index in table.indexes):
            continue
        reason = f"took {log.duration:.2f} s; no index begins with {' or '.join(columns)}"
        key = table.table, columns
        found.setdefault(key, Advice(table.table, columns, reason, log.query_hash))
    return list(found.values())


def conditions(template: str, table: str) -> tuple[str, ...]:
    """Return the columns of a table that a query's condition names, in order."""
    match = _WHERE.search(template)
    if match is None:
        return ()
    known = {column.name for column in metadata.tables[table].columns}
    names = [name.lower() for name in _COLUMN.findall(match.group(1))]
    return tuple(dict.fromkeys(name for name in names if name in known))
