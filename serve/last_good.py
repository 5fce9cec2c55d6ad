"""What the store last said, for while it does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from cachetools import LRUCache

from infra.clock import Clock
from infra.errors import StoreError

T = TypeVar("T")

_KEPT = 5_000


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A value, and since when it may be old (Unix seconds); None while the store answers."""

    value: T
    stale_since_s: float | None = None


class LastGood:
    """Keeps the last answer to each question. State: soft, of this replica."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: LRUCache[Hashable, tuple[float, Any]] = LRUCache(_KEPT)

    async def ask(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> Kept[T]:
        """Return the answer of now, else the last one; raises StoreError if there was none."""
        try:
            value = await ask()
        except StoreError:
            if key not in self._kept:
                raise
            told_s, kept = self._kept[key]
            return Kept(cast(T, kept), told_s)
        self._kept[key] = self._clock.time_s(), value
        return Kept(value)
