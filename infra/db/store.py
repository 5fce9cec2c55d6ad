"""The store of one process: units of work, tried again where that is safe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import URL, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.clock import Clock, SystemClock, utc
from infra.db.backups import Backups
from infra.db.engine import WRITES, PoolShare, make_engine, most_connections, pool_share
from infra.db.faults import is_of_database, store_error
from infra.db.slow_queries import slow_query_log
from infra.db.tables import metadata
from infra.db.unit import Unit
from infra.db.url import store_url
from infra.db.version import HEAD, current_version, head_version
from infra.db.watch import QueryWatch, StoreReport
from infra.errors import (
    StoreBusy,
    StoreError,
    StoreExhausted,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    StoreUnsure,
    StoreVersion,
)
from infra.metrics import DB_CONNECTIONS
from infra.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Unit], Awaitable[T]]

_TABLES = metadata.sorted_tables
_PROBE = "store_probe"  # a document

_TRIES = 5
_TRIES_AWAY = 2  # each may wait as long as a connection may take
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_LEAST_TRY_S = 0.6  # less time than that is not worth another try
_AWAY_S = 1.0  # a database that did not answer is not asked again for so long
_COMMIT_S = 0.3  # beyond a limit, for the end of a commit: whoever asks an actor still hears it
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a caller waits for the store: for the answer, and of that for others' locks."""

    answer_s: float
    locks_s: float


QUESTION = Limit(4.5, 4.5)  # below the 5 s for which whoever asks an actor waits
BATCH = Limit(60.0, 4.5)  # work of many rows for which somebody waits
BULK = Limit(60.0, 60.0)  # a part of an import, a copy or a clean-up: nobody waits
PING = Limit(3.0, 3.0)


