"""A cache bounded in entries and bytes: least recently used goes first, old values expire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from cachetools import TLRUCache

_ENTRY_BYTES = 370  # beside its value: 367 by tracemalloc, key and links


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    ttl_s: float | None


@dataclass(slots=True)
class CacheStats:
    """What happened since the start of the process, and what is held."""

    entries: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the figures by name."""
        return asdict(self)


class CacheCore:
    """Values (bytes) by key. `ttl_s=0` never stores, `ttl_s=None` never expires."""

    def __init__(self, max_bytes: int, max_entries: int, now_s: Callable[[], float]) -> None:
        self._max_entries = max_entries
        self._stats = CacheStats()
        self._values: TLRUCache[str, _Entry] = TLRUCache(
            max(1, max_bytes), ttu=_expires, timer=now_s, getsizeof=_size
        )

    def get(self, key: str) -> bytes | None:
        """Return the value, or None if it is not there or too old."""
        entry = self._values.get(key)
        if entry is None:
            self._stats.misses += 1
            return None
        self._stats.hits += 1
        return entry.value

    def set(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        """Keep a value; False where it is larger than the cache, or `ttl_s` is 0."""
        if ttl_s is not None and ttl_s < 0:
            raise ValueError(f"ttl_s must not be negative, got {ttl_s}")
        entry = _Entry(value, ttl_s)
        if ttl_s == 0 or self._max_entries == 0 or _size(entry) > self._values.maxsize:
            return False
        before = len(self._values) + (key not in self._values)
        self._values[key] = entry
        while len(self._values) > self._max_entries:
            self._values.popitem()
        self._stats.evictions += before - len(self._values)
        return True

    def delete(self, key: str) -> bool:
        """Forget a value; say whether it was there."""
        return self._values.pop(key, None) is not None

    def clear(self) -> int:
        """Forget all; return how many there were."""
        count = len(self._values)
        self._values.clear()
        return count

    def stats(self) -> dict[str, Any]:
        """Return counts since the start and what is held now."""
        self._values.expire()
        self._stats.entries = len(self._values)
        self._stats.bytes = int(self._values.currsize)
        return self._stats.as_dict()


def _expires(_key: str, entry: _Entry, now_s: float) -> float:
    return float("inf") if entry.ttl_s is None else now_s + entry.ttl_s


def _size(entry: _Entry) -> int:
    return len(entry.value) + _ENTRY_BYTES
