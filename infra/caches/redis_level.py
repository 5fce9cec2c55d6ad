"""The shared level in Redis: msgpack values, never pickle; a Redis that is away costs a miss."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import msgpack

from infra.caches.base import CacheStats, Found, Lifetime, SharedState
from infra.caches.changes import Mark
from infra.errors import ConfigError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PREFIX = "finstage"
_TIMEOUT_S = 1.0
_AWAY_S = 5.0  # after a failure nothing is asked for so long
_POLL_S = 0.05
# Only one's own claim: that of who is late has run out, and another has one by now.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


class RedisLevel:
    """Values under `finstage:CACHE:KEY`; a claim to make one under `finstage:!CACHE:KEY`.

    Bounds are Redis's: set its `maxmemory` and `maxmemory-policy allkeys-lru`. Lifetimes are in
    wall time, so the machines' clocks have to agree. Safe for several loops, of several threads.
    """

    def __init__(self, url: str, now_s: Callable[[], float] = time.monotonic) -> None:
        try:
            import redis.asyncio as driver
        except ImportError:
            raise ConfigError(
                "FINSTAGE_CACHE_BACKEND is Redis, whose driver is not here: "
                "pip install 'finstage[redis]'"
            ) from None
        self._driver = driver
        self._url = url
        self._now_s = now_s
        self._who = uuid.uuid4().hex  # whose claims these are
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._away_until_s = float("-inf")
        self._error = ""
        self._failures = 0
        self._stats: dict[str, CacheStats] = {}

    # -- values -----------------------------------------------------------------------------

    async def fetch(self, cache: str, key: str, claim_s: float) -> Found | None:
        """Return a value, or None to the caller who is to make it within `claim_s` seconds."""
        found = await self._try(lambda client: self._fetched(client, cache, key, claim_s), None)
        stats = self._counts(cache)
        if found is None:
            stats.misses += 1
        elif found.is_stale:
            stats.stale_hits += 1
        else:
            stats.hits += 1
        return found

    async def _fetched(self, client: Any, cache: str, key: str, claim_s: float) -> Found | None:
        deadline_s = self._now_s() + claim_s
        while True:
            found = _unpacked(await client.get(_name(cache, key)))
            if found is not None and not found.is_stale:
                return found
            if claim_s <= 0:
                return None
            until_ms = max(1, int(claim_s * 1_000))
            if await client.set(_claim(cache, key), self._who, nx=True, px=until_ms):
                made = _unpacked(await client.get(_name(cache, key)))
                if made is None or made.is_stale:
                    return None
                await self._unclaimed(client, cache, key)  # its maker ended between the looks
                return made
            if found is not None:
                return found  # an old one, while somebody makes the new one
            if self._now_s() >= deadline_s:
                return None
            await asyncio.sleep(_POLL_S * random.uniform(0.5, 1.5))

    async def give(self, cache: str, key: str, value: bytes, lifetime: Lifetime) -> bool:
        """Keep a value; False where Redis is away."""
        packed, kept_s = _packed(value, lifetime), _kept_s(lifetime)
        if lifetime.ttl_s == 0:
            await self.delete(cache, key)
            await self.release(cache, key)
            return False

        async def give(client: Any) -> bool:
            pipe = client.pipeline(transaction=False)
            until_ms = None if kept_s is None else max(1, int(kept_s * 1_000))
            pipe.set(_name(cache, key), packed, px=until_ms)
            pipe.eval(_RELEASE, 1, _claim(cache, key), self._who)
            await pipe.execute()
            return True

        kept = await self._try(give, False)
        self._counts(cache).sets += kept
        return kept

    async def release(self, cache: str, key: str) -> None:
        """Let another caller make what this one could not."""
        await self._try(lambda client: self._unclaimed(client, cache, key), None)

    async def _unclaimed(self, client: Any, cache: str, key: str) -> None:
        await client.eval(_RELEASE, 1, _claim(cache, key), self._who)

    async def delete(self, cache: str, key: str) -> bool:
        """Forget a value; return whether it was there."""
        gone: int = await self._try(lambda client: client.delete(_name(cache, key)), 0)
        self._counts(cache).deletes += gone
        return bool(gone)

    async def clear(self, cache: str | None) -> int:
        """Forget all values of a cache, or of all; return how many."""

        async def clear(client: Any) -> int:
            pattern = f"{_PREFIX}:{_escaped(cache)}:*" if cache else f"{_PREFIX}:[^!]*"
            count, batch = 0, []
            async for name in client.scan_iter(match=pattern, count=500):
                batch.append(name)
                if len(batch) == 500:
                    count += await client.unlink(*batch)
                    batch.clear()
            return count + (await client.unlink(*batch) if batch else 0)

        return await self._try(clear, 0)

    async def close(self) -> None:
        """Close the connections of this loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    # -- how it does ------------------------------------------------------------------------

    @property
    def state(self) -> SharedState:
        """Return whether Redis answered last, and how often it did not."""
        is_there = self._now_s() >= self._away_until_s
        shown = urlsplit(self._url)
        where = f"redis at {shown.hostname}:{shown.port or 6379}"
        return SharedState(where, is_there, self._error if not is_there else "", self._failures)

    def stats(self) -> Iterable[CacheStats]:
        """Return what this process asked of it."""
        return list(self._stats.values())

    def _counts(self, cache: str) -> CacheStats:
        return self._stats.setdefault(cache, CacheStats(cache, "shared"))

    async def _try(self, ask: Callable[[Any], Awaitable[T]], otherwise: T) -> T:
        if self._now_s() < self._away_until_s:
            return otherwise
        try:
            return await ask(self._client())
        except (self._driver.RedisError, OSError, TimeoutError) as error:
            self._failures += 1
            self._error = str(error) or type(error).__name__
            self._away_until_s = self._now_s() + _AWAY_S
            logger.warning("cache.redis_away", extra={"reason": self._error})
            return otherwise

    def _client(self) -> Any:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._driver.Redis.from_url(
                self._url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
            )
        return client


def _name(cache: str, key: str) -> str:
    return f"{_PREFIX}:{cache}:{key}"


def _claim(cache: str, key: str) -> str:
    return f"{_PREFIX}:!{cache}:{key}"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in text)


def _kept_s(lifetime: Lifetime) -> float | None:
    return None if lifetime.ttl_s is None else lifetime.ttl_s + lifetime.stale_s


def _packed(value: bytes, lifetime: Lifetime) -> bytes:
    fresh_until_s = None if lifetime.ttl_s is None else time.time() + lifetime.ttl_s
    parts = (
        fresh_until_s, lifetime.ttl_s, lifetime.stale_s, lifetime.symbols, lifetime.mark, value
    )  # fmt: skip
    data: bytes = msgpack.packb(parts)
    return data


def _unpacked(data: bytes | None) -> Found | None:
    """Return an entry; None for one that is not there, or that something else wrote."""
    if data is None:
        return None
    try:
        fresh_until_s, ttl_s, stale_s, symbols, mark, value = msgpack.unpackb(data)
        lifetime = Lifetime(ttl_s, stale_s, tuple(symbols), Mark(*mark))
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    fresh_s = float("inf") if fresh_until_s is None else fresh_until_s - time.time()
    return Found(value, fresh_s, lifetime)
