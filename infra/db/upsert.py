"""Insert or update, in the words of each database, with a list of rows as `executemany`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.sql.dml import Insert

New = Callable[[str], ColumnElement[Any]]  # the value that a row would have had
Changes = Callable[[New], Mapping[str, Any]]


def upsert(dialect: str, table: Table, keys: Sequence[str], changes: Changes) -> Insert:
    """Return an insert that changes the row which has the same `keys` instead.

    `changes` gives the new values by column in the order in which they are set: MySQL sees in
    each the ones set before it, so what compares with old values must come first. They hold no
    bound parameters: asyncmy would take them for more values of each row.
    """
    if dialect == "sqlite":
        insert = sqlite.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(keys), set_=changes(lambda name: insert.excluded[name])
        )
    into = mysql.insert(table)
    return into.on_duplicate_key_update(list(changes(lambda name: into.inserted[name]).items()))


def insert_new(dialect: str, table: Table, keys: Sequence[str]) -> Insert:
    """Return an insert that leaves a row which has the same `keys` as it is."""
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing(index_elements=list(keys))
    # Not INSERT IGNORE, which would also hide what does not fit a column.
    return mysql.insert(table).on_duplicate_key_update([(keys[0], table.c[keys[0]])])