class Store:
    """A database, for one process and one event loop.

    `read` and `write` run their work in one transaction: committed when it returns, undone when
    it raises. Work that met a deadlock, a lock or a broken connection runs again, so it may do
    nothing but use the unit. A commit whose answer was lost may have happened: such work runs
    again too, since all that we write may be written twice.

    No caller waits longer than its limit, QUESTION where none is given, and a moment more for a
    commit under way: StoreBusy where the database works on it or waits for a lock,
    StoreUnavailable where it cannot be reached, and StoreUnsure where a commit has not answered,
    so that all of it is done or nothing.

    Raises StoreUnavailable at once for a second after the database did not answer, so that
    callers with something else to give do not wait. `tables_needed` makes the first use check
    that the tables are there, StoreUnavailable until somebody called `migrate`.
    """

    def __init__(
        self,
        url: URL,
        share: PoolShare | None = None,
        clock: Clock | None = None,
        *,
        synchronous: str = "NORMAL",
        slow_query_s: float = 1.0,
        tables_needed: bool = True,
        backups: Backups | None = None,
    ) -> None:
        share = share or PoolShare()
        self.url = url
        self._clock = clock or SystemClock()
        self._engine = make_engine(url, share, synchronous)
        self._writing = self._engine.execution_options(**{WRITES: True})
        self.watch = QueryWatch(self._clock, slow_query_s)
        self.watch.attach(self._engine, share.size, share.most)
        self._most = most_connections(url, share)
        self._is_current = not tables_needed
        self._backups = backups
        self._left: set[asyncio.Task[Any]] = set()  # that nobody waits for any more
        self._away_until_s = 0.0
        self._away: StoreUnavailable | None = None

    @property
    def dialect(self) -> str:
        """Return `sqlite` or `mysql`."""
        return self._engine.dialect.name

    @property
    def in_use(self) -> int:
        """Return how many connections are in use now."""
        return self.watch.pool.checked_out

    def report(self, process: str) -> StoreReport:
        """Return what queries and connections cost so far."""
        return self.watch.report(process)

    async def read(self, work: Work[T], limit: Limit = QUESTION) -> T:
        """Return what `work` returns; raises StoreError."""
        return await self._limited(self._engine, work, limit)

    async def write(self, work: Work[T], limit: Limit = QUESTION) -> T:
        """Return what `work` returns, once all it did is committed.

        Raises StoreError, and then nothing of it is done, but StoreUnsure where that is not known.
        """
        return await self._limited(self._writing, work, limit)

    async def migrate(self, to: str = HEAD) -> tuple[str | None, str | None]:
        """Bring the tables to a version; return the versions before and after.

        An older store is kept first, where this one was given `backups`.
        Raises StoreVersion for the database of a later Finstage, else StoreError.
        """
        # Here, as its quarter of a second and 8 MB are for the one process that migrates.
        from infra.db.migrate import migrate

        for attempt in range(1, _TRIES + 1):
            try:
                before, after = await migrate(self._engine, to, self._backups)
                break
            except Exception as error:
                told = _told(error)
                # SQLite waits for no lock while it turns a new file into one of its WAL kind.
                if attempt == _TRIES or not isinstance(told, StoreBusy):
                    raise told from error
            await self._clock.sleep(_FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))
        if before != after:
            logger.info("store.migrated", extra={"before": before, "after": after})
        self._away = None
        return before, after

    async def ping(self) -> None:
        """Return if the database answers for each of our tables; raises StoreError."""
        await self.read(_a_row_of_each, PING)

    async def probe(self) -> None:
        """Return if the database takes a row; raises StoreError, as StoreFull."""
        now = utc(self._clock.time_s())
        await self.write(lambda unit: unit.documents.put(_PROBE, "", {}, now), limit=PING)

    async def keep_slow_queries(self, process: str) -> None:
        """Write the slow queries seen since the last time; kept for the next if that fails.

        The gauges of this process's connections are set too.
        """
        pool = self.watch.pool
        DB_CONNECTIONS.labels("in_use", process).set(pool.checked_out)
        DB_CONNECTIONS.labels("idle", process).set(max(0, pool.open - pool.checked_out))
        slow = self.watch.take_slow()
        if not slow:
            return
        now = utc(self._clock.time_s())
        rows = [slow_query_log(query, process, now) for query in slow]
        try:
            await self.write(lambda unit: unit.slow_queries.append(rows), limit=BATCH)
        except StoreError:
            self.watch.put_back(slow)
            raise

    async def close(self) -> None:
        """Close all connections."""
        if self._left:
            await asyncio.wait(self._left, timeout=_CLOSE_S)
        await self._engine.dispose()

    async def _limited(self, engine: AsyncEngine, work: Work[T], limit: Limit) -> T:
        """Return what the tries return; raises StoreError when the limit is over."""
        self._refuse_while_away()
        tries = _Tries(writes=engine is self._writing)
        task = asyncio.ensure_future(self._tried(engine, work, limit, tries))
        try:
            await asyncio.wait({task}, timeout=limit.answer_s)
            if tries.is_committing:
                await asyncio.wait({task}, timeout=_COMMIT_S)
        except asyncio.CancelledError:
            self._leave(task, tries)
            raise
        if task.done():
            return task.result()
        told = self._late(tries, limit.answer_s)
        self._leave(task, tries)
        self._note_away(told)
        raise tries.told(told)

    def _late(self, tries: _Tries, waited_s: float) -> StoreError:
        """Return what a caller is told who waits no longer, by what the try was at."""
        if tries.connection is None and self.in_use >= self._most:
            return StoreExhausted(
                f"every connection to the store is in use since {waited_s:g} s; try again"
            )
        if tries.connection is not None or self.dialect == "sqlite":  # a file is always there
            return StoreBusy(f"the store is busy: no answer within {waited_s:g} s, try again")
        return StoreUnavailable(f"the store does not answer within {waited_s:g} s")

    def _leave(self, task: asyncio.Task[Any], tries: _Tries) -> None:
        """End a try whose caller is gone: it is undone in its own time, unless it commits."""
        tries.interrupt()
        task.cancel()
        self._left.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # nobody asks for it

    async def _tried(self, engine: AsyncEngine, work: Work[T], limit: Limit, tries: _Tries) -> T:
        began_s = self._clock.monotonic_s()
        pause_s = _FIRST_PAUSE_S
        while True:
            tries.count += 1
            try:
                if not self._is_current:
                    await self._check_version()
                return await self._try(engine, work, tries)
            except Exception as error:
                told = store_error(error)
                if told is None and not is_of_database(error):
                    raise
                told = told or _told(error)
                tries.failed(told)
                left_s = limit.locks_s - (self._clock.monotonic_s() - began_s)
                if not _may_pass(told, tries.count, left_s):
                    self._note_away(told)
                    if isinstance(told, StoreRefused):  # the caller is told in our words
                        said = str(getattr(error, "orig", error))
                        logger.warning("store.refused", extra={"reason": said})
                    raise tries.told(told) from error
                logger.info("store.again", extra={"reason": told.code, "attempt": tries.count})
            await self._clock.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _try(self, engine: AsyncEngine, work: Work[T], tries: _Tries) -> T:
        """Do the work in one transaction and commit it, or undo it."""
        began_s = self._clock.monotonic_s()
        async with engine.connect() as connection:
            self.watch.waited(self._clock.monotonic_s() - began_s)
            tries.connection = connection
            try:
                result = await work(Unit(connection))
                tries.is_committing = True
                await _unbroken(connection)
                return result
            finally:
                tries.connection = None

    async def _check_version(self) -> None:
        found = await current_version(self._engine)
        if found == head_version():
            self._is_current = True
        elif found is None or found < head_version():
            raise _Unmigrated("the store's tables are not there yet; `finstage up` makes them")
        else:
            raise StoreVersion(found, head_version())

    def _refuse_while_away(self) -> None:
        if self._away is not None:
            if self._clock.monotonic_s() < self._away_until_s:
                raise StoreUnavailable(self._away.message)
            self._away = None

    def _note_away(self, error: StoreError) -> None:
        if isinstance(error, StoreUnavailable):
            self._away = error
            self._away_until_s = self._clock.monotonic_s() + _AWAY_S


