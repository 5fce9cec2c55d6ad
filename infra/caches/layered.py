"""A named cache as a process uses it: near values, the shared level behind, one run for all."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

from infra.caches.base import CACHE_DEFAULT, Found, Lifetime, SharedLevel, checked_lifetime
from infra.caches.changes import ALWAYS, Changes
from infra.caches.codec import decoded, encoded
from infra.caches.copies import given, guarded
from infra.caches.memory import MemoryCache
from infra.errors import ValueNotShareable
from infra.flights import SingleFlight
from infra.loops import loop_runs

logger = logging.getLogger(__name__)

CLAIM_S = 30.0  # for so long one process makes a value while others wait for it
_REFRESHERS = 2


@dataclass(frozen=True, slots=True)
class Keeping:
    """How what a function gives is kept.

    `none`, `errors`: kept as values too. `shares`: given as it is, uncopied. `is_shared`: other
    processes may have it.
    """

    ttl_s: float | None = CACHE_DEFAULT
    stale_s: float = 0.0
    symbols: tuple[str, ...] = ()
    none: bool = False
    errors: tuple[type[Exception], ...] = ()
    shares: bool = False
    is_shared: bool = True


@dataclass(frozen=True, slots=True)
class _Raised:
    """An error that was asked to be kept."""

    error: Exception

    def again(self) -> Exception:
        """Return the error for one caller: its own object, without another's traceback."""
        try:
            mine = type(self.error)(*self.error.args)
        except Exception:  # a constructor that wants more than its arguments
            return self.error.with_traceback(None)
        mine.__dict__.update(self.error.__dict__)
        return mine


