"""The store of one process: units of work, tried again where that is safe."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.clock import Clock, SystemClock, utc
from infra.db.backups import Backups
from infra.db.engine import WRITES, PoolShare, make_engine, pool_share
from infra.db.faults import is_of_database, store_error
from infra.db.slow_queries import slow_query_log
from infra.db.unit import Unit
from infra.db.url import store_url
from infra.db.version import HEAD, current_version, head_version
from infra.db.watch import QueryWatch, StoreReport
from infra.errors import (
    StoreBusy,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreVersion,
)
from infra.metrics import DB_CONNECTIONS
from infra.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Unit], Awaitable[T]]

_TRIES = 5
_TRIES_AWAY = 2  # each may wait as long as a connection may take
_FIRST_PAUSE_S = 0.02
_AWAY_S = 1.0  # a database that did not answer is not asked again for so long


class Store:
    """A database, for one process and one event loop.

    `read` and `write` run their work in one transaction: committed when it returns, undone when
    it raises. Work that met a deadlock, a lock or a broken connection runs again, so it may do
    nothing but use the unit. A commit whose answer was lost may have happened: such work runs
    again too, since all that we write may be written twice, unless `once` says not to.

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
        self._is_current = not tables_needed
        self._backups = backups
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

    async def read(self, work: Work[T]) -> T:
        """Return what `work` returns; raises StoreError."""
        return await self._tried(self._engine, work, once=False)

    async def write(self, work: Work[T], *, once: bool = False) -> T:
        """Return what `work` returns, once all it did is committed; raises StoreError."""
        return await self._tried(self._writing, work, once)

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
        """Return if the database answers and has our tables; raises StoreError."""
        await self.read(_nothing)

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
            await self.write(lambda unit: unit.slow_queries.append(rows))
        except StoreError:
            self.watch.put_back(slow)
            raise

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def _tried(self, engine: AsyncEngine, work: Work[T], once: bool) -> T:
        self._refuse_while_away()
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, _TRIES + 1):
            attempted = _Attempt(engine, self.watch, self._clock)
            try:
                if not self._is_current:
                    await self._check_version()
                return await attempted.run(work)
            except Exception as error:
                told = store_error(error)
                if told is None and not is_of_database(error):
                    raise
                told = told or _told(error)
                unsure = once and attempted.was_committing
                is_gone = isinstance(told, StoreUnavailable) and attempt == _TRIES_AWAY
                if attempt == _TRIES or is_gone or unsure or not _is_passing(told):
                    self._note_away(told)
                    if isinstance(told, StoreRefused):  # the caller is told in our words
                        said = str(getattr(error, "orig", error))
                        logger.warning("store.refused", extra={"reason": said})
                    raise told from error
                logger.info("store.again", extra={"reason": told.code, "attempt": attempt})
            await self._clock.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

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


class _Attempt:
    """One transaction from its connection to its commit."""

    def __init__(self, engine: AsyncEngine, watch: QueryWatch, clock: Clock) -> None:
        self._engine = engine
        self._watch = watch
        self._clock = clock
        self.was_committing = False

    async def run(self, work: Work[T]) -> T:
        """Do the work and commit it, or undo it."""
        began_s = self._clock.monotonic_s()
        async with self._engine.connect() as connection:
            self._watch.waited(self._clock.monotonic_s() - began_s)
            result = await work(Unit(connection))
            self.was_committing = True
            await _unbroken(connection)
            return result


async def _unbroken(connection: AsyncConnection) -> None:
    """Commit to the end, whoever is cancelled meanwhile: half a commit breaks the connection."""
    commit = asyncio.ensure_future(connection.commit())
    try:
        await asyncio.shield(commit)
    except asyncio.CancelledError:
        await asyncio.wait([commit])
        raise


def _is_passing(error: StoreError) -> bool:
    """Return whether the same again may succeed in a moment."""
    if isinstance(error, _Unmigrated):
        return False
    return isinstance(error, (StoreBusy, StoreUnavailable))


def _told(error: BaseException) -> StoreError:
    origin = getattr(error, "orig", None) or error
    return store_error(error) or StoreError(f"the store failed: {origin}")


async def _nothing(unit: Unit) -> None:
    await unit.bars.any()


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