class _Unmigrated(StoreUnavailable):
    """Raised while the tables are missing: trying again at once does not help."""


class _Tries:
    """What the tries for one caller are at: how many there were, and the connection in use."""

    def __init__(self, writes: bool) -> None:
        self.count = 0
        self.connection: AsyncConnection | None = None
        self.is_committing = False
        self._writes = writes
        self._may_be_done = False

    def failed(self, error: StoreError) -> None:
        """Note how a try ended: a commit that the database did not refuse may have been made."""
        if self.is_committing and not isinstance(error, (StoreBusy, StoreFull, StoreRefused)):
            self._may_be_done = True
        self.is_committing = False

    def told(self, error: StoreError) -> StoreError:
        """Return what the caller is told instead of an error where something may be written."""
        if not self._writes or not (self._may_be_done or self.is_committing):
            return error
        logger.warning("store.unsure", extra={"reason": error.message})
        return StoreUnsure(
            "the store did not say whether it wrote this: look before you try again"
        )

    def interrupt(self) -> None:
        """Let SQLite stop at once, whose thread would go on to the end; others are cut off."""
        if self.connection is None or self.connection.dialect.name != "sqlite":
            return
        with contextlib.suppress(Exception):  # it may end by itself in this moment
            driven: Any = self.connection.sync_connection
            driven.connection.driver_connection._conn.interrupt()


async def _unbroken(connection: AsyncConnection) -> None:
    """Commit to the end, whoever is cancelled meanwhile: half a commit breaks the connection."""
    commit = asyncio.ensure_future(connection.commit())
    try:
        await asyncio.shield(commit)
    except asyncio.CancelledError:
        await asyncio.wait([commit])
        raise


def _may_pass(error: StoreError, tries: int, left_s: float) -> bool:
    """Return whether the same again may succeed while the caller waits."""
    if isinstance(error, StoreBusy):
        return left_s > _LEAST_TRY_S
    return (
        isinstance(error, StoreUnavailable)
        and not isinstance(error, _Unmigrated)
        and tries < _TRIES_AWAY
    )


def _told(error: BaseException) -> StoreError:
    origin = getattr(error, "orig", None) or error
    return store_error(error) or StoreError(f"the store failed: {origin}")


async def _a_row_of_each(unit: Unit) -> None:
    rows = (select(literal(1)).select_from(t).limit(1).scalar_subquery() for t in _TABLES)
    await unit.connection.execute(select(*rows))


def open_store(settings: Settings, clock: Clock | None = None) -> Store:
    """Return the store that the settings name, with this process's share of connections.

    Makes the data directory, where SQLite keeps its file.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    url = store_url(settings.database_url.get_secret_value(), settings.data_dir)
    clock = clock or SystemClock()
    return Store(
        url,
        pool_share(settings),
        clock,
        synchronous=settings.sqlite_synchronous,
        slow_query_s=settings.slow_query_s,
        backups=Backups(settings.data_dir / "backups", clock.time_s()),
    )
