"""The shared level: a cache for each name within one bound, and who makes what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from infra.caches.base import CacheStats, Found, Lifetime
from infra.caches.catalogue import MOST_CACHES
from infra.caches.changes import Changes
from infra.caches.memory import MemoryCache
from infra.clock import Clock

DEFAULT_TTL_S = 300.0


@dataclass(slots=True)
class _Claim:
    who: str
    until_s: float
    over: asyncio.Future[None]


class SharedCaches:
    """Values (bytes) by cache and key, for all processes. State: soft.

    One caller at a time makes a value that is missing; the others wait for it. Who gets a value
    checks against the hub whether it is still true: it may have heard more than this level.
    """

    def __init__(self, max_bytes: int, max_entries: int, changes: Changes, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._changes = changes
        self._clock = clock
        self._caches: dict[str, MemoryCache] = {}
        self._claims: dict[tuple[str, str], _Claim] = {}

    async def fetch(self, cache: str, key: str, claim_s: float, who: str = "") -> Found | None:
        """Return a value, or None to `who`, which is to make it within `claim_s` seconds."""
        while True:
            values = self._named(cache)
            found = values.find(key) if values is not None else None
            if found is not None and not found.is_stale:
                return found
            claim = self._claims.get((cache, key))
            if claim is None or claim.until_s <= self._clock.monotonic_s():
                self._claim(cache, key, claim_s, who)
                return None
            if found is not None:
                return found  # an old one, while somebody makes the new one
            await self._wait(claim)

    def _claim(self, cache: str, key: str, claim_s: float, who: str) -> None:
        self._end_claim(cache, key)
        over = asyncio.get_running_loop().create_future()
        until_s = self._clock.monotonic_s() + claim_s
        if claim_s > 0:
            self._claims[cache, key] = _Claim(who, until_s, over)

    async def _wait(self, claim: _Claim) -> None:
        left_s = claim.until_s - self._clock.monotonic_s()
        sleep = asyncio.ensure_future(self._clock.sleep(max(0.0, left_s)))
        try:
            await asyncio.wait((sleep, claim.over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()

    def _end_claim(self, cache: str, key: str) -> None:
        claim = self._claims.pop((cache, key), None)
        if claim is not None and not claim.over.done():
            claim.over.set_result(None)

    def give(self, cache: str, key: str, value: bytes, lifetime: Lifetime, who: str = "") -> bool:
        """Keep a value, and let those have it who wait for it; False where it is not kept.

        One that is late gives it all the same: nobody waits for who makes it a second time.
        """
        values = self._named(cache)
        kept = values is not None and values.put(key, value, lifetime)
        if kept:
            self._end_claim(cache, key)
            self._keep_bounds()
        else:
            self.release(cache, key, who)
        return kept

    def release(self, cache: str, key: str, who: str = "") -> None:
        """Let another caller make what `who` could not; one that is late has no claim any more."""
        claim = self._claims.get((cache, key))
        if claim is not None and claim.who == who:
            self._end_claim(cache, key)

    def delete(self, cache: str, key: str) -> bool:
        """Forget a value; return whether it was there."""
        values = self._caches.get(cache)
        return values is not None and values.delete(key)

    def stats(self) -> Iterable[CacheStats]:
        """Return the figures of each cache."""
        return [cache.stats() for cache in self._caches.values()]

    def purge(self) -> dict[str, int]:
        """Drop what is expired or old; return how many, by cache."""
        return {name: cache.purge() for name, cache in self._caches.items()}

    def shrink(self, name: str, max_bytes: int) -> int:
        """Drop the least recently used of a cache until `max_bytes` are left; return bytes."""
        return self._caches[name].shrink(max_bytes)

    def clear(self, name: str | None = None) -> dict[str, int]:
        """Forget the values of one cache, or of all; return how many, by cache."""
        chosen = [c for n, c in self._caches.items() if name in (None, n)]
        return {cache.name: cache.clear() for cache in chosen}

    def _named(self, name: str) -> MemoryCache | None:
        cache = self._caches.get(name)
        if cache is None and len(self._caches) < MOST_CACHES:
            cache = self._caches[name] = MemoryCache(
                name, "shared", self._max_entries, self._max_bytes, DEFAULT_TTL_S, self._changes,
                self._clock.monotonic_s,
            )  # fmt: skip
        return cache

    def _keep_bounds(self) -> None:
        """Keep all caches together within the bounds: the largest gives up its oldest."""
        caches = self._caches.values()
        while sum(c.bytes for c in caches) > self._max_bytes:
            largest = max(caches, key=lambda c: c.bytes)
            largest.shrink(int(largest.bytes * 0.9))
        while sum(len(c) for c in caches) > self._max_entries:
            largest = max(caches, key=len)
            largest.drop_oldest()
