"""Bring a database's tables to this version, or back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from weakref import WeakKeyDictionary

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.db.engine import WRITES
from infra.errors import StoreError, StoreVersion

HEAD = "head"
BASE = "base"

_HERE = Path(__file__).parent / "migrations"
_LOCK = "finstage-migration"
_LOCK_WITHIN_S = 60
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def migrate(engine: AsyncEngine, to: str = HEAD) -> tuple[str | None, str | None]:
    """Migrate up or down to a version; return the versions before and after.

    One process at a time does it, others wait for their turn and find it done. Raises
    StoreVersion for a database of a later Finstage; what MySQL did before a failure stays, as it
    has no transactions for tables, so every migration is safe to run again.
    """
    # Alembic's context is one for the whole process: two at once would mix their statements.
    turn = _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with turn, engine.execution_options(**{WRITES: True}).connect() as connection:
        return await connection.run_sync(_migrate, to)


def head_version() -> str:
    """Return the version that this Finstage needs."""
    found = ScriptDirectory(str(_HERE)).get_current_head()
    assert found is not None
    return found


async def current_version(engine: AsyncEngine) -> str | None:
    """Return the version of a database, None for one without tables of ours."""
    async with engine.connect() as connection:
        return await connection.run_sync(_version)


def _migrate(connection: Connection, to: str) -> tuple[str | None, str | None]:
    is_mysql = connection.dialect.name == "mysql"
    if is_mysql:
        _take_lock(connection)
    try:
        before = _version(connection)
        _refuse_later(before)
        config = Config()
        config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
        config.attributes["connection"] = connection
        target_is_older = to == BASE
        (command.downgrade if target_is_older else command.upgrade)(config, to)
        after = _version(connection)
        connection.commit()
        return before, after
    finally:
        if is_mysql and not connection.invalidated:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK})


def _take_lock(connection: Connection) -> None:
    got = connection.execute(
        text("SELECT GET_LOCK(:name, :within)"), {"name": _LOCK, "within": _LOCK_WITHIN_S}
    ).scalar()
    if got != 1:
        raise StoreError(f"another process migrates the store since {_LOCK_WITHIN_S} s")


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_later(version: str | None) -> None:
    known = {script.revision for script in ScriptDirectory(str(_HERE)).walk_revisions()}
    if version is not None and version not in known:
        raise StoreVersion(version, head_version())
