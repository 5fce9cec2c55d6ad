"""Which version the tables of a database have, and which this Finstage needs.

Apart from the migrations, as every process looks and only one migrates.
"""

from __future__ import annotations

import functools
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

HEAD = "head"
BASE = "base"

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"


@functools.cache
def head_version() -> str:
    """Return the version that this Finstage needs: that of its last migration, v0001_name.py."""
    return max(file.name[1:5] for file in (MIGRATIONS / "versions").glob("v[0-9]*.py"))


async def current_version(engine: AsyncEngine) -> str | None:
    """Return the version of a database, None for one without tables of ours."""
    async with engine.connect() as connection:
        return await connection.run_sync(version_of)


def version_of(connection: Connection) -> str | None:
    """Return the same by a connection that is there."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(
        text(f"SELECT version_num FROM {VERSION_TABLE}")
    ).scalar()
    return found