class SyncShared:
    """The shared level for plain code: runs its coroutines on a loop of another thread."""

    def __init__(self, level: SharedLevel, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._level = level
        self._run = run

    def fetch(self, cache: str, key: str) -> Found | None:
        """Return a value or None, as the level's own `fetch`."""
        found: Found | None = self._run(lambda: self._level.fetch(cache, key, CLAIM_S))
        return found

    def give(self, cache: str, key: str, data: bytes, lifetime: Lifetime) -> None:
        """Keep a value."""
        self._run(lambda: self._level.give(cache, key, data, lifetime))

    def release(self, cache: str, key: str) -> None:
        """Let others make it."""
        self._run(lambda: self._level.release(cache, key))

    def delete(self, cache: str, key: str) -> bool:
        """Forget a value; return whether it was there."""
        was_there: bool = self._run(lambda: self._level.delete(cache, key))
        return was_there


class NamedCache:
    """Near entries of one process, and the shared level where the process has one.

    Reads find the near level first. Callers that miss the same key at one time share one run of
    what makes the value; so do processes, through the shared level. Safe for threads and loops.
    """

    def __init__(self, near: MemoryCache, changes: Changes) -> None:
        self.near = near
        self.name = near.name
        self._changes = changes
        self._level: SharedLevel | None = None
        self._plain: SyncShared | None = None
        self._lock = threading.Lock()
        self._runs: dict[str, Future[Any]] = {}
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, SingleFlight] = (
            WeakKeyDictionary()
        )
        self._renewing: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._forgetting: dict[str, asyncio.Task[Any]] = {}

    def attach(self, level: SharedLevel | None, plain: SyncShared | None) -> None:
        """Put a shared level behind the near one, or take it away."""
        self._level, self._plain = level, plain

    # -- plain reads and writes -------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value that this process holds, if it is fresh."""
        found = self.near.get(key, default)
        return default if type(found) is _Raised else given(found)

    def set(self, key: str, value: Any, ttl_s: float | None = CACHE_DEFAULT) -> bool:
        """Keep a value in this process (0 s: not at all, None: for ever)."""
        return self.near.set(key, guarded(value), ttl_s)

    def delete(self, key: str) -> bool:
        """Forget a value of this process."""
        return self.near.delete(key)

    def forget(self, key: str) -> bool:
        """Forget a value of this process and of the shared level; return whether it was there.

        In a loop the shared level is told beside the caller, and the next to ask for the value
        there waits for that.
        """
        was_there = self.near.delete(key)
        if self._level is None:
            return was_there
        if not loop_runs():
            return (self._plain is not None and self._plain.delete(self.name, key)) or was_there
        task = asyncio.ensure_future(self._level.delete(self.name, key))
        self._forgetting[key] = task
        task.add_done_callback(lambda _: self._forgotten(key, task))
        return was_there

    def _forgotten(self, key: str, task: asyncio.Task[Any]) -> None:
        if self._forgetting.get(key) is task:
            del self._forgetting[key]

    def clear(self) -> int:
        """Forget all values and counts of this process."""
        return self.near.clear()

    # -- get or make, for plain code --------------------------------------------------------

    def get_or_set(self, key: str, make: Callable[[], Any], keeping: Keeping = Keeping()) -> Any:
        """Return the value, made by `make` if there is none; its error goes to all who wait.

        Where a loop runs in this thread the shared level is left out: it would hold the loop up.
        """
        found = self.near.find(key)
        if found is None:
            return self._outcome(self._run_once(key, make, keeping), keeping)
        if found.is_stale:
            self._renew(key, make, keeping)
        return self._outcome(found.value, keeping)

    def _run_once(self, key: str, make: Callable[[], Any], keeping: Keeping) -> Any:
        with self._lock:
            run = self._runs.get(key)
            is_mine = run is None
            if run is None:
                run = self._runs[key] = Future()
        if not is_mine:
            return run.result()
        try:
            run.set_result(self._made(key, make, keeping))
        except BaseException as error:  # whatever it is, those who wait must not wait for ever
            run.set_exception(error)
        finally:
            with self._lock:
                del self._runs[key]
        return run.result()

    def _made(self, key: str, make: Callable[[], Any], keeping: Keeping) -> Any:
        plain = self._plain if keeping.is_shared and not loop_runs() else None
        lifetime = self._lifetime(keeping)
        if plain is not None and self._is_true(found := plain.fetch(self.name, key)):
            return self._taken(key, found)
        try:
            value = make()
        except keeping.errors as error:
            self.near.put(key, _Raised(error), lifetime)
            if plain is not None:
                plain.release(self.name, key)
            return _Raised(error)
        except BaseException:  # whatever ends it, others must not wait for its turn to run out
            if plain is not None:
                plain.release(self.name, key)
            raise
        kept, data = self._kept(key, value, keeping, lifetime, plain is not None)
        if plain is not None:
            if data is None:
                plain.release(self.name, key)
            else:
                plain.give(self.name, key, data, lifetime)
        return kept

    def _renew(self, key: str, make: Callable[[], Any], keeping: Keeping) -> None:
        """Make a stale value anew, beside the caller, who has the old one."""
        with self._lock:
            if key in self._renewing:
                return
            self._renewing.add(key)
        context = contextvars.copy_context()

        def renew() -> None:
            try:
                context.run(self._run_once, key, make, keeping)
            except Exception:  # the user's function failed: its caller has the old value already
                logger.warning("cache.not_renewed", exc_info=True, extra={"cache": self.name})
            finally:
                self._renewing.discard(key)

        _refreshers().submit(renew)

    # -- get or make, for coroutines --------------------------------------------------------

    async def get_or_await(
        self, key: str, make: Callable[[], Awaitable[Any]], keeping: Keeping = Keeping()
    ) -> Any:
        """Return the value, made by `make` if there is none; its error goes to all who wait.

        One who waits and is cancelled leaves the others alone; with the last one `make` ends.
        """
        found = self.near.find(key)
        if found is None:
            made = await self._flight().run(key, lambda: self._awaited(key, make, keeping))
            return self._outcome(made, keeping)
        if found.is_stale and key not in self._renewing:
            self._renewing.add(key)
            task = asyncio.ensure_future(self._renewed(key, make, keeping))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._outcome(found.value, keeping)

    async def _renewed(
        self, key: str, make: Callable[[], Awaitable[Any]], keeping: Keeping
    ) -> None:
        try:
            await self._flight().run(key, lambda: self._awaited(key, make, keeping))
        except Exception:  # as in `_renew`
            logger.warning("cache.not_renewed", exc_info=True, extra={"cache": self.name})
        finally:
            self._renewing.discard(key)

    async def _awaited(
        self, key: str, make: Callable[[], Awaitable[Any]], keeping: Keeping
    ) -> Any:
        level = self._level if keeping.is_shared else None
        lifetime = self._lifetime(keeping)
        if level is not None:
            if (forgetting := self._forgetting.get(key)) is not None:
                await asyncio.wait([forgetting])
            found = await level.fetch(self.name, key, CLAIM_S)
            if self._is_true(found):
                return self._taken(key, found)
        try:
            value = await make()
        except keeping.errors as error:
            self.near.put(key, _Raised(error), lifetime)
            if level is not None:
                await level.release(self.name, key)
            return _Raised(error)
        except BaseException:
            if level is not None:
                await level.release(self.name, key)
            raise
        kept, data = self._kept(key, value, keeping, lifetime, level is not None)
        if level is not None:
            if data is None:
                await level.release(self.name, key)
            else:
                await level.give(self.name, key, data, lifetime)
        return kept

    def _flight(self) -> SingleFlight:
        loop = asyncio.get_running_loop()
        flight = self._flights.get(loop)
        if flight is None:
            flight = self._flights[loop] = SingleFlight()
        return flight

    # -- both -------------------------------------------------------------------------------

    def _lifetime(self, keeping: Keeping) -> Lifetime:
        """Return how an entry ages that begins to be made now."""
        ttl_s = self.near.ttl_s if keeping.ttl_s is CACHE_DEFAULT else keeping.ttl_s
        mark = self._changes.mark if keeping.symbols else ALWAYS
        return Lifetime(checked_lifetime(ttl_s), keeping.stale_s, keeping.symbols, mark)

    def _kept(
        self, key: str, value: Any, keeping: Keeping, lifetime: Lifetime, is_shared: bool
    ) -> tuple[Any, bytes | None]:
        """Keep what was made; return it as it is kept, and its bytes for the shared level."""
        if lifetime.ttl_s == 0 or (value is None and not keeping.none):
            return value, None
        try:
            kept = value if keeping.shares else guarded(value)
        except TypeError as error:
            logger.warning("cache.uncopied", extra={"key": key[:80], "reason": str(error)})
            return value, None
        self.near.put(key, kept, lifetime)
        if not is_shared:
            return kept, None
        try:
            return kept, encoded(value)
        except ValueNotShareable as error:
            logger.debug("cache.unshared", extra={"key": key[:80], "reason": error.message})
            return kept, None

    def _is_true(self, found: Found | None) -> TypeGuard[Found]:
        """Return whether something was found, and this process knows of no newer data."""
        if found is None:
            return False
        lifetime = found.lifetime
        return not lifetime.symbols or self._changes.holds(lifetime.symbols, lifetime.mark)

    def _taken(self, key: str, found: Found) -> Any:
        """Keep near what the shared level gave, for as long as it has left there."""
        kept = guarded(decoded(found.value))
        lifetime = found.lifetime
        if lifetime.ttl_s is not None:
            left_s = max(0.0, found.fresh_s)
            lifetime = Lifetime(left_s, lifetime.stale_s, lifetime.symbols, lifetime.mark)
        self.near.put(key, kept, lifetime)
        return kept

    def _outcome(self, kept: Any, keeping: Keeping) -> Any:
        if type(kept) is _Raised:
            raise kept.again()
        return kept if keeping.shares else given(kept)


@cache
def _refreshers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_REFRESHERS, thread_name_prefix="finstage-refresh")
