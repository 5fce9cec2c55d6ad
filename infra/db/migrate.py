"""Bring a database's tables to this version, an older store after a backup; or back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    Table,
    column,
    create_engine,
    inspect,
    select,
    table,
    text,
    tuple_,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.db.backups import Backups, copy_file
from infra.db.engine import WRITES
from infra.db.tables import metadata
from infra.db.version import BASE, HEAD, MIGRATIONS, VERSION_TABLE, head_version, version_of
from infra.errors import StoreError, StoreVersion
from infra.files import take_place

_LOCK = "finstage-migration"
_LOCK_WITHIN_S = 60
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
_KEPT = 3
_CHUNK_ROWS = 1_000


class BackupFailed(StoreError):
    """Raised when an older store could not be kept: it is not migrated then."""


async def migrate(
    engine: AsyncEngine, to: str = HEAD, backups: Backups | None = None
) -> tuple[str | None, str | None]:
    """Migrate up or down to a version; return the versions before and after.

    With `backups`, a store that has a version older than this Finstage's is kept there first.
    One process at a time does it, others wait for their turn and find it done. Raises
    StoreVersion for a database of a later Finstage, BackupFailed with nothing changed; what MySQL
    did before a failure stays, as it has no transactions for tables, so every migration is safe
    to run again.
    """
    # Alembic's context is one for the whole process: two at once would mix their statements.
    turn = _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with turn, engine.execution_options(**{WRITES: True}).connect() as connection:
        return await connection.run_sync(_migrate, to, backups)


def _migrate(
    connection: Connection, to: str, backups: Backups | None
) -> tuple[str | None, str | None]:
    is_mysql = connection.dialect.name == "mysql"
    if is_mysql:
        _take_lock(connection)
    try:
        before = version_of(connection)
        _refuse_later(before)
        if backups and to == HEAD and before not in (None, head_version()):
            assert before is not None
            _keep(connection, before, backups)
        _run_alembic(connection, to)
        after = version_of(connection)
        connection.commit()
        return before, after
    finally:
        if is_mysql and not connection.invalidated:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK})


def _run_alembic(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    target_is_older = to == BASE
    (command.downgrade if target_is_older else command.upgrade)(config, to)


def _take_lock(connection: Connection) -> None:
    got = connection.execute(
        text("SELECT GET_LOCK(:name, :within)"), {"name": _LOCK, "within": _LOCK_WITHIN_S}
    ).scalar()
    if got != 1:
        raise StoreError(f"another process migrates the store since {_LOCK_WITHIN_S} s")


def _refuse_later(version: str | None) -> None:
    known = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if version is not None and version not in known:
        raise StoreVersion(version, head_version())


# -- the backup before ---------------------------------------------------------------------------


def _keep(connection: Connection, version: str, backups: Backups) -> None:
    """Make the backup, whole or not at all; those beyond the newest three go."""
    target = backups.path(version)
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in target.parent.glob(".store-*.partial*"):  # of a process that was killed
            left.unlink()
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if connection.dialect.name == "sqlite":
            copy_file(Path(str(connection.engine.url.database)), partial)
        else:
            _copy_rows(connection, version, partial)
        take_place(partial, target)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        reason = getattr(error, "orig", None) or error
        raise BackupFailed(
            f"the store has version {version} and stays so, for no backup of it could be made in "
            f"{backups.folder}: {reason}"
        ) from error
    finally:
        for left in target.parent.glob(partial.name + "*"):
            left.unlink()
    for old in sorted(target.parent.glob("store-*-*.db"), key=_made_at)[:-_KEPT]:
        old.unlink()


def _made_at(backup: Path) -> str:
    return backup.stem.rpartition("-")[2]


def _copy_rows(source: Connection, version: str, file: Path) -> None:
    """Copy the tables of a version, and no others, into a file of that version."""
    engine = create_engine(URL.create("sqlite", database=str(file)))
    try:
        _make_tables(engine, version)
        old = MetaData()
        old.reflect(engine)
        with engine.begin() as target:
            for made in old.sorted_tables:
                if made.name != VERSION_TABLE:  # of which its own migrations took care
                    _copy_table(source, target, made)
    finally:
        engine.dispose()


def _make_tables(engine: Engine, version: str) -> None:
    with engine.begin() as connection:
        _run_alembic(connection, version)


def _copy_table(source: Connection, target: Connection, made: Table) -> None:
    there = {found["name"] for found in inspect(source).get_columns(made.name)}
    names = [name for name in made.columns.keys() if name in there]
    known = metadata.tables.get(made.name)
    # Types of today where the column is known: they read and write times alike everywhere.
    typed = table(made.name, *(column(name, _type(made, known, name)) for name in names))
    for rows in _pages(source, typed, [part.name for part in made.primary_key]):
        target.execute(typed.insert(), rows)


def _type(made: Table, known: Table | None, name: str) -> Any:
    return (made if known is None or name not in known.columns else known).columns[name].type


def _pages(source: Connection, typed: Any, key: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    columns = [typed.c[name] for name in key]
    query = select(typed).order_by(*columns).limit(_CHUNK_ROWS)
    after = query
    while rows := [dict(row) for row in source.execute(after).mappings()]:
        yield rows
        last = tuple(rows[-1][name] for name in key)
        after = query.where(tuple_(*columns) > tuple_(*last))
