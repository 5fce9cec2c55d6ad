"""What upstream answered last, bounded in bytes: fresh, or stale in place of a failure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from infra.caches.base import CacheStats, Lifetime
from infra.caches.catalogue import API_RESPONSE, NEWS, PRICE_DATA
from infra.caches.memory import MemoryCache

_MIB = 1_048_576
_BOUNDS_BYTES = {PRICE_DATA: 256 * _MIB, NEWS: 16 * _MIB, API_RESPONSE: 16 * _MIB}
_MOST_ENTRIES = 20_000
_CACHE_OF = {"history": PRICE_DATA, "news": NEWS}


@dataclass(frozen=True, slots=True)
class Answer:
    """A value of upstream and when it came, Unix seconds."""

    value: Any
    received_s: float


class KeptAnswers:
    """Answers by key, whose first part says the kind; counted as level `source` of their caches.

    Histories, the largest, are in `price_data`, headlines in `news`, all else in
    `api_response`. What memory takes back is asked for again; only its stale use is lost.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._caches = {
            name: MemoryCache(name, "source", _MOST_ENTRIES, max_bytes, None, now_s=now_s)
            for name, max_bytes in _BOUNDS_BYTES.items()
        }

    def fresh(self, key: tuple[Hashable, ...]) -> Answer | None:
        """Return the answer while it is fresh."""
        answer: Answer | None = self._of(key).get(key)
        return answer

    def last(self, key: tuple[Hashable, ...]) -> Answer | None:
        """Return the answer, fresh or not, while it may still be given."""
        found = self._of(key).find(key)
        return None if found is None else found.value

    def keep(
        self, key: tuple[Hashable, ...], answer: Answer, ttl_s: float, stale_s: float
    ) -> None:
        """Keep an answer: fresh for `ttl_s`, given until `stale_s` after it came."""
        self._of(key).put(key, answer, Lifetime(ttl_s, max(0.0, stale_s - ttl_s)))

    def _of(self, key: tuple[Hashable, ...]) -> MemoryCache:
        return self._caches[_CACHE_OF.get(str(key[0]), API_RESPONSE)]

    # -- memory that can be had again --------------------------------------------------------

    def stats(self) -> Iterable[CacheStats]:
        """Return the figures of each cache."""
        return [cache.stats() for cache in self._caches.values()]

    def purge(self) -> dict[str, int]:
        """Drop what may not be given any more; return how many entries, by cache."""
        return {name: cache.purge() for name, cache in self._caches.items()}

    def shrink(self, name: str, max_bytes: int) -> int:
        """Drop the least recently used of a cache until `max_bytes` are left; return bytes."""
        return self._caches[name].shrink(max_bytes) if name in self._caches else 0

    def clear(self, name: str | None = None) -> dict[str, int]:
        """Drop all entries, of one cache or of all; return how many, by cache."""
        return {n: cache.clear() for n, cache in self._caches.items() if name in (None, n)}
