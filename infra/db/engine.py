"""Engines: how each database is opened, and how many connections a process may have."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import dataclass
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from infra.settings import Settings

CONNECT_TIMEOUT_S = 5.0
LOCK_WAIT_S = 4  # of MySQL, whole seconds: its own word comes before who asked gives up
BUSY_TIMEOUT_S = 1.0  # of SQLite, whose threads cannot be called back while they wait
WRITES = "finstage_writes"  # execution option of a transaction that writes

_SQLITE_CONNECTIONS = 4  # each is a thread; more readers than cores only take turns


class FewerHops(SQLiteDialect_aiosqlite):
    """aiosqlite, whose every call is a hop to a thread and back: none to end what never began."""

    supports_statement_cache = True

    def do_commit(self, dbapi_connection: Any) -> None:
        """Commit, if a transaction began."""
        if dbapi_connection.driver_connection.in_transaction:
            dbapi_connection.commit()

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Undo, if a transaction began."""
        if dbapi_connection.driver_connection.in_transaction:
            dbapi_connection.rollback()


registry.register("sqlite.finstage", __name__, FewerHops.__name__)


@dataclass(frozen=True, slots=True)
class PoolShare:
    """The connections that one process may have: `size` kept, `overflow` more when needed."""

    size: int = 5
    overflow: int = 5
    timeout_s: float = 60.0
    recycle_s: int = 1_800

    @property
    def most(self) -> int:
        """Return how many there are at most."""
        return self.size + self.overflow


def pool_share(settings: Settings) -> PoolShare:
    """Return the share of one process of the service's whole budget of connections."""
    processes = store_processes(settings)
    return PoolShare(
        max(1, settings.store_pool_size // processes),
        max(1, settings.store_pool_overflow // processes),
        settings.store_pool_timeout_s,
        settings.store_pool_recycle_s,
    )


def store_processes(settings: Settings) -> int:
    """Return how many processes may use the store at once: actors, replicas, jobs, tasks."""
    return 4 + settings.api_replicas + settings.ray_cpus + settings.task_workers


def make_engine(url: URL, share: PoolShare, synchronous: str = "NORMAL") -> AsyncEngine:
    """Return an engine for one process and one event loop; nothing is opened yet."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, share, synchronous)
    logging.getLogger("asyncmy").setLevel(logging.ERROR)  # it logs each of the server's notes
    return create_async_engine(
        url,
        pool_size=share.size,
        max_overflow=share.overflow,
        pool_timeout=share.timeout_s,
        pool_recycle=share.recycle_s,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "init_command": "SET time_zone = '+00:00', "
            f"innodb_lock_wait_timeout = {LOCK_WAIT_S}, lock_wait_timeout = {LOCK_WAIT_S}",
        },
    )


def most_connections(url: URL, share: PoolShare) -> int:
    """Return how many connections an engine made so opens at most."""
    if url.get_backend_name() == "sqlite":
        return min(share.size, _SQLITE_CONNECTIONS) + min(share.overflow, _SQLITE_CONNECTIONS)
    return share.most


async def _opened(*file: Any, **options: Any) -> aiosqlite.Connection:
    """Open a file; where that fails, its thread ends before the loop can, which it still calls."""
    connection = aiosqlite.connect(*file, **options)
    connection._thread.daemon = True  # as SQLAlchemy does
    try:
        return await connection
    except sqlite3.Error:
        await asyncio.to_thread(connection._thread.join)
        raise


def _sqlite(url: URL, share: PoolShare, synchronous: str) -> AsyncEngine:
    engine = create_async_engine(
        url.set(drivername="sqlite+finstage"),
        pool_size=min(share.size, _SQLITE_CONNECTIONS),
        max_overflow=min(share.overflow, _SQLITE_CONNECTIONS),
        pool_timeout=share.timeout_s,
        connect_args={"timeout": BUSY_TIMEOUT_S, "async_creator_fn": _opened},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not by the driver's guess
        cursor = connection.cursor()
        for name, value in (
            ("busy_timeout", int(BUSY_TIMEOUT_S * 1_000)),
            ("journal_mode", "WAL"),
            ("synchronous", synchronous),
            ("foreign_keys", "ON"),
        ):
            cursor.execute(f"PRAGMA {name} = {value}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # At once for writing: a reader that turns writer fails where another wrote meanwhile.
        # Reading needs none, each statement sees what was committed, as MySQL is set to.
        if connection.get_execution_options().get(WRITES, False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
