"""A cache in the memory of one process: entries and bytes bounded, least recently used first."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

from cachetools import Cache, TLRUCache

from infra.caches.base import (
    CACHE_DEFAULT,
    CacheStats,
    Found,
    Level,
    Lifetime,
    checked_lifetime,
    checked_size,
)
from infra.caches.changes import Changes
from infra.caches.sizes import size_bytes

_ENTRY_BYTES = 520  # beside key and value: 505 to 517 by tracemalloc, links, heap and entry


class _Entry:
    __slots__ = ("created_s", "expires_s", "fresh_until_s", "hits", "lifetime", "size", "value")

    def __init__(self, value: Any, lifetime: Lifetime, size: int, now_s: float) -> None:
        self.value = value
        self.lifetime = lifetime
        self.size = size
        self.hits = 0
        self.created_s = now_s
        ttl_s = lifetime.ttl_s
        self.fresh_until_s = float("inf") if ttl_s is None else now_s + ttl_s
        self.expires_s = self.fresh_until_s + lifetime.stale_s


class MemoryCache:
    """LRU with lifetimes. Safe for threads; values are given as they are, not copied.

    An entry over a quarter of `max_bytes` is not kept: it would cost all the others.
    """

    def __init__(
        self,
        name: str,
        level: Level,
        max_entries: int,
        max_bytes: int,
        ttl_s: float | None,
        changes: Changes | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.ttl_s = checked_lifetime(ttl_s)
        self.max_entries = checked_size(max_entries, "max_entries")
        self.max_bytes = checked_size(max_bytes, "max_bytes")
        self._changes = changes or Changes()
        self._now_s = now_s
        self._lock = threading.RLock()
        self._stats = CacheStats(name, level)
        # Both bounds are kept here, where they can change; cachetools' own is for life.
        self._values: TLRUCache[Hashable, _Entry] = TLRUCache(
            sys.maxsize, ttu=_expires, timer=now_s, getsizeof=_size
        )

    def __len__(self) -> int:
        return len(self._values)

    @property
    def bytes(self) -> int:
        """Return what is held, keys and links included."""
        return int(self._values.currsize)

    # -- reading ----------------------------------------------------------------------------

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value if it is fresh, else `default`."""
        with self._lock:
            try:
                entry = self._values[key]
            except KeyError:
                self._stats.misses += 1
                return default
            if entry.lifetime.symbols and not self._is_true(key, entry):
                self._stats.misses += 1
                return default
            if entry.lifetime.stale_s and entry.fresh_until_s <= self._now_s():
                self._stats.misses += 1
                return default
            self._stats.hits += 1
            entry.hits += 1
            return entry.value

    def find(self, key: Hashable) -> Found | None:
        """Return the entry, stale or not, or None."""
        with self._lock:
            try:
                entry = self._values[key]
            except KeyError:
                self._stats.misses += 1
                return None
            if entry.lifetime.symbols and not self._is_true(key, entry):
                self._stats.misses += 1
                return None
            entry.hits += 1
            found = Found(entry.value, entry.fresh_until_s - self._now_s(), entry.lifetime)
            if found.is_stale:
                self._stats.stale_hits += 1
            else:
                self._stats.hits += 1
            return found

    def _is_true(self, key: Hashable, entry: _Entry) -> bool:
        """Return whether the data it was made of is still the newest; drop it if not."""
        if self._changes.holds(entry.lifetime.symbols, entry.lifetime.mark):
            return True
        if self._changes.is_sure:
            self._values.pop(key, None)
            self._stats.invalidations += 1
        return False

    # -- writing ----------------------------------------------------------------------------

    def set(self, key: Hashable, value: Any, ttl_s: float | None = CACHE_DEFAULT) -> bool:
        """Keep a value for `ttl_s` seconds (0: not at all, None: for ever, else the cache's).

        False where it is not kept; a value that was there under the key is gone in any case.
        """
        chosen = self.ttl_s if ttl_s is CACHE_DEFAULT else checked_lifetime(ttl_s)
        return self.put(key, value, Lifetime(chosen))

    def put(self, key: Hashable, value: Any, lifetime: Lifetime) -> bool:
        """Keep a value; False where it is not kept, because it is too large or already old."""
        if lifetime.ttl_s == 0:
            with self._lock:
                self._values.pop(key, None)
            return False
        size = size_bytes(value) + size_bytes(key) + _ENTRY_BYTES
        with self._lock:
            self._values.pop(key, None)
            symbols = lifetime.symbols
            is_old = bool(symbols) and not self._changes.holds(symbols, lifetime.mark)
            if is_old or size > self.max_bytes // 4 or self.max_entries == 0:
                self._stats.refused += 1
                return False
            now_s = self._now_s()
            self._stats.expirations += len(self._values.expire(now_s))
            self._values[key] = _Entry(value, lifetime, size, now_s)
            self._stats.sets += 1
            self._trim(self.max_entries, self.max_bytes)
            return True

    def delete(self, key: Hashable) -> bool:
        """Forget a value; return whether it was there."""
        with self._lock:
            was_there = self._values.pop(key, None) is not None
            self._stats.deletes += was_there
            return was_there

    # -- less of it -------------------------------------------------------------------------

    def clear(self) -> int:
        """Forget all values and counts; return how many values there were."""
        with self._lock:
            count = len(self._values)
            self._values.clear()
            self._stats = CacheStats(self.name, self._stats.level)
            return count

    def purge(self) -> int:
        """Drop what is expired, or made of data that is no longer the newest; return how many."""
        with self._lock:
            gone = len(self._values.expire())
            self._stats.expirations += gone
            if self._changes.follows and self._changes.is_sure:
                old = [k for k, e in self._entries() if not self._is_new(e)]
                for key in old:
                    self._values.pop(key, None)
                self._stats.invalidations += len(old)
                gone += len(old)
            return gone

    def shrink(self, max_bytes: int) -> int:
        """Drop the least recently used until `max_bytes` are left; return how many bytes."""
        with self._lock:
            before = self.bytes
            self.purge()
            self._trim(self.max_entries, max_bytes)
            return before - self.bytes

    def drop_oldest(self) -> None:
        """Drop the least recently used entry, if there is one."""
        with self._lock:
            self._trim(len(self._values) - 1, sys.maxsize)

    def _trim(self, max_entries: int, max_bytes: int) -> None:
        values = self._values
        while values and (len(values) > max_entries or values.currsize > max_bytes):
            values.popitem()
            self._stats.evictions += 1

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Change the bounds; what is over them goes."""
        with self._lock:
            self.max_entries = checked_size(max_entries, "max_entries")
            self.max_bytes = checked_size(max_bytes, "max_bytes")
            self._values.expire()
            self._trim(max_entries, max_bytes)

    # -- figures ----------------------------------------------------------------------------

    def stats(self) -> CacheStats:
        """Return what is held and what happened, without what is expired."""
        with self._lock:
            self._stats.expirations += len(self._values.expire())
            return replace(
                self._stats,
                entries=len(self._values),
                bytes=self.bytes,
                max_entries=self.max_entries,
                max_bytes=self.max_bytes,
            )

    def top(self, count: int = 10) -> list[tuple[Hashable, int]]:
        """Return the keys that were read most, with how often."""
        with self._lock:
            found = sorted(self._entries(), key=lambda pair: -pair[1].hits)[:count]
            return [(key, entry.hits) for key, entry in found]

    def _entries(self) -> list[tuple[Hashable, _Entry]]:
        # The base's reading: the cache's own would make each the most recently used.
        return [(key, Cache.__getitem__(self._values, key)) for key in list(self._values)]

    def _is_new(self, entry: _Entry) -> bool:
        symbols = entry.lifetime.symbols
        return not symbols or self._changes.holds(symbols, entry.lifetime.mark)


def _expires(_key: Hashable, entry: _Entry, _now_s: float) -> float:
    return entry.expires_s


def _size(entry: _Entry) -> int:
    return entry.size
