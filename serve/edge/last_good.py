"""What the store last said, for while it does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from infra.caches.base import CacheStats
from infra.caches.memory import MemoryCache
from infra.clock import Clock
from infra.errors import StoreError

T = TypeVar("T")

_NAME, _MOST, _MOST_BYTES = "last_good", 5_000, 32 * 2**20


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A value, and since when it may be old (Unix seconds); None while the store answers."""

    value: T
    stale_since_s: float | None = None


class LastGood:
    """Keeps the last answer to each question, 32 MiB of them. State: soft, of this replica."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept = MemoryCache(
            _NAME, "source", _MOST, _MOST_BYTES, None, now_s=clock.monotonic_s
        )

    async def ask(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> Kept[T]:
        """Return the answer of now, else the last one; raises StoreError if there was none."""
        try:
            value = await ask()
        except StoreError:
            found: tuple[float, Any] | None = self._kept.get(key)
            if found is None:
                raise
            told_s, kept = found
            return Kept(cast(T, kept), told_s)
        self._kept.set(key, (self._clock.time_s(), value))
        return Kept(value)

    # -- memory that can be had again --------------------------------------------------------

    def stats(self) -> Iterable[CacheStats]:
        """Return its figures."""
        return [self._kept.stats()]

    def purge(self) -> dict[str, int]:
        """Drop nothing: an answer is good until there is a newer one."""
        return {}

    def shrink(self, name: str, max_bytes: int) -> int:
        """Drop the least recently used until `max_bytes` are left; return bytes."""
        return self._kept.shrink(max_bytes) if name == _NAME else 0

    def clear(self, name: str | None = None) -> dict[str, int]:
        """Drop all answers; return how many."""
        return {_NAME: self._kept.clear()} if name in (None, _NAME) else {}
