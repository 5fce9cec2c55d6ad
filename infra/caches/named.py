"""All caches of this process, by name, and what else holds memory that can be had again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from infra.caches.base import CacheStats, SharedLevel, Sheddable, checked_name
from infra.caches.catalogue import MOST_CACHES, SPECS, CacheSpec
from infra.caches.changes import Changes
from infra.caches.layered import NamedCache, SyncShared
from infra.caches.memory import MemoryCache
from infra.directives import Directives
from infra.errors import CacheUnknown

_LEAST_ENTRIES = 100  # that tuning leaves a cache, where it had so many
_LONGEST_S = 3_600.0  # that tuning makes a lifetime


class NamedCaches:
    """One of these in each process; a name that is not there yet becomes a cache when used."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.changes = Changes(now_s=now_s)
        self._now_s = now_s
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._specs = {spec.name: spec for spec in SPECS}
        self._share, self._ttl_factor = 1.0, 1.0
        self._caches: dict[str, NamedCache] = {}
        self._others: list[Sheddable] = []
        self._level: SharedLevel | None = None
        self._plain: SyncShared | None = None
        self._on_first_use: Callable[[], None] | None = None

    # -- set up -----------------------------------------------------------------------------

    def configure(self, specs: Iterable[CacheSpec]) -> None:
        """Change the bounds of caches, of those in use too."""
        with self._lock:
            for spec in specs:
                self._specs[spec.name] = spec
            self._resize()

    def follow(self, directives: Directives) -> None:
        """Take the factors on sizes and lifetimes."""
        with self._lock:
            self._share, self._ttl_factor = directives.cache_share, directives.ttl_factor
            self._resize()

    def _resize(self) -> None:
        for name, cache in self._caches.items():
            spec = self._tuned(name)
            cache.near.ttl_s = spec.ttl_s
            cache.near.resize(spec.max_entries, spec.max_bytes)

    def _tuned(self, name: str) -> CacheSpec:
        """Return a cache's bounds with the factors; no lifetime grows past an hour by them."""
        spec = self._specs.get(name) or CacheSpec(name)
        ttl_s = spec.ttl_s
        if ttl_s:
            ttl_s = min(ttl_s * self._ttl_factor, max(ttl_s, _LONGEST_S))
        entries = int(spec.max_entries * self._share)
        if self._share < 1.0:
            entries = min(spec.max_entries, max(_LEAST_ENTRIES, entries))
        size = int(spec.max_bytes * self._share)
        return replace(spec, max_entries=entries, max_bytes=size, ttl_s=ttl_s)

    def attach(self, level: SharedLevel | None, plain: SyncShared | None = None) -> None:
        """Put a shared level behind every cache, or take it away."""
        with self._lock:
            self._level, self._plain = level, plain
            for cache in self._caches.values():
                cache.attach(level, plain)

    def on_first_use(self, start: Callable[[], None] | None) -> None:
        """Call `start` before the first cache is made; at once if there is one."""
        with self._lock:
            is_used = bool(self._caches)
            self._on_first_use = None if is_used else start
        if is_used and start is not None:
            start()

    def add(self, other: Sheddable) -> None:
        """Let something else that holds memory be counted, purged, shrunk and cleared here."""
        self._others.append(other)

    # -- use --------------------------------------------------------------------------------

    @property
    def level(self) -> SharedLevel | None:
        """Return the shared level."""
        return self._level

    def names(self) -> tuple[str, ...]:
        """Return the names that stand in the catalogue or are used, sorted."""
        others = {stats.name for other in self._others for stats in other.stats()}
        return tuple(sorted({*self._specs, *self._caches} | others))

    def named(self, name: str) -> NamedCache:
        """Return the cache of a name; raises ValueError for a name that cannot be one."""
        cache = self._caches.get(name)
        return cache if cache is not None else self._made(checked_name(name))

    def _made(self, name: str) -> NamedCache:
        with self._starting:  # others wait: what they make before would be shared with nobody
            start, self._on_first_use = self._on_first_use, None
            if start is not None:
                start()
        with self._lock:
            if name in self._caches:
                return self._caches[name]
            if len({*self._specs, *self._caches, name}) > MOST_CACHES:
                raise ValueError(f"there are {MOST_CACHES} caches already; {name!r} is one more")
            spec = self._tuned(name)
            near = MemoryCache(
                name, "near", spec.max_entries, spec.max_bytes, spec.ttl_s, self.changes,
                self._now_s,
            )  # fmt: skip
            cache = self._caches[name] = NamedCache(near, self.changes)
            cache.attach(self._level, self._plain)
        return cache

    # -- all of them ------------------------------------------------------------------------

    def stats(self) -> list[CacheStats]:
        """Return the figures of every cache of this process, by level."""
        found = [cache.near.stats() for cache in list(self._caches.values())]
        if self._level is not None:
            found += self._level.stats()
        for other in self._others:
            found += other.stats()
        return found

    def purge(self) -> dict[str, int]:
        """Drop what may not be given any more; return how many entries, by cache."""
        return _summed(
            *({c.name: c.near.purge()} for c in list(self._caches.values())),
            *(other.purge() for other in self._others),
        )

    def clear(self, name: str | None = None) -> dict[str, int]:
        """Drop the entries of one cache, or of all; raises CacheUnknown."""
        if name is not None and name not in self.names():
            raise CacheUnknown(name, self.names())
        return _summed(
            *({c.name: c.clear()} for c in list(self._caches.values()) if name in (None, c.name)),
            *(other.clear(name) for other in self._others),
        )

    def shrink(self, keep_share: float) -> int:
        """Drop what is least worth its memory until `keep_share` of the bytes are left.

        The cache with the fewest hits for its bytes goes first. Returns the bytes that went.
        """
        figures = sorted(
            ((s, shrink) for s, shrink in self._shrinkable() if s.bytes), key=_hits_for_bytes
        )
        too_much = (1 - keep_share) * sum(s.bytes for s, _ in figures)
        gone = 0
        for stats, shrink in figures:
            if gone >= too_much:
                break
            gone += shrink(max(0, int(stats.bytes - (too_much - gone))))
        return gone

    def _shrinkable(self) -> Sequence[tuple[CacheStats, Callable[[int], int]]]:
        found: list[tuple[CacheStats, Callable[[int], int]]] = [
            (cache.near.stats(), cache.near.shrink) for cache in list(self._caches.values())
        ]
        for other in self._others:
            for stats in other.stats():
                found.append((stats, _shrinker(other, stats.name)))
        return found


def _shrinker(other: Sheddable, name: str) -> Callable[[int], int]:
    return lambda max_bytes: other.shrink(name, max_bytes)


def _hits_for_bytes(pair: tuple[CacheStats, object]) -> float:
    stats = pair[0]
    return (stats.hits + stats.stale_hits) / stats.bytes


def _summed(*parts: dict[str, int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


caches = NamedCaches()  # those of this process
