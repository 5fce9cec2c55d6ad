"""The hit rate of caches: what a read, a hit and a miss are, for all who show or judge it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from infra.caches.base import CacheStats

LEAST_READS = 50  # fewer say nothing: whatever is read first is missed


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of one cache or many. What is missed near and found in the shared level is one hit.

    A value that is given though it is stale is a hit.
    """

    hits: float = 0.0
    misses: float = 0.0

    def __add__(self, other: Reads) -> Reads:
        return Reads(self.hits + other.hits, self.misses + other.misses)

    def since(self, before: Reads) -> Reads:
        """Return what was added; all of it where counting began anew."""
        if self.hits < before.hits or self.misses < before.misses:
            return self
        return Reads(self.hits - before.hits, self.misses - before.misses)

    @property
    def count(self) -> float:
        """How many there were."""
        return self.hits + self.misses

    @property
    def rate_pct(self) -> float | None:
        """Return the hit rate to be shown, None before a read."""
        return 100 * self.hits / self.count if self.count > 0 else None

    @property
    def judged_pct(self) -> float | None:
        """Return the hit rate that may be called low, None of too few reads."""
        return self.rate_pct if self.count >= LEAST_READS else None


def reads_by_cache(counts: Iterable[tuple[Mapping[str, str], float]]) -> dict[str, Reads]:
    """Return the reads of each cache by counts with the labels cache, level and result."""
    near: dict[str, Reads] = defaultdict(Reads)
    behind: dict[str, float] = defaultdict(float)
    for labels, count in counts:
        cache, is_hit = labels["cache"], labels["result"] != "miss"
        if labels["level"] != "shared":
            near[cache] += Reads(count, 0.0) if is_hit else Reads(0.0, count)
        elif is_hit:
            behind[cache] += count
    return {
        cache: Reads(
            near[cache].hits + behind[cache], max(0.0, near[cache].misses - behind[cache])
        )
        for cache in sorted({*near, *behind})
    }


def read_counts(stats: Iterable[CacheStats]) -> Iterator[tuple[dict[str, str], float]]:
    """Return the counts of caches, with the labels of `finstage_cache_reads`."""
    for s in stats:
        for result, count in (("hit", s.hits), ("stale", s.stale_hits), ("miss", s.misses)):
            yield {"cache": s.name, "level": s.level, "result": result}, count


def all_reads(counts: Iterable[tuple[Mapping[str, str], float]]) -> Reads:
    """Return the reads of all caches together."""
    return sum(reads_by_cache(counts).values(), Reads())
