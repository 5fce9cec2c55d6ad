"""What all caches have in common: lifetimes, figures, and what they are asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from infra.caches.changes import ALWAYS, Mark


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


CACHE_DEFAULT: Final[Any] = _Sentinel("CACHE_DEFAULT")  # the lifetime of the cache

# edge: rendered answers of a replica; near: values of a process; shared: of all processes;
# source: upstream's answers in the feed; history: what can be had again in another way.
Level = Literal["edge", "near", "shared", "source", "history"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def checked_lifetime(ttl_s: float | None, what: str = "ttl") -> float | None:
    """Return a lifetime in seconds: 0 never stores, None never expires; raises ValueError."""
    if ttl_s is None:
        return None
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not ttl_s >= 0:
        raise ValueError(
            f"{what} must be 0 (never store), positive seconds, or None (never expires), "
            f"got {ttl_s!r}"
        )
    return float(ttl_s)


def checked_size(size: int, what: str) -> int:
    """Return a bound of a cache; raises ValueError for a negative one."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(f"{what} must be 0 (keep nothing) or a positive number, got {size!r}")
    return size


def checked_name(name: str) -> str:
    """Return the name of a cache; raises ValueError for what cannot be a label."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"a cache's name has 1 to 64 letters, digits, '.', '_' or '-', got {name!r}"
        )
    return name


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How an entry ages: fresh for `ttl_s`, then given for `stale_s` more while it is made anew.

    Of the data of `symbols` as they were at `mark`; none where only time ends it.
    """

    ttl_s: float | None
    stale_s: float = 0.0
    symbols: tuple[str, ...] = ()
    mark: Mark = ALWAYS


@dataclass(frozen=True, slots=True)
class Found:
    """An entry as it is now; `fresh_s` seconds are left, negative where it is stale."""

    value: Any
    fresh_s: float
    lifetime: Lifetime

    @property
    def is_stale(self) -> bool:
        """Return whether it should be made anew."""
        return self.fresh_s <= 0


@dataclass(slots=True)
class CacheStats:
    """What one cache holds, and what happened to it since it began (or was cleared)."""

    name: str
    level: Level
    entries: int = 0
    max_entries: int = 0
    bytes: int = 0
    max_bytes: int = 0
    hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    sets: int = 0
    refused: int = 0
    deletes: int = 0
    evictions: int = 0
    expirations: int = 0
    invalidations: int = 0


class Sheddable(Protocol):
    """Something that holds memory which can be had again."""

    def stats(self) -> Iterable[CacheStats]:
        """Return its figures, one for each cache in it."""

    def purge(self) -> dict[str, int]:
        """Drop what may not be given any more; return how many entries, by cache."""

    def shrink(self, name: str, max_bytes: int) -> int:
        """Drop the least useful entries of a cache until `max_bytes` are left; return bytes."""

    def clear(self, name: str | None = None) -> dict[str, int]:
        """Drop all entries, of one cache or of all; return how many, by cache."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """How the shared level does: what it is, whether it answers, how often it did not."""

    backend: str
    is_there: bool = True
    error: str = ""
    failures: int = 0


class SharedLevel(Protocol):
    """The level that processes share. Values are bytes that `infra.caches.codec` made.

    Nothing here raises for a backend that is away: it finds nothing and keeps nothing.
    """

    async def fetch(self, cache: str, key: str, claim_s: float) -> Found | None:
        """Return a value, or None: then the caller makes it, and gives or releases it.

        Where another caller makes it meanwhile, waits for that up to `claim_s` seconds.
        """

    async def give(self, cache: str, key: str, value: bytes, lifetime: Lifetime) -> bool:
        """Keep a value; False where it cannot be."""

    async def release(self, cache: str, key: str) -> None:
        """Let others make what this caller could not."""

    async def delete(self, cache: str, key: str) -> bool:
        """Forget a value; return whether it was there."""

    async def clear(self, cache: str | None) -> int:
        """Forget all values of a cache, or of all caches; return how many."""

    @property
    def state(self) -> SharedState:
        """Return how the backend does."""

    def stats(self) -> Iterable[CacheStats]:
        """Return figures that this process counts; none where the backend counts itself."""
