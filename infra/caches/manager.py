"""Caches by hand: `get_or_set` on a backend of one's choice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from infra.caches.base import (
    CACHE_DEFAULT,
    CacheStats,
    checked_lifetime,
    checked_name,
    checked_size,
)
from infra.caches.catalogue import MIB, CacheSpec
from infra.caches.keys import shortened, text_of
from infra.caches.layered import Keeping, NamedCache
from infra.caches.memory import MemoryCache
from infra.caches.named import caches

_ENTRIES, _TTL_S = 1_000, 3_600.0


class CacheManager:
    """Values by key, made when they are not there.

    `backend`: "memory" keeps them in this process; "shared" is a named cache of the service, with
    its shared level where this process has one. Entries live an hour unless a call says otherwise.
    """

    def __init__(
        self,
        backend: Literal["memory", "shared"] = "memory",
        *,
        name: str = "managed",
        max_entries: int = _ENTRIES,
        max_bytes: int = 32 * MIB,
        ttl: float | None = _TTL_S,
    ) -> None:
        if backend not in ("memory", "shared"):
            raise ValueError(f"backend must be 'memory' or 'shared', got {backend!r}")
        checked_name(name)
        checked_size(max_entries, "max_entries")
        self.backend = backend
        if backend == "memory":
            near = MemoryCache(name, "near", max_entries, max_bytes, checked_lifetime(ttl))
            self._cache = NamedCache(near, caches.changes)
        else:
            caches.configure([CacheSpec(name, max_entries, checked_lifetime(ttl), max_bytes)])
            self._cache = caches.named(name)

    def get_or_set(
        self, key: Any, value_func: Callable[[], Any], ttl: float | None = CACHE_DEFAULT
    ) -> Any:
        """Return the value of a key, made by `value_func` if there is none.

        Of a coroutine function it returns an awaitable. `ttl` in seconds: 0 is not kept, None
        never expires. Raises TypeError for a key that has no value of its own, ValueError for a
        negative lifetime, and what `value_func` raises, which is not kept.
        """
        chosen = ttl if ttl is CACHE_DEFAULT else checked_lifetime(ttl)
        whole, keeping = shortened(text_of(key)), Keeping(chosen)
        if inspect.iscoroutinefunction(value_func):
            return self._cache.get_or_await(whole, value_func, keeping)
        return self._cache.get_or_set(whole, value_func, keeping)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value that this process holds of a key, if it is fresh."""
        return self._cache.get(shortened(text_of(key)), default)

    def set(self, key: Any, value: Any, ttl: float | None = CACHE_DEFAULT) -> bool:
        """Keep a value in this process."""
        return self._cache.set(shortened(text_of(key)), value, ttl)

    def delete(self, key: Any) -> bool:
        """Forget a value in this process; return whether it was there."""
        return self._cache.delete(shortened(text_of(key)))

    def clear(self) -> int:
        """Forget all values in this process; return how many."""
        return self._cache.clear()

    def cleanup_expired(self) -> int:
        """Drop what is over its time; return how many."""
        return self._cache.near.purge()

    def get_stats(self) -> CacheStats:
        """Return entries, bytes, hits and misses."""
        return self._cache.near.stats()

    def top_accessed(self, count: int = 10) -> list[tuple[Any, int]]:
        """Return the keys that were read most, with how often."""
        return self._cache.near.top(count)


default_cache_manager = CacheManager()
