"""Databases of a test's own: a file, and a schema on a real MariaDB."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.db.url import store_url
from tests.conftest import needed

KINDS = ("sqlite", "mysql")
MYSQL_URL = os.environ.get("TEST_MYSQL_URL") or "mysql+asyncmy://root@127.0.0.1:3306/test"


@asynccontextmanager
async def database(kind: str, folder: Path) -> AsyncIterator[URL]:
    """Give an empty database; a schema on the server is gone afterwards."""
    if kind == "sqlite":
        yield store_url("", folder)
        return
    name = f"finstage_test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    needed(f"a MySQL server at {make_url(MYSQL_URL).host}", await _on_server("SELECT 1"))
    assert await _on_server(f"CREATE DATABASE {name}")
    try:
        yield make_url(MYSQL_URL).set(database=name)
    finally:
        await _on_server(f"DROP DATABASE {name}")


async def _on_server(statement: str) -> bool:
    engine = create_async_engine(MYSQL_URL)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
        return True
    except OSError:
        return False
    except Exception as error:
        if "2003" in str(error):
            return False
        raise
    finally:
        await engine.dispose()
